"""Folders to shards: everything arrives, what is broken is named, a stopped run goes on, bytes repeat."""

import json
import pickle
import shutil

import made_trees as trees
import numpy as np
import pytest

from dmt.cli.app import run
from dmt.data import PrepareConfig, SplitConfig, open_clips, prepare, read_clip
from dmt.data.layouts import find_sources
from dmt.data.tracks import stored
from dmt.errors import InputError

SPLIT = SplitConfig(validation=0.3, test=0.0, disjoint="identity")


@pytest.fixture(scope="module")
def mead(tmp_path_factory):
    return trees.mead(tmp_path_factory.mktemp("data") / "mead")


def test_clips_come_back_as_they_were_read(mead, tmp_path):
    report = prepare([mead], tmp_path / "out", PrepareConfig(SPLIT, shard_clips=3), workers=1)
    assert (report.kept, report.failures, report.made) == (8, (), 4)
    wanted = {s.name: read_clip(s, stored) for s in find_sources(mead)}
    back = [clip for split in ("train", "validation") for clip in open_clips(tmp_path / "out", split)]
    assert sorted(c.name for c in back) == sorted(wanted)
    for clip in back:
        original = wanted[clip.name]
        np.testing.assert_array_equal(clip.coefficients, original.coefficients)
        np.testing.assert_array_equal(clip.pose, original.pose)
        np.testing.assert_allclose(clip.wave, original.wave, atol=2e-5)
        assert (clip.identity, clip.sentence, clip.emotion) == (original.identity, original.sentence, original.emotion)
        clip.check()
    assert {c.identity for c in open_clips(tmp_path / "out")}.isdisjoint(
        c.identity for c in open_clips(tmp_path / "out", "validation")
    )


def test_windows_read_what_cutting_cuts(mead, tmp_path):
    prepare([mead], tmp_path, PrepareConfig(SPLIT), workers=1)
    clips = open_clips(tmp_path)
    np.testing.assert_array_equal(clips.frames, [25] * len(clips))
    window, cut = clips.window(1, 5, 20), clips[1].cut(5, 20)
    np.testing.assert_array_equal(window.coefficients, cut.coefficients)
    np.testing.assert_array_equal(window.wave, cut.wave)
    assert len(window.wave) == 15 * 640
    with pytest.raises(InputError, match="which has 25"):
        clips.window(0, 0, 26)
    copy = pickle.loads(pickle.dumps(clips))  # as a worker of a data loader gets it
    np.testing.assert_array_equal(copy[0].coefficients, clips[0].coefficients)


def test_a_stopped_run_goes_on_and_gives_the_same_bytes(mead, tmp_path):
    config = PrepareConfig(SPLIT, shard_clips=2)
    seen = []
    prepare([mead], tmp_path / "a", config, workers=1, progress=lambda done, total: seen.append((done, total)))
    assert seen[0] == (0, 8) and seen[-1] == (8, 8)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    lost = sorted((tmp_path / "b").glob("train-*.safetensors"))[1]
    before = lost.read_bytes()
    lost.unlink()
    seen.clear()
    again = prepare([mead], tmp_path / "b", config, workers=1, progress=lambda done, total: seen.append((done, total)))
    assert again.made == 1 and seen[0][0] == 6
    assert lost.read_bytes() == before


def test_two_processes_do_what_one_does(mead, tmp_path):
    config = PrepareConfig(SPLIT, shard_clips=4)
    prepare([mead], tmp_path / "one", config, workers=1)
    prepare([mead], tmp_path / "two", config, workers=2)
    for path in (tmp_path / "one").iterdir():
        assert (tmp_path / "two" / path.name).read_bytes() == path.read_bytes()


def test_what_is_broken_is_skipped_and_named(tmp_path):
    folder = trees.hdtf(tmp_path / "hdtf")
    (folder / "RD_Radio1_000.mat").write_bytes(b"not a mat")
    (folder / "WDA_BarackObama_000.mp4").write_bytes(b"not a film")
    (folder / "WDA_BarackObama_001.mat").unlink()
    trees.video(folder / "WRA_Short_000.mp4", frames=5)
    trees.mat(folder / "WRA_Short_000.mat", frames=5)
    trees.video(folder / "WRA_Mute_000.mp4", with_sound=False)
    trees.mat(folder / "WRA_Mute_000.mat")
    trees.video(folder / "WRA_Long_000.mp4")
    trees.mat(folder / "WRA_Long_000.mat", frames=200)
    config = PrepareConfig(SplitConfig(0, 0, disjoint="none"))
    report = prepare([folder], tmp_path / "out", config, workers=1)
    assert [c["name"] for c in report.clips["train"]] == ["WRA_Somebody_000"]
    reasons = {f.name: f.reason for f in report.failures}
    assert "MATLAB" in reasons["RD_Radio1_000"]
    assert "not a media file" in reasons["WDA_BarackObama_000"]
    assert "no coefficients beside" in reasons["WDA_BarackObama_001"]
    assert "too few" in reasons["WRA_Short_000"]
    assert "no sound" in reasons["WRA_Mute_000"]
    assert "do not belong together" in reasons["WRA_Long_000"]
    told = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {f["name"] for f in told["failures"]} == set(reasons) and told["splits"][0]["clips"] == 1
    assert "WRA_Mute_000" in (tmp_path / "out" / "report.md").read_text()
    # The report of a run that finds everything done names them still.
    assert prepare([folder], tmp_path / "out", config, workers=1).failures == report.failures
    kept = prepare([folder], tmp_path / "more", PrepareConfig(config.split, silent=True), workers=1)
    assert {c["name"] for c in kept.clips["train"]} == {"WRA_Somebody_000", "WRA_Mute_000"}


def test_several_folders_keep_their_names(mead, tmp_path):
    hdtf = trees.hdtf(tmp_path / "films")
    report = prepare([mead, hdtf], tmp_path / "out", PrepareConfig(SPLIT), workers=1)
    clips = {c["name"]: c["identity"] for c in (*report.clips["train"], *report.clips["validation"])}
    assert len(clips) == 12 and clips["films/RD_Radio1_000"] == "films/RD_Radio1"
    assert clips["mead/M003/video/front/angry/level_1/001"] == "M003"


def test_refusals(mead, tmp_path):
    prepare([mead], tmp_path / "out", PrepareConfig(SPLIT), workers=1)
    with pytest.raises(InputError, match="other folders, clips or settings"):
        prepare([mead], tmp_path / "out", PrepareConfig(SplitConfig(0, 0)), workers=1)
    with pytest.raises(InputError, match="no prepared data"):
        open_clips(tmp_path)
    with pytest.raises(InputError, match="no clips of the split 'test'"):
        open_clips(tmp_path / "out", "test")
    with pytest.raises(InputError, match="at least one folder"):
        prepare([], tmp_path / "none")
    broken = next((tmp_path / "out").glob("train-*"))
    broken.write_bytes(broken.read_bytes()[:50])
    with pytest.raises(InputError, match="not a whole shard"):
        open_clips(tmp_path / "out")


def test_the_command(mead, tmp_path, capsys):
    output = str(tmp_path / "out")
    options = ["--disjoint", "identity", "--validation", "0.3", "--test", "0", "--workers", "1"]
    assert run(["prepare", str(mead), "-o", output, *options]) == 0
    assert "train: 4 clips" in capsys.readouterr().out
    assert run(["prepare", str(tmp_path / "none"), "-o", output]) == 2
    assert "no such folder" in capsys.readouterr().err

"""Every layout, on made-up trees: what is found, what the paths tell, and what the numbers become."""

import made_trees as trees
import numpy as np
import pytest
from filmed import Performance, Scripted

from dmt.data import find_sources, read_clip
from dmt.data.clip import RESTING_POSE
from dmt.data.pirender import read_pictures
from dmt.data.tracks import Track, stored, stored_or_extracted
from dmt.errors import InputError
from dmt.face.pose import REST
from dmt.media import read_audio
from dmt.tracking import recipe


def clips_of(folder, **options):
    return {s.name: s for s in find_sources(folder, **options)}


def test_dreamtalk(tmp_path):
    found = clips_of(trees.dreamtalk(tmp_path / "d"))
    assert {s.layout for s in found.values()} == {"dreamtalk"}
    angry = found["style/M030_front_angry_level3_001"]
    assert (angry.identity, angry.emotion, angry.sentence) == ("M030", "angry", "mead-001")
    clip = read_clip(angry, stored)
    full = trees.coefficients(seed=1)
    np.testing.assert_array_equal(clip.coefficients, full[:, 80:144])
    np.testing.assert_array_equal(clip.pose[:, :3], full[:, 224:227])
    np.testing.assert_array_equal(clip.pose[:, 3:6], full[:, 254:257])
    np.testing.assert_allclose(clip.pose[0, 6:], [0.9, 120, 130])
    assert len(clip.wave) == trees.FRAMES * 640

    nameless = read_clip(found["someone"], stored)
    assert nameless.identity == "someone" and nameless.wave is None
    np.testing.assert_allclose(nameless.pose[0, 6:], RESTING_POSE[6:])

    run = read_clip(found["tmp/test/test"], stored)
    assert run.features.shape == (60, 1024) and run.wave is not None
    assert run.coefficients.shape == (30, 64) and run.pose.shape == (30, 9)


def test_resting_pose_is_the_renderers():
    assert RESTING_POSE == REST


def test_mead(tmp_path):
    found = clips_of(trees.mead(tmp_path / "m"))
    assert len(found) == 8
    source = found["M003/video/front/angry/level_1/002"]
    assert (source.layout, source.identity, source.emotion, source.sentence) == ("mead", "M003", "angry", "mead-002")
    clip = read_clip(source, stored)
    assert clip.fps == 25 and len(clip) == 25  # 30 frames at 30 a second are one second
    assert len(clip.wave) == 16_000


def test_hdtf_speaks_from_its_own_track(tmp_path):
    found = clips_of(trees.hdtf(tmp_path / "h"))
    assert {s.identity for s in found.values()} == {"RD_Radio1", "WDA_BarackObama", "WRA_Somebody"}
    clip = read_clip(found["WDA_BarackObama_001"], stored)
    assert abs(len(clip.wave) / 16_000 - 1.2) < 0.1 and np.abs(clip.wave).max() > 0.2


def test_voxceleb(tmp_path):
    found = clips_of(trees.voxceleb(tmp_path / "v"))
    assert len(found) == 4 and {s.layout for s in found.values()} == {"voxceleb"}
    partitions = {s.identity: s.partition for s in found.values()}
    # The metadata speaks before the folder does.
    assert partitions == {"id10001": "train", "id10002": "test", "id10270": "test", "id10003": "train"}
    for source in found.values():
        clip = read_clip(source, stored)
        assert len(clip) == 30 and clip.wave is not None


def test_metadata_of_another_kind_is_refused(tmp_path):
    folder = trees.voxceleb(tmp_path / "v")
    (folder / "vox-metadata.csv").write_text("a,b\n1,2\n")
    with pytest.raises(InputError, match="video_id and partition"):
        find_sources(folder)


def test_pirender(tmp_path):
    pytest.importorskip("lmdb", reason="an LMDB needs the extra [lmdb]")
    folder = trees.pirender(tmp_path / "p")
    found = clips_of(folder)
    assert [s.partition for s in found.values()] == ["train", "test", "test"]
    clip = read_clip(found["id2#b#000#030"], stored)
    np.testing.assert_array_equal(clip.coefficients, trees.coefficients(seed=1)[:, 80:144])
    np.testing.assert_allclose(clip.pose[0, 6:], [0.9, 120, 130])
    assert clip.identity == "id2"
    with pytest.raises(InputError, match="100 bytes"):
        read_clip(found["id3#c#000#030"], stored)
    assert read_pictures(folder, "id1#a#000#030", range(2)) == [b"\xff\xd8jpeg"] * 2
    with pytest.raises(InputError, match="no entry"):
        read_pictures(folder, "id1#a#000#030", range(2, 3))


def test_any_videos(tmp_path):
    trees.video(tmp_path / "anna" / "one.mp4")
    trees.video(tmp_path / "two.mp4", with_sound=False)
    trees.mat(tmp_path / "anna" / "one.mat")
    trees.mat(tmp_path / "two.mat")
    found = clips_of(tmp_path)
    assert {s.name: s.identity for s in found.values()} == {"anna/one": "anna", "two": "two"}
    assert read_clip(found["anna/one"], stored).wave is not None
    assert read_clip(found["two"], stored).wave is None


def test_a_tracker_is_any_function(tmp_path):
    film = trees.video(tmp_path / "one.mp4", fps=50, frames=100)
    seen = []

    def tracker(path):
        seen.append(path)
        return Track(np.ones((100, 64), np.float32), np.zeros((100, 9), np.float32), 50.0)

    clip = read_clip(find_sources(tmp_path)[0], tracker)
    assert seen == [film] and len(clip) == 50
    with pytest.raises(InputError, match=r"expected one\.mat or one\.npy"):
        read_clip(find_sources(tmp_path)[0], stored)


def test_a_film_that_begins_without_a_face_gives_its_sound_from_the_face_on(tmp_path):
    film = trees.video(tmp_path / "one.mp4", frames=50)
    whole = read_audio(film)

    def tracker(path):
        return Track(np.ones((38, 64), np.float32), np.zeros((38, 9), np.float32), 25.0, start=0.48)

    source = find_sources(tmp_path)[0]
    clip = read_clip(source, tracker)
    assert np.array_equal(clip.wave[:1000], whole[7680:8680])
    with pytest.raises(InputError, match="before its face is first seen"):
        read_clip(source, lambda path: Track(clip.coefficients, clip.pose, 25.0, start=9.0))


def test_the_tracker_says_when_its_film_first_shows_the_face(tmp_path, monkeypatch):
    film = trees.video(tmp_path / "one.mp4", frames=75)
    landmarks = [None] * 20 + list(Performance(frames=55).landmarks)
    monkeypatch.setattr(recipe, "_best_tracker", lambda notes: Scripted(landmarks))
    track = stored_or_extracted(film)
    assert track.start == pytest.approx(20 / 25) and abs(len(track.coefficients) - 55) <= 1
    clip = read_clip(find_sources(tmp_path)[0], stored_or_extracted)
    assert abs(len(clip.wave) / 16_000 - 55 / 25) < 0.15


def test_synthetic(tmp_path):
    espeak = pytest.importorskip("espeakng_loader", reason="espeak-ng comes with the extra [train]")
    assert espeak is not None
    from dmt.corpus import Corpus, build, build_corpus

    folder = tmp_path / "corpus"
    before, build.SHARD_CLIPS = build.SHARD_CLIPS, 2
    try:
        build_corpus(folder, minutes=0.2, seed=3, workers=1)
    finally:
        build.SHARD_CLIPS = before
    found = clips_of(folder)
    assert {s.partition for s in found.values()} == {"train", "validation"} and len(found) == 4
    corpus = Corpus.load(folder)
    clip = read_clip(found["train-0000-01"], stored)
    np.testing.assert_array_equal(clip.coefficients, corpus.coefficients[1].astype(np.float32))
    np.testing.assert_array_equal(clip.style, corpus.style[1].astype(np.float32))
    np.testing.assert_array_equal(clip.closures, corpus.closures[corpus.closures[:, 0] == 1, 1:])
    np.testing.assert_array_equal(np.rint(clip.wave * 32768), corpus.wave[1])


def test_nothing_to_read(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        find_sources(tmp_path / "none")
    with pytest.raises(InputError, match="nothing that can be read"):
        find_sources(tmp_path)
    with pytest.raises(InputError, match="unknown layout"):
        find_sources(tmp_path, "lrs3")
    trees.mat(tmp_path / "h" / "a.mat")
    with pytest.raises(InputError, match="nothing of the layout mead"):
        find_sources(tmp_path / "h", "mead")

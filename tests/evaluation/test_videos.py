"""Folders of videos against references: pairing, matching, every measure or the reason why not, the report."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("torchmetrics", reason="picture measures come with the extra [evaluate]")
pytest.importorskip("skimage", reason="picture measures come with the extra [evaluate]")
pytest.importorskip("matplotlib", reason="plots come with the extra [evaluate]")

from dmt.cli.app import run
from dmt.errors import InputError
from dmt.evaluation import EvaluationConfig, evaluate_videos, write_report
from dmt.evaluation import side as side_module
from dmt.evaluation.footage import Square, cut, face_square, frames_at_25, pair_up
from dmt.evaluation.images import psnr, ssim
from dmt.evaluation.lpips import alexnet_features
from dmt.evaluation.paper import PAPER, parse_methods
from dmt.face.basis import LandmarkBasis
from dmt.media import VideoWriter, read_frames

PLAIN = EvaluationConfig(size=64, landmarks="none")


def pictures(frames, seed=0, size=64):
    """A smooth pattern that moves: compresses well and has edges."""
    y, x = np.mgrid[0:size, 0:size] / size
    phase = np.random.default_rng(seed).uniform(0, 6, 3)
    time = np.arange(frames)[:, None, None, None] / 10
    waves = np.sin(12 * x[..., None] + phase + time) * np.cos(9 * y[..., None] - time)
    return (127 + 100 * waves).astype(np.uint8)


def write(path, frames, fps=25):
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(path, *frames.shape[1:3], fps, None) as out:
        out.write(frames)
    return path


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two generated videos (one shorter, one of 50 frames a second) and their references; one more on either side."""
    root = tmp_path_factory.mktemp("videos")
    for name, length in (("a", 40), ("sub/b", 30)):
        write(root / "reference" / f"{name}.mp4", pictures(length))
    blurred = pictures(36) // 2 + 50
    write(root / "made" / "a.mp4", blurred)
    write(root / "made" / "sub" / "b.mp4", np.repeat(pictures(30), 2, 0), fps=50)
    write(root / "made" / "alone.mp4", pictures(5))
    write(root / "reference" / "unanswered.mp4", pictures(5))
    return root


@pytest.fixture(scope="module")
def found(folders):
    return evaluate_videos(folders / "made", folders / "reference", PLAIN)


def test_pairs_go_by_name(folders):
    pairs, notes = pair_up(folders / "made", folders / "reference")
    assert [pair.name for pair in pairs] == ["a", "sub/b"]
    assert any("alone.mp4 has no reference" in note for note in notes)
    assert any("unanswered.mp4 has no generated" in note for note in notes)
    with pytest.raises(InputError, match="no video of"):
        pair_up(folders / "made" / "sub", folders / "reference")
    with pytest.raises(InputError, match="no such folder"):
        pair_up(folders / "none", folders / "reference")


def test_frames_at_25(folders, tmp_path):
    plain = folders / "reference" / "a.mp4"
    np.testing.assert_array_equal(np.stack(list(frames_at_25(plain))), np.stack(list(read_frames(plain))))
    assert len(list(frames_at_25(folders / "made" / "sub" / "b.mp4"))) == 30
    slow = write(tmp_path / "slow.mp4", pictures(12), fps=10)
    shown = np.stack(list(frames_at_25(slow)))
    own = np.stack(list(read_frames(slow)))
    assert len(shown) == 30
    # At k / 25 s picture floor(10 k / 25) is on the screen.
    np.testing.assert_array_equal(shown, own[[10 * k // 25 for k in range(30)]])


def test_cutting_beyond_the_edge():
    picture = pictures(1)[0]
    out = cut(picture, Square(-10, 50, 30))
    assert out.shape == (30, 30, 3)
    np.testing.assert_array_equal(out[:14, 10:], picture[50:, :20])
    np.testing.assert_array_equal(out[:14, 0], picture[50:, 0])


def test_measures_are_those_of_the_frames(folders, found):
    a = found.videos[0]
    made, reference = (np.stack(list(read_frames(folders / s / "a.mp4")))[:36] for s in ("made", "reference"))
    assert a.frames == 36
    np.testing.assert_allclose(a.curves["ssim_gaussian11"], ssim(made, reference))
    assert a.measures["psnr"] == pytest.approx(psnr(made, reference).mean())
    assert found.mean("psnr") == pytest.approx(np.mean([v.measures["psnr"] for v in found.videos]))
    assert any("36 generated and 40 reference" in note for note in a.notes)
    assert any("50 frames a second" in note for note in found.videos[1].notes)
    assert found.videos[1].measures["psnr"] > 30  # the same film, each picture shown twice


def test_nothing_is_left_out_silently(found):
    missing = found.not_measured()
    assert set(missing) >= {"lpips_alex", "lse_c", "lse_d", "fid", "fvd", "m_lmd", "blink_rate", "coefficients"}
    assert "--lpips" in missing["lpips_alex"] and "--landmarks none" in missing["m_lmd"]


def test_given_networks_are_used(folders, tmp_path):
    class Colour(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.float().flatten(2).mean(2)

    torch.jit.script(Colour()).save(str(tmp_path / "colour.pt"))
    torch.manual_seed(0)
    torch.save({f"features.{k}": v for k, v in alexnet_features().state_dict().items()}, tmp_path / "alex.pth")
    config = EvaluationConfig(
        64,
        "none",
        "none",
        str(tmp_path / "alex.pth"),
        fid_network=str(tmp_path / "colour.pt"),
        fvd_network=str(tmp_path / "colour.pt"),
    )
    found = evaluate_videos(folders / "made", folders / "reference", config)
    assert found.mean("lpips_alex") > 0 and found.measures["fid"] > 0 and found.measures["fvd"] > 0
    same = evaluate_videos(folders / "reference", folders / "reference", config)
    assert same.measures["fid"] == pytest.approx(0, abs=1e-3) and same.mean("psnr") == 100


class Follows:
    """A tracker that finds the neutral face in the middle of every picture, its mouth opened by the frame's number."""

    name = "a made-up tracker"
    blind_to_opening = False

    def __init__(self):
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def __call__(self, picture):
        points = LandmarkBasis.load().neutral.numpy() * 25 + picture.shape[0] / 2
        self.count += 1
        points[14, 1] = points[13, 1] + 5 + 4 * np.sin(self.count)
        return None if self.count % 10 == 0 else points.astype(np.float32)


def test_faces_are_followed_through_both(folders, monkeypatch):
    monkeypatch.setattr(side_module, "tracker_class", lambda kind: Follows)
    config = EvaluationConfig(size=64, crop="face")
    a = evaluate_videos(folders / "reference", folders / "reference", config).videos[0]
    assert a.measures["aperture_correlation"] == pytest.approx(1) and a.measures["m_lmd"] == 0
    assert np.isnan(a.curves["m_lmd"]).sum() == 4 and "m_lmd" not in a.missing
    side = face_square(Follows()(np.zeros((64, 64, 3), np.uint8))).side
    assert 60 < side < 70


def test_coefficients_beside_the_videos(tmp_path):
    rows = np.random.default_rng(0).standard_normal((20, 73)).astype(np.float32) * 0.1
    for folder, shift in (("made", 0.25), ("reference", 0.0)):
        write(tmp_path / folder / "v.mp4", pictures(20))
        np.save(tmp_path / folder / "v.npy", rows + np.float32(shift))
    measures = evaluate_videos(tmp_path / "made", tmp_path / "reference", PLAIN).videos[0].measures
    assert measures["coefficients_upper"] == pytest.approx(0.25, rel=1e-4)


def test_report(found, tmp_path):
    files = write_report(found, tmp_path / "report")
    assert sorted(p.name for p in files) == ["curves-a.png", "curves-sub-b.png", "report.json", "report.md"]
    told = json.loads((tmp_path / "report" / "report.json").read_text(), parse_constant=pytest.fail)
    assert told["measures"]["ssim_gaussian11"]["mean"] == pytest.approx(found.mean("ssim_gaussian11"), abs=1e-6)
    assert len(told["videos"][0]["curves"]["psnr"]) == 36 and "fid" in told["not_measured"]
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| SSIM (Gaussian 11 x 11, RGB) ↑ |" in text and "## Not measured" in text and "curves-sub-b.png" in text
    with Image.open(tmp_path / "report" / "curves-a.png") as picture:
        colours = len(np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0))
    assert picture.width > 500 and colours > 50


def test_the_papers_table_is_the_papers():
    """As printed: Methods, SSIM, LPIPS, PSNR."""
    assert list(PAPER) == ["DMT", "DreamTalk", "SadTalker", "Wav2lip", "TANGO"]
    assert PAPER["DMT"] == (0.7970, 0.1093, 28.2298) and PAPER["TANGO"] == (0.8758, 0.1359, 29.0019)


def test_paper_command(folders, tmp_path, capsys):
    words = [f"dmt={folders / 'made'}", f"Mine={folders / 'reference'}"]
    options = ["--reference", str(folders / "reference"), "--size", "64", "-o", str(tmp_path / "out")]
    assert run(["evaluate", "paper", *words, *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "SSIM↑ (measured here)" in lines[0] and "SSIM↑ (printed in the paper)" in lines[0]
    rows = {cells[1].strip(): [c.strip() for c in cells[2:8]] for cells in (x.split("|") for x in lines[2:8])}
    assert rows["DMT"][3:] == ["0.7970", "0.1093", "28.2298"] and rows["DMT"][1] == "—" and float(rows["DMT"][0]) < 1
    assert rows["TANGO"][:3] == ["—"] * 3 and rows["Mine"][3:] == ["—"] * 3 and rows["Mine"][2] == "100.0000"
    told = json.loads((tmp_path / "out" / "paper.json").read_text())
    assert told["rows"][0]["printed_in_the_paper"]["psnr"] == 28.2298
    assert any("different videos" in note for note in told["notes"])


@pytest.mark.parametrize(
    "words, said",
    [(["DMT"], "METHOD=FOLDER"), (["DMT=/nowhere"], "no such folder"), (["A=/tmp", "A=/tmp"], "twice")],
)
def test_methods_that_are_none(words, said):
    with pytest.raises(InputError, match=said):
        parse_methods(words)


def test_videos_command_and_bad_options(folders, tmp_path, capsys):
    options = ["-r", str(folders / "reference"), "-o", str(tmp_path / "r"), "--landmarks", "none", "--no-plots"]
    assert run(["evaluate", "videos", "-g", str(folders / "made" / "sub"), *options, "--size", "64"]) == 2
    options[1] = str(folders / "reference" / "sub")
    assert run(["evaluate", "videos", "-g", str(folders / "made" / "sub"), *options, "--size", "64"]) == 0
    assert "Not measured" in capsys.readouterr().out
    assert run(["evaluate", "videos", "-g", str(folders / "made"), *options, "--size", "8"]) == 2
    assert run(["evaluate", "videos", "-g", str(folders / "made"), *options, "--crop", "face"]) == 2
    assert run(["evaluate", "videos", "-g", str(folders / "made" / "sub"), *options, "--lpips", "/nowhere.pth"]) == 2
    assert "no LPIPS backbone" in capsys.readouterr().err

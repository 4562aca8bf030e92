"""The drop-in command from flags to files, with small random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from golden import SAMPLES, needs_samples
from PIL import Image

from dmt import media
from dmt.dreamtalk.cli import run
from dmt.dreamtalk.files import read_picture
from dmt.dreamtalk.watermark import stamp
from dmt.face.pose import HeldPose, load_pose


def flags(world: Path, **changes: str) -> list[str]:
    chosen = {
        "wav_path": world / "a voice.wav",
        "image_path": world / "face.png",
        "style_clip_path": world / "style ñ.mat",
        "pose_path": world / "short pose.mat",
        "output_name": "clip one",
        "device": "cpu",
        "steps": "2",
    } | changes
    return ["--disable_img_crop", *(part for k, v in chosen.items() for part in (f"--{k}", str(v)))]


def test_the_originals_files_appear(world: Path, monkeypatch: pytest.MonkeyPatch, small_wav2vec: None) -> None:
    monkeypatch.chdir(world)
    assert run(flags(world, seed="3")) == 0
    folder = world / "tmp/clip one"
    names = {"clip one_16K.wav", "clip one_wav2vec.npy", "clip one_facemotion.npy", "src_img.png"}
    assert {p.name for p in folder.iterdir()} == names
    rows, motion = (np.load(folder / f"clip one_{n}.npy") for n in ("wav2vec", "facemotion"))
    assert rows.shape == (9, 1024) and motion.shape == (4, 73) and motion.dtype == np.float32
    pose = scipy.io.loadmat(world / "short pose.mat")
    expected = np.concatenate(
        [pose["coeff"][:, 224:227], pose["coeff"][:, 254:257], pose["transform_params"][:, -3:]], 1
    )
    assert np.array_equal(motion[:3, 64:], expected) and np.array_equal(motion[3:, 64:], expected[[2]])
    assert sum(1 for _ in media.read_frames(world / "output_video/clip one.mp4")) == 4
    assert {p.name for p in (world / "output_video").iterdir()} == {"clip one.mp4"}
    assert run(flags(world, seed="3", output_name="again", reuse="2")) == 0
    assert np.array_equal(np.load(world / "tmp/again/again_facemotion.npy"), motion)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"wav_path": "absent.wav"}, "absent.wav"),
        ({"pose_path": "absent.mat"}, "no such file"),
        ({"style_clip_path": "style.csv"}, "style"),
        ({"denoiser": "checkpoints/renderer.pt"}, "renderer checkpoint"),
        ({"renderer": "checkpoints/denoising_network.pth"}, "denoiser checkpoint"),
        ({"steps": "3"}, "divide 1000"),
        ({"output_name": "../escape"}, "plain file name"),
        ({"device": "abacus"}, "unknown device"),
        ({"reuse": "-1"}, "reuse must be"),
    ],
)
def test_bad_input_is_one_sentence(
    world: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_wav2vec: None,
    capsys: pytest.CaptureFixture[str],
    changes: dict[str, str],
    words: str,
) -> None:
    monkeypatch.chdir(world)
    assert run(flags(world, **{"output_name": "bad", **changes})) == 2
    error = capsys.readouterr().err.strip()
    assert words in error and len(error.splitlines()) == 1
    assert not (world / "output_video/bad.mp4").exists()


def test_a_missing_flag_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--wav_path", "x.wav"]) == 2
    assert "--image_path is needed" in capsys.readouterr().err


@needs_samples
def test_published_pose_is_reproduced_bit_for_bit() -> None:
    published = np.load(SAMPLES / "published_english/facemotion.npy")
    pose = HeldPose(load_pose(SAMPLES / "pose/RichardShelby_front_neutral_level1_001.mat"))
    assert np.array_equal(pose.next(len(published)), published[:, 64:])


def test_a_pose_that_ends_is_held_however_it_is_asked_for() -> None:
    rows = torch.randn(5, 9)
    whole = HeldPose(rows).next(12)
    assert torch.equal(whole[:5], rows) and torch.equal(whole[5:], rows[-1:].expand(7, 9))
    source = HeldPose(rows)
    assert torch.equal(torch.cat([source.next(n) for n in (1, 0, 6, 5)]), whole)
    assert torch.equal(HeldPose(rows[:1]).next(3), rows[:1].expand(3, 9))


def test_alpha_is_dropped_and_grey_repeated(tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 256, (8, 9, 4), dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    assert np.array_equal(read_picture(tmp_path / "a.png"), rgba[..., :3])
    Image.fromarray(rgba[..., 0]).save(tmp_path / "g.png")
    assert np.array_equal(read_picture(tmp_path / "g.png"), np.repeat(rgba[..., :1], 3, 2))


def test_the_mark_touches_only_its_corner() -> None:
    frames = np.full((2, 256, 256, 3), 90, np.uint8)
    marked = stamp(frames)
    changed = (marked != frames).any((0, 3))
    assert changed.any() and not changed[:220].any() and not changed[:, :140].any()

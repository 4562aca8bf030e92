"""The drop-in command from flags to files, with small random weights."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from dmt import media
from dmt.dreamtalk import DreamTalkDenoiser, export_denoiser
from dmt.dreamtalk.cli import run
from dmt.dreamtalk.files import hold_last, read_picture, write_wav
from dmt.dreamtalk.watermark import stamp
from dmt.renderer.flow import FlowRenderer

SAMPLES = Path(os.environ.get("DMT_SHARED", Path(__file__).parents[3] / "shared")) / "dreamtalk/samples"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything the original needs, names with spaces and letters beyond ASCII."""
    folder = tmp_path_factory.mktemp("dream talk ü")
    torch.manual_seed(0)
    (folder / "checkpoints").mkdir()
    state = {f"diff_net.{k}": v for k, v in export_denoiser(DreamTalkDenoiser()).items()}
    torch.save({"model_state_dict": state}, folder / "checkpoints/denoising_network.pth")
    torch.save({"net_G_ema": FlowRenderer().state_dict()}, folder / "checkpoints/renderer.pt")
    random = np.random.default_rng(0)
    pose = {"coeff": random.standard_normal((3, 257)), "transform_params": random.standard_normal((3, 5))}
    scipy.io.savemat(folder / "short pose.mat", {k: v.astype(np.float32) for k, v in pose.items()})
    scipy.io.savemat(folder / "style.mat", {"coeff": random.standard_normal((40, 257)).astype(np.float32)})
    write_wav(folder / "a voice.wav", [0.1 * random.standard_normal(5000)])
    Image.fromarray(random.integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(folder / "face.png")
    return folder


@pytest.fixture
def small_wav2vec(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A one-layer encoder of the right width in place of 315 million parameters nobody has here."""
    from dataclasses import replace

    from dmt.dreamtalk import command
    from dmt.features import SpeechEncoder

    def encoder(config: object) -> SpeechEncoder:
        torch.manual_seed(1)
        return SpeechEncoder(replace(config, layers=1, feed_forward=64, conv_width=32))

    monkeypatch.setattr(command.SpeechEncoder, "from_pretrained", staticmethod(encoder))


def flags(world: Path, **changes: str) -> list[str]:
    chosen = {
        "wav_path": world / "a voice.wav",
        "image_path": world / "face.png",
        "style_clip_path": world / "style.mat",
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
    assert rows.shape == (15, 1024) and motion.shape == (7, 73) and motion.dtype == np.float32
    pose = scipy.io.loadmat(world / "short pose.mat")
    expected = np.concatenate(
        [pose["coeff"][:, 224:227], pose["coeff"][:, 254:257], pose["transform_params"][:, -3:]], 1
    )
    assert np.array_equal(motion[:3, 64:], expected) and np.array_equal(motion[3:, 64:], expected[[2] * 4])
    assert sum(1 for _ in media.read_frames(world / "output_video/clip one.mp4")) == 7
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


@pytest.mark.skipif(not SAMPLES.exists(), reason="sample files are not beside the checkout")
def test_published_pose_is_reproduced_bit_for_bit() -> None:
    from dmt.face.pose import load_pose

    published = np.load(SAMPLES / "published_english/facemotion.npy")
    pose = load_pose(SAMPLES / "pose/RichardShelby_front_neutral_level1_001.mat").numpy()
    assert np.array_equal(hold_last(pose, len(published)), published[:, 64:])


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

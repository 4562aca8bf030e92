"""DreamTalk's files through the ordinary pipeline: the command's frames, and every mix of models and renderers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import dmt
from dmt import media
from dmt.cli.app import run
from dmt.conventions import DREAMTALKS
from dmt.dreamtalk import load_denoiser
from dmt.dreamtalk.cli import run as dreamtalk
from dmt.dreamtalk.convert import convert
from dmt.dreamtalk.files import write_wav
from dmt.dreamtalk.motion import motion_model
from dmt.driving import expression_pieces, motion_pieces, scene_rows
from dmt.face.styles import load_style
from dmt.features import windows
from dmt.pipeline import load
from dmt.scene import Options, prepare

pytestmark = pytest.mark.usefixtures("small_wav2vec")


def frames_of(path: Path) -> np.ndarray:
    return np.stack(list(media.read_frames(path)))


def test_the_same_seed_gives_the_commands_frames(
    world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    files = {"wav_path": "a voice.wav", "image_path": "face.png", "style_clip_path": "style ñ.mat"}
    flags = files | {"pose_path": "short pose.mat", "output_name": "same", "device": "cpu", "seed": "5", "steps": "2"}
    arguments = [part for name, value in flags.items() for part in (f"--{name}", value)]
    assert dreamtalk(["--disable_img_crop", "--no_watermark", "--cfg_scale", "1.5", *arguments]) == 0
    ours = ["generate", "-a", "a voice.wav", "-i", "face.png", "--no-crop", "--style", "style ñ.mat", "--seed", "5"]
    ours += ["--pose", "short pose.mat", "--steps", "2", "--guidance", "1.5", "--device", "cpu"]
    models = ["--checkpoint", "checkpoints/denoising_network.pth", "--renderer", "checkpoints/renderer.pt"]
    assert run([*ours, *models, "-o", str(tmp_path / "o.mp4")]) == 0, capsys.readouterr().err
    made = frames_of(tmp_path / "o.mp4")
    assert made.shape == (4, 256, 256, 3)
    assert np.array_equal(made, frames_of(world / "output_video/same.mp4"))


@pytest.mark.parametrize(("steps", "guidance", "seed"), [(10, 1.0, 0), (5, 2.0, 3)])
def test_the_motion_is_the_networks_own(world: Path, steps: int, guidance: float, seed: int) -> None:
    """The pipeline's coefficients are `DreamTalkDenoiser.sample` of all windows at once with torch's noise."""
    denoiser = load_denoiser(world / "checkpoints/denoising_network.pth")
    model = motion_model(denoiser)
    options = Options(
        style=world / "style ñ.mat", pose=world / "short pose.mat", steps=steps, guidance=guidance, seed=seed
    )
    scene = prepare(world / "longer.wav", None, options, DREAMTALKS)
    assert scene.frames == 85  # (55000 - 400) // 320 + 1 = 171 rows
    rows = list(scene_rows(model, scene, media.audio_blocks(world / "longer.wav", 700), lambda *told: None))
    pieces = list(motion_pieces(model, rows, scene, lambda *told: None))
    clip = load_style(world / "style ñ.mat")
    expected = denoiser.sample(
        windows(torch.cat(rows, 1), 0, 85),
        clip.coefficients[None],
        clip.padding[None],
        steps=steps,
        guidance=guidance,
        generator=torch.Generator().manual_seed(seed),
    )[0]
    assert (torch.cat([piece.expression for piece in pieces]) - expected).abs().max() < 1e-5
    pose = torch.cat([piece.pose for piece in pieces])
    assert torch.equal(pose[3:], pose[2:3].expand(82, 9))


def test_our_pieces_do_not_depend_on_how_many_are_waited_for(world: Path) -> None:
    model = motion_model(load_denoiser(world / "checkpoints/denoising_network.pth"))
    rows = torch.randn(1, 31, 1024, generator=torch.Generator().manual_seed(0))
    style = load_style("happy")
    whole, early = (
        torch.cat(list(expression_pieces(model, rows.split(4, 1), style, DREAMTALKS.noise(1), steps=2, least=least)))
        for least in (64, 1)
    )
    assert whole.shape == (15, 64) and (whole - early).abs().max() < 1e-5


def test_dreamtalks_network_moves_the_warp_renderer(world: Path) -> None:
    pipeline = dmt.load(world / "checkpoints/denoising_network.pth", "cpu")
    frames = list(pipeline.stream(world / "longer.wav", size=96, steps=1, style="happy"))
    assert len(frames) == 85 and frames[0].shape == (96, 96, 3)
    assert np.ptp(np.stack(frames).astype(int), axis=0).max() > 20


def test_our_model_moves_the_learned_renderer_exactly_or_fast(
    world: Path, tiny_checkpoint: Path, tmp_path: Path
) -> None:
    pipeline = load(tiny_checkpoint, "cpu", renderer=world / "checkpoints/renderer.pt")
    write_wav(tmp_path / "blip.wav", [0.1 * np.random.default_rng(0).standard_normal(1300)])
    exact, fast = (
        np.stack(list(pipeline.stream(tmp_path / "blip.wav", world / "face.png", crop=False, steps=1, precision=way)))
        for way in ("exact", "fast")
    )
    assert exact.shape == fast.shape == (2, 256, 256, 3)
    error = np.square((exact.astype(float) - fast) / 255).mean()
    assert 0 < error < 1e-4  # above 40 dB


def test_converted_files_are_the_same_models(world: Path, tmp_path: Path) -> None:
    for name, target in (("denoising_network.pth", "d.safetensors"), ("renderer.pt", "r.safetensors")):
        convert(world / "checkpoints" / name, tmp_path / target)
    original = load(world / "checkpoints/denoising_network.pth", "cpu", renderer=world / "checkpoints/renderer.pt")
    converted = load(tmp_path / "d.safetensors", "cpu", renderer=tmp_path / "r.safetensors")
    assert converted.conventions is original.conventions is DREAMTALKS
    for ours, theirs in ((converted.model.denoiser, original.model.denoiser), (converted.renderer, original.renderer)):
        state = theirs.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in ours.state_dict().items())

"""The learned renderer over-fits a short clip that the warp renderer made, and what it is given is checked."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dmt.data.tracks import Track
from dmt.dreamtalk import load_renderer
from dmt.errors import InputError
from dmt.face.basis import LandmarkBasis, neutral_mean
from dmt.media import VideoWriter
from dmt.renderer.flow import FlowRenderer, FlowSize
from dmt.renderer.warp import WarpRenderer
from dmt.training.config import RendererConfig, StageConfig
from dmt.training.film import Film, read_film
from dmt.training.renderer import NO_VGG, RendererLoss, RendererStage, train_renderer
from dmt.types import Motion, Portrait

SIZE, FRAMES = 64, 20


@pytest.fixture(scope="module")
def film():
    """The bundled portrait nods and opens its mouth, 20 frames of 64 pixels."""
    assets = files("dmt") / "assets"
    picture = Image.open(str(assets / "portrait.png")).convert("RGB")
    with np.load(str(assets / "portrait_landmarks.npz"), allow_pickle=False) as data:
        landmarks = data[data.files[0]] * (128 / picture.width)
    portrait = Portrait(np.array(picture.resize((128, 128))), landmarks.astype(np.float32))
    basis = LandmarkBasis.load()
    column = basis.basis[:, 14, 1] - basis.basis[:, 13, 1]
    beat = torch.sin(torch.linspace(0, 4 * torch.pi, FRAMES))
    expression = neutral_mean() + 0.12 * (1 + beat)[:, None] * column / column.square().sum()
    pose = torch.zeros(FRAMES, 9)
    pose[:, 1] = 0.2 * torch.cos(torch.linspace(0, 2 * torch.pi, FRAMES))
    frames = WarpRenderer(portrait).render(Motion(expression, pose, torch.zeros(FRAMES)))
    small = np.stack([np.array(Image.fromarray(f.numpy()).resize((SIZE, SIZE))) for f in frames])
    return Film.of(small, torch.cat([expression, pose], 1).numpy())


def settings(output, **changes):
    stage = StageConfig(steps=120, rate=4e-3, clips=4, frames=1)
    config = RendererConfig(
        "absent.mp4", str(output), size=SIZE, base=8, stage=stage, save_every=40, warm_up=5, average=0.9
    )
    return replace(config, **changes)


@pytest.fixture(scope="module")
def report(film, tmp_path_factory):
    return train_renderer(settings(tmp_path_factory.mktemp("renderer")), film=film)


def test_over_fits_a_short_clip(report):
    rows = [json.loads(line) for line in (report.checkpoint.parent / "renderer.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 6 and losses[-1] < 0.6 * losses[0]  # the first line is of step 20: most is learned by then
    # On pictures that were never wanted in training: the flow has learned to move, not only the colours.
    assert report.measures["validation_warp"] < 0.9 * report.measures["validation_still"]
    assert report.notes[-1] == NO_VGG


def test_the_run_resumes_and_its_file_has_the_released_names(report, film, tmp_path):
    state = load_file(report.checkpoint)
    assert set(state) == set(FlowRenderer(FlowSize(8, 32)).state_dict()) == set(FlowRenderer().state_dict())
    with pytest.raises(InputError, match="not a DreamTalk renderer checkpoint"):
        load_renderer(report.checkpoint)  # eight times narrower than the released one
    again = train_renderer(settings(report.checkpoint.parent), film=film)  # finished: nothing left to do
    assert again.measures == report.measures
    assert all(torch.equal(state[name], value) for name, value in load_file(again.checkpoint).items())


def test_terms_of_the_loss(film):
    config = settings("x", warp=0.0, smoothness=0.0, perceptual=2.0)
    network = FlowRenderer(FlowSize(8, 32))
    stage = RendererStage(network, film, config, RendererLoss(config, None), torch.device("cpu"))
    (batch,) = stage.batches(torch.Generator().manual_seed(0), 0, 1)
    assert batch.shape == (4, 2) and not set(batch.flatten().tolist()) & set(stage.held_out.tolist())
    loss, terms = stage.loss(batch)
    assert float(loss.detach()) == pytest.approx(terms["reconstruction"]) and "perceptual" not in terms
    seeing = RendererLoss(config, lambda made, wanted: (made - wanted).square().mean((1, 2, 3)))
    rendered = network(film.batch(batch[:, 0]), film.windows[batch[:, 1]])
    loss, terms = seeing(rendered, film.batch(batch[:, 1]))
    assert float(loss.detach()) == pytest.approx(terms["reconstruction"] + 2 * terms["perceptual"], rel=1e-5)


def test_a_film_is_read_with_its_motion(film, tmp_path):
    path = tmp_path / "clip.mp4"
    with VideoWriter(path, SIZE, SIZE, audio_rate=None) as video:
        video.write(film.pictures.permute(0, 2, 3, 1).numpy())
    motion = film.windows[:, :, 13].numpy()
    np.save(tmp_path / "clip.npy", motion)
    read = read_film(path, None, SIZE)
    assert len(read) == FRAMES and torch.equal(read.windows, film.windows)
    assert (read.pictures.float() - film.pictures.float()).abs().mean() < 12  # what the codec leaves
    np.save(tmp_path / "short.npy", motion[:12])
    with pytest.raises(InputError, match="do not fit"):
        read_film(path, tmp_path / "short.npy", SIZE)
    with pytest.raises(InputError, match="multiple of 32"):
        read_film(path, None, 100)


def test_what_does_not_go_together(film, tmp_path):
    with pytest.raises(InputError, match="have base 64"):
        train_renderer(settings(tmp_path / "run", start="renderer.pt"), film=film)
    with pytest.raises(InputError, match="at least 10"):
        Film.of(np.zeros((3, 64, 64, 3), np.uint8), np.zeros((3, 73), np.float32))
    with pytest.raises(InputError, match="equal parts"):
        train_renderer(settings(tmp_path / "run", accumulate=3), film=film)


def test_rows_meet_their_pictures_where_the_face_comes_late(tmp_path, monkeypatch):
    with VideoWriter(tmp_path / "one.mp4", 64, 64, audio_rate=None) as out:
        out.write(np.repeat(np.arange(0, 200, 5, dtype=np.uint8), 64 * 64 * 3).reshape(40, 64, 64, 3))
    rows = np.repeat(np.arange(28, dtype=np.float32)[:, None], 73, 1)
    track = Track(rows[:, :64], rows[:, 64:], 25.0, start=0.48)  # the 13th picture is its first
    monkeypatch.setattr("dmt.training.film.stored_or_extracted", lambda path: track)
    film = read_film(tmp_path / "one.mp4", None, 64)
    shown = film.pictures.float().mean(tuple(range(1, film.pictures.ndim)))
    assert torch.equal(film.windows[:, 0, 13], torch.arange(28.0))
    assert torch.allclose(shown.diff(), shown.diff().mean(), atol=0.5 * float(shown.diff().mean()))
    first = shown[0] / shown[-1]
    assert float(first) == pytest.approx(60 / 195, abs=0.03)

"""The learned renderer over-fits a short clip that the warp renderer made, and what it is given is checked."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from dmt.dreamtalk import load_renderer
from dmt.errors import InputError
from dmt.face.basis import LandmarkBasis, neutral_mean
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
        "absent.mp4", str(output), size=SIZE, base=8, stage=stage, save_every=60, warm_up=5, average=0.9
    )
    return replace(config, **changes)


def test_over_fits_a_short_clip(film, tmp_path):
    seen = []
    report = train_renderer(settings(tmp_path / "run"), progress=lambda *a: seen.append(a), film=film)
    import json

    rows = [json.loads(line) for line in (tmp_path / "run" / "renderer.jsonl").read_text().splitlines()]
    picture = [row["validation_picture"] for row in rows if "validation_picture" in row]
    warp = [row["validation_warp"] for row in rows if "validation_warp" in row]
    losses = [row["reconstruction"] for row in rows if "reconstruction" in row]
    print(losses, picture, warp, report.measures)
    assert losses[-1] < 0.4 * losses[0]
    assert report.measures["validation_warp"] < report.measures["validation_still"]
    assert report.notes[-1] == NO_VGG

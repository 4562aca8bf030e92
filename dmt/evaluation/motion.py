"""The whole way from sound to coefficients, as the pipeline takes it, for measuring."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import as_file, files
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..checkpoint import load_model
from ..diffusion import SmoothNoise
from ..face.styles import load_style
from ..features import silence_after
from ..model import MotionModel
from ..rates import ROWS_PER_FRAME
from ..types import StyleClip, frames_for


def model_of(checkpoint: str | Path | None) -> MotionModel:
    """The model in the file, or the bundled one."""
    if checkpoint is not None:
        return load_model(checkpoint)
    with as_file(files("dmt") / "assets" / "demo.safetensors") as path:
        return load_model(path)


@torch.inference_mode()
def motion(
    model: MotionModel,
    wave: NDArray[np.float32],
    *,
    style: str | StyleClip = "neutral",
    seed: int = 0,
    steps: int = 10,
) -> NDArray[np.float32]:
    """Coefficients [T, 64] for the sound [S] at 16 kHz: features, fusion and sampling as in `dmt generate`."""
    clip = load_style(style) if isinstance(style, str) else style
    frames = frames_for(len(wave))
    padded = np.concatenate([wave, np.zeros(silence_after(len(wave)), np.float32)])
    rows = model.condition(model.features(torch.from_numpy(padded)[None]))
    noise = SmoothNoise(torch.Generator().manual_seed(seed)).next(frames)[None]
    count = min(frames, rows.shape[1] // ROWS_PER_FRAME)
    made = model.sample(rows, clip, frames=range(count), steps=steps, noise=noise[:, :count])
    return made[0].numpy()


def openings(model: MotionModel, waves: Iterable[NDArray[np.float32]], **options) -> list[NDArray[np.float32]]:
    """Mouth opening [T] in eye distances for every sound; options as `motion` takes them."""
    from ..face.basis import LandmarkBasis

    basis = LandmarkBasis.load()
    return [basis.mouth_opening(torch.from_numpy(motion(model, wave, **options))).numpy() for wave in waves]

"""The stages of the bundled pipeline (small model, warp renderer), and how soon it shows its first frame."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial

import torch

from .. import media
from ..face.landmarks import load_portrait
from ..face.styles import load_style
from ..model import windows
from ..pipeline import Pipeline, load
from ..rates import COEFFICIENTS, FRAME_RATE, SAMPLE_RATE
from ..renderer.warp import WarpRenderer
from ..scene import asset
from ..types import Motion, frames_for
from .dreamtalk import encoder_stage
from .first_frame import first_frame
from .stage import Stage, differs

PIPELINE = "bundled model"
SIZE = 512


def stages(frames: int = 64, device: str = "cpu") -> Iterator[Callable[[], Stage]]:
    """In the order of the recipe, for the bundled sentence."""
    pipeline = load(device=device)
    wave = torch.from_numpy(media.read_audio(asset("demo.flac")))[None].to(device)
    yield partial(_features, pipeline, wave)
    yield partial(_motion, pipeline, wave, frames)
    yield partial(_render, pipeline, 16)
    yield partial(encoder_stage, PIPELINE, SIZE)


def _features(pipeline: Pipeline, wave: torch.Tensor) -> Stage:
    """Both speech encoders and their fusion, on the whole sentence."""
    model = pipeline.model
    run = lambda: model.condition(model.features(wave))  # noqa: E731
    return Stage(PIPELINE, "features", wave.shape[1] / SAMPLE_RATE, {"plain": run})


def _motion(pipeline: Pipeline, wave: torch.Tensor, frames: int) -> Stage:
    """Ten steps of the sampler over the first frames of the sentence."""
    model, device = pipeline.model, wave.device
    frames = min(frames, frames_for(wave.shape[1]) - 1)
    style = load_style("neutral", 1.0)
    noise = torch.randn(1, frames, COEFFICIENTS, generator=torch.Generator().manual_seed(0)).to(device)
    with torch.inference_mode():
        rows = model.condition(model.features(wave))
        spread = windows(rows, 0, frames)
    plain = lambda: model.sample_plain(spread, style, noise)  # noqa: E731
    exact = lambda: model.sample(rows, style, frames=range(frames), noise=noise)  # noqa: E731
    check = lambda: {"largest_error": differs("motion", exact(), plain(), 1e-4), "frames": frames}  # noqa: E731
    return Stage(PIPELINE, "motion", frames / FRAME_RATE, {"plain": plain, "exact": exact}, check)


def _render(pipeline: Pipeline, frames: int) -> Stage:
    """The warp renderer, 512 x 512."""
    portrait = load_portrait(asset("portrait.png"), landmarks=asset("portrait_landmarks.npz"), size=SIZE)
    renderer = WarpRenderer(portrait, pipeline.device)
    g = torch.Generator().manual_seed(0)
    pose = torch.zeros(frames, 9)
    motion = Motion(0.3 * torch.randn(frames, COEFFICIENTS, generator=g), pose, torch.zeros(frames))
    run = lambda: renderer.render(motion).cpu()  # noqa: E731
    return Stage(PIPELINE, "warp renderer", frames / FRAME_RATE, {"plain": run})


def begins(rounds: int = 3, device: str = "cpu") -> dict[str, float]:
    """How soon the bundled model, loaded, shows its first frame of the bundled sentence; medians, in seconds.

    file: from the call to the frame, the sound being a file. heard, computed, keeping_up: the sound coming in blocks,
    as `FirstFrame` defines them.
    """
    pipeline = load(device=device)
    sound = media.read_audio(asset("demo.flac"))
    found: dict[str, list[float]] = {"file": [], "heard": [], "computed": [], "keeping_up": []}
    for _ in range(rounds):
        start = time.perf_counter()
        next(iter(pipeline.stream(asset("demo.flac"))))
        found["file"].append(time.perf_counter() - start)
        for name, value in asdict(first_frame(pipeline, sound)).items():
            found[name].append(value)
    return {name: statistics.median(values) for name, values in found.items()}

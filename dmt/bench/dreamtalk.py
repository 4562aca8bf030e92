"""The stages of the DreamTalk drop-in at full size, with stand-in weights: the released ones are not public."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import get_args
from unittest import mock

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..config import SpeechConfig
from ..dreamtalk import DreamTalkDenoiser
from ..features import SpeechEncoder
from ..media import VideoWriter
from ..rates import FRAME_RATE, SAMPLE_RATE, WINDOW
from ..renderer.flow import FlowRenderer
from ..renderer.flow_blocks import ResidualBlock
from ..renderer.flow_fast import FastFlowRenderer, PortraitRenderer, without_tf32
from ..renderer.flow_frames import Precision, as_picture, fast_form
from ..renderer.flow_graph import GraphedRenderer
from .stage import Stage, differs

PIPELINE = "DreamTalk drop-in"
SIZE = 256
"""Pixels of the square picture, which the released renderer is made for."""
BATCH = 8
"""Frames that a GPU renders at once."""
STYLE = 256, 64
MOTION_WINDOW = 73, 27


def stages(frames: int = 128, seconds: float = 4.0, device: str = "cpu") -> Iterator[Callable[[], Stage]]:
    """In the order of the recipe; each is built when it is its turn, as their weights need not lie side by side."""
    yield partial(features_stage, seconds, device)
    for guidance in (1.0, 2.0):
        yield partial(denoiser_stage, guidance, frames, device)
    yield partial(renderer_stage, device=device)
    yield partial(encoder_stage, PIPELINE, SIZE)


def features_stage(seconds: float, device: str = "cpu") -> Stage:
    """wav2vec 2.0, large: 24 layers of width 1024."""
    torch.manual_seed(0)
    speech = SpeechEncoder(SpeechConfig(pretrained=None)).to(device).eval()
    wave = 0.1 * torch.randn(1, round(seconds * SAMPLE_RATE), device=device)
    return Stage(PIPELINE, "features", seconds, {"plain": lambda: speech(wave)})


def denoiser_stage(guidance: float, frames: int = 128, device: str = "cpu") -> Stage:
    """Ten steps of the sampler. Guidance s multiplies the two halves' roundings by s and s - 1."""
    torch.manual_seed(0)
    d = DreamTalkDenoiser().to(device)
    clip = torch.randn(1, frames, WINDOW, 1024), torch.randn(1, *STYLE), torch.zeros(1, STYLE[0]).bool()
    audio, style, padding = (t.to(device) for t in clip)
    noise = torch.randn(1, frames, STYLE[1]).to(device)

    def sample(plain: bool) -> Tensor:
        return d.sample(audio, style, padding, guidance=guidance, noise=noise, exact_path=plain)

    def check() -> dict[str, object]:
        limit = 2e-6 * (2 * guidance - 1)
        return {"largest_error": differs(name, sample(False), sample(True), limit), "frames": frames}

    name = f"denoiser, scale {guidance:g}"
    runs = {"plain": lambda: sample(True), "exact": lambda: sample(False)}
    return Stage(PIPELINE, name, frames / FRAME_RATE, runs, check)


def renderer_stage(
    renderer: FlowRenderer | None = None,
    portrait: Tensor | None = None,
    motion: Tensor | None = None,
    *,
    device: str = "cpu",
    all_low: bool = False,
) -> Stage:
    """One frame of the learned renderer, on a GPU eight at once; plain is the released network's work, the residual
    blocks' dead branch included. renderer: default, a random one; portrait [1, 3, H, W] and motion [B, 73, 27]:
    default, smooth noise. all_low: the flow in 16 bits too, as a path of its own."""
    torch.manual_seed(0)
    renderer = (FlowRenderer() if renderer is None else renderer).to(device).eval()
    g = torch.Generator().manual_seed(0)
    if portrait is None:
        coarse = torch.randn(1, 3, SIZE // 8, SIZE // 8, generator=g)
        portrait = torch.tanh(F.interpolate(coarse, (SIZE, SIZE), mode="bilinear"))
    frames = BATCH if device == "cuda" else 1
    motion = torch.randn(frames, *MOTION_WINDOW, generator=g) if motion is None else motion
    portrait, motion = portrait.to(device), motion.to(device)
    forms = {name: fast_form(renderer, name, device) for name in get_args(Precision)}
    if all_low:
        forms["fast, flow too"] = FastFlowRenderer(renderer, torch.bfloat16 if device == "cpu" else torch.float16)

    @torch.no_grad()
    def plain() -> Tensor:
        with mock.patch.object(ResidualBlock, "forward", ResidualBlock.forward_with_dead_branch):
            return renderer(portrait.expand(len(motion), -1, -1, -1), motion).image

    runs: dict[str, Callable[[], object]] = {"plain": plain}
    prepared = {name: form.to(device).prepare(portrait) for name, form in forms.items()}
    for name, form in forms.items():
        runs[name] = partial(_picture, form, prepared[name], motion)
    if device == "cuda":
        graphed = GraphedRenderer(forms["fast"], prepared["fast"], len(motion))
        runs["fast, graph"] = partial(_replayed, graphed, motion)

    def check() -> dict[str, object]:
        with without_tf32(device):
            reference = plain()
        pictures = {name: compared(run(), reference) for name, run in runs.items() if name != "plain"}
        limit = 1e-4 if device == "cuda" else 2e-5  # cuDNN has its choice of algorithms for every convolution
        return {"largest_error": differs("renderer", runs["exact"](), reference, limit), "pictures": pictures}

    return Stage(PIPELINE, "renderer", len(motion) / FRAME_RATE, runs, check)


def _replayed(graphed: GraphedRenderer, motion: Tensor) -> Tensor:
    return graphed(motion).image


def _picture(form: PortraitRenderer, prepared, motion: Tensor) -> Tensor:
    return form(prepared, motion).image


def compared(image: Tensor, reference: Tensor) -> dict[str, float]:
    """PSNR in dB and largest change of a value, of pictures of 8 bits."""
    difference = as_picture(image).float() - as_picture(reference).float()
    square = difference.square().mean().item()
    psnr = 10 * float(np.log10(255**2 / square)) if square else float("inf")
    return {"psnr_db": round(psnr, 2), "largest_change": int(difference.abs().max())}


def encoder_stage(pipeline: str, size: int, seconds: float = 1.0) -> Stage:
    """H.264, AAC and mp4 of pictures that move a little from one to the next."""
    frames = round(seconds * FRAME_RATE)
    random = np.random.default_rng(0)
    big = np.kron(random.integers(0, 256, (size // 8 + frames, size // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    film = np.stack([big[i : i + size, :size] for i in range(frames)])
    sound = (0.1 * random.standard_normal((round(seconds * SAMPLE_RATE), 1))).astype(np.float32)

    def write() -> None:
        with (
            tempfile.TemporaryDirectory() as folder,
            VideoWriter(Path(folder) / "film.mp4", size, size) as writer,
        ):
            writer.write(film)
            writer.write_audio(sound)

    return Stage(pipeline, "encoder", seconds, {"plain": write})

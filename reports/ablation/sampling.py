"""Motion of a trained variant for held-out clips, with the kept share of every threshold at every diffusion step."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import torch
from safetensors import safe_open
from torch import Tensor, nn

from dmt.denoiser import Denoiser
from dmt.diffusion import SmoothNoise
from dmt.diffusion.samplers import ddim
from dmt.face.styles import load_style
from dmt.model import MotionModel
from dmt.rates import ROWS_PER_FRAME, STYLE_FRAMES
from dmt.types import StyleClip

from .masks import masks
from .training import Workplace

STEPS = 10
PORTION = 8
"""Clips sampled at once."""

FRAMES = 100
"""Of each synthetic clip that is sampled, 4 s of its 8."""

NOISES = 4
"""Starting noises for the one filmed speaker, whose measures are averaged over them."""


@dataclass(frozen=True)
class Part:
    """Held-out clips. rows [N, R, D]; coefficients [N, T, 64]; style [N, S, 64], None for the bundled neutral one;
    lips [N, T, 2] and closures [M, 3] as `Corpus` has them, None for filmed clips."""

    rows: Tensor
    coefficients: Tensor
    style: Tensor | None
    lips: Tensor | None
    closures: Tensor | None

    @property
    def frames(self) -> int:
        whole = min(self.rows.shape[1] // ROWS_PER_FRAME, self.coefficients.shape[1])
        return whole if self.closures is None else min(whole, FRAMES)

    @staticmethod
    def load(place: Workplace, name: str, condition: str) -> Part | None:
        """The part `voices`, `languages` or `english`; None where it was not prepared."""
        with safe_open(place.held_out, "pt") as file:
            if f"{name}_{condition}" not in file.keys():  # noqa: SIM118 (safe_open is no mapping)
                return None
            own = {k: file.get_tensor(f"{name}_{k}") for k in (condition, "coefficients")}
            rest = ("style", "lips", "closures")
            others = [file.get_tensor(f"{name}_{k}") if name != "english" else None for k in rest]
        return Part(own[condition].float(), own["coefficients"].float(), *others)


class KeptShares:
    """Collects the share of live elements: of thresholds from what they note, of ordinary layers by counting zeros.

    Watched are all thresholds in the decoders and in what makes their memory, by name; without thresholds the
    decoders' hidden layers, under the names that thresholds there would have.
    """

    def __init__(self, denoiser: Denoiser) -> None:
        self.sums: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        self.counts: dict[int, int] = defaultdict(int)
        decoder = denoiser.decoder
        self._masks = masks(decoder)
        self._counted: dict[str, Tensor] = {}
        if not self._masks:
            for name, layer in decoder.named_modules():
                if name.endswith("linear2"):
                    layer.register_forward_pre_hook(self._counter(name.replace("linear2", "hidden_threshold")))
        else:
            memory = {n: mask for n, mask in masks(denoiser).items() if n.startswith("memory_thresholds")}
            self._masks |= memory

    def _counter(self, name: str):
        def count(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            self._counted[name] = (inputs[0] != 0).float().mean()

        return count

    def note(self, t: int) -> None:
        """Take in what the step at time t left."""
        self.counts[t] += 1
        for name, share in self._counted.items() or ((n, s.kept) for n, s in self._masks.items()):
            self.sums[name][t] += float(share)

    def table(self) -> dict[str, dict[str, float]]:
        """site -> diffusion time -> mean share."""
        return {n: {str(t): v / self.counts[t] for t, v in rows.items()} for n, rows in self.sums.items()}


@torch.inference_mode()
def sample(model: MotionModel, part: Part, kept: KeptShares | None = None) -> Tensor:
    """Coefficients [N, T, 64] of every clip of `part`, as `MotionModel.sample` makes them, each from its own noise."""
    made = [_portion(model, part, slice(i, i + PORTION), kept) for i in range(0, len(part.rows), PORTION)]
    return torch.cat(made)


@torch.inference_mode()
def sample_filmed(model: MotionModel, part: Part) -> Tensor:
    """The one filmed clip from several noises, [NOISES, T, 64]."""
    rows = part.rows.expand(NOISES, -1, -1)
    return _run(model, rows, load_style("neutral"), part.frames, 0, None)


def _portion(model: MotionModel, part: Part, clips: slice, kept: KeptShares | None) -> Tensor:
    style = part.style[clips].float()
    padded = nn.functional.pad(style, (0, 0, 0, STYLE_FRAMES - style.shape[1]))
    clip = StyleClip(padded, torch.arange(STYLE_FRAMES).expand(len(style), -1) >= style.shape[1])
    return _run(model, part.rows[clips], clip, part.frames, clips.start, kept)


def _run(model: MotionModel, rows: Tensor, style: StyleClip, frames: int, seed: int, kept: KeptShares | None) -> Tensor:
    clips = len(rows)
    noise = torch.stack([SmoothNoise(torch.Generator().manual_seed(seed + i)).next(frames) for i in range(clips)])
    coefficients = model.normalise(style.coefficients.expand(clips, -1, -1))
    prepared = model.denoiser.prepare_rows(rows, 0, frames, coefficients, style.padding.expand(clips, -1))

    def denoise(x: Tensor, t: int) -> Tensor:
        out = model.denoiser.step(prepared, x, torch.full((clips,), t))
        if kept is not None:
            kept.note(t)
        return out

    return model.denormalise(ddim(denoise, noise, model.schedule, STEPS))

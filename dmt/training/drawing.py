"""What a step of the paper's schedule sees, drawn for the whole batch and cut into parts afterwards.

Small numbers only: sound and coefficients are fetched by whoever computes the part. So ranks draw the same batch, each
takes its share, and the step does not depend on how many share it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ..model import Chance, MotionModel
from .clips import ClipSet
from .config import StageConfig

MARGIN = 3
"""Frames at either end of a crop whose windows would reach beyond it; drawn only where the crop is too short."""

SHORTEST_STYLE = 48
"""Frames of the shortest style clip shown in training."""


@dataclass(frozen=True)
class Draw:
    """clips [B]; first [B], first frame of each crop; frames [B, L], pairs of neighbours; chance of the diffusion;
    style [B, 3]: chances for the choice of the style clip, its length and its beginning;
    crop: frames of every crop of this step."""

    clips: Tensor
    first: Tensor
    frames: Tensor
    style: Tensor
    chance: Chance
    crop: int

    def split(self, parts: int) -> list[Draw]:
        """Equal parts of the batch, in order."""
        names = ("clips", "first", "frames", "style")
        pieces = {name: getattr(self, name).chunk(parts) for name in names}
        chances = {f.name: getattr(self.chance, f.name).chunk(parts) for f in fields(Chance)}
        return [
            Draw(
                **{name: pieces[name][i] for name in names},
                chance=Chance(**{name: chances[name][i] for name in chances}),
                crop=self.crop,
            )
            for i in range(parts)
        ]


def draw(
    model: MotionModel, clips: ClipSet, chosen: Tensor, settings: StageConfig, crop: int, generator: torch.Generator
) -> Draw:
    """The step's batch from the clips `chosen` [B]; crops of `crop` frames, or of the shortest clip's."""
    lengths = clips.frames[chosen]
    crop = min(crop, int(lengths.min()))
    first = (torch.rand(len(chosen), generator=generator) * (lengths - crop + 1)).long()
    margin = MARGIN if crop > 2 * MARGIN + 2 else 0
    places = crop - 2 * margin - 1
    pairs = margin + torch.randint(places, (len(chosen), settings.frames // 2), generator=generator)
    frames = first[:, None] + torch.stack([pairs, pairs + 1], dim=-1).flatten(1)
    style = torch.rand(len(chosen), 3, generator=generator)
    chance = model.draw_chance(len(chosen), frames.shape[1], generator=generator)
    return Draw(chosen, first, frames, style, chance, crop)


def style_clips(clips: ClipSet, part: Draw, length: int) -> tuple[Tensor, Tensor]:
    """A stretch of each clip's style, or of a relative's motion: [B, length, 64], padding [B, length]."""
    styles = torch.zeros(len(part.clips), length, clips[0].coefficients.shape[1])
    padding = torch.ones(len(part.clips), length, dtype=torch.bool)
    for row, (index, (which, size, where)) in enumerate(zip(part.clips.tolist(), part.style.tolist(), strict=True)):
        clip = clips[index]
        shown = clip.style if clip.style is not None else clips[clips.relative(index, which)].coefficients
        longest = min(length, len(shown))
        shortest = min(SHORTEST_STYLE, longest)
        frames = shortest + int(size * (longest - shortest + 1))
        start = int(where * (len(shown) - frames + 1))
        styles[row, :frames] = torch.from_numpy(shown[start : start + frames])
        padding[row, :frames] = False
    return styles, padding

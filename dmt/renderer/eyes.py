"""Lids that close: the skin between crease and lashes is stretched down over a still eyeball."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .anatomy import (
    LEFT_BROW_EDGE,
    LEFT_LOWER_LID,
    LEFT_UPPER_LID,
    RIGHT_BROW_EDGE,
    RIGHT_LOWER_LID,
    RIGHT_UPPER_LID,
    Anatomy,
)
from .field import interpolate, normalised, smoothstep

_LIDS = (
    (RIGHT_UPPER_LID, RIGHT_LOWER_LID, RIGHT_BROW_EDGE),
    (LEFT_UPPER_LID, LEFT_LOWER_LID, LEFT_BROW_EDGE),
)
_AROUND = ((224, 223, 222, 225, 113, 226, 111, 117), (444, 443, 442, 445, 342, 446, 340, 346))
_UNSEEN = 0.01
"""Closures under this are not drawn."""


class Lid:
    """One eye of one portrait, in a frame whose x runs from corner to corner."""

    def __init__(self, image: Tensor, anatomy: Anatomy, which: int, device: torch.device) -> None:
        """which: 0 the viewer's left eye, 1 the right."""
        upper, lower, brow = (anatomy.landmarks[list(index), :2] for index in _LIDS[which])
        first, last = upper[0], upper[-1]
        self._length = float(torch.linalg.vector_norm(last - first))
        across = (last - first) / self._length
        down = torch.stack([-across[1], across[0]])
        self._origin, self._across, self._down = (t.to(device) for t in (first, across, down))

        def curve(points: Tensor) -> tuple[Tensor, Tensor]:
            d = points - first
            knots, order = (d @ across).sort()
            return knots.to(device), (d @ down)[order].to(device)

        self._upper, self._lower = curve(upper), curve(lower)
        # Half way up to the brow the skin stays where it is: there, or just under it, is the crease.
        lid_top = float((upper[2:7] - first).mv(down).mean())
        brow_edge = float((brow - first).mv(down).mean())
        self._strip = min(max(0.62 * (lid_top - brow_edge), 0.05 * anatomy.unit), 0.16 * anatomy.unit)
        margin = 0.12 * anatomy.unit
        points = torch.cat([upper, lower])
        self.low, self.high = points.amin(0) - margin, points.amax(0) + margin
        self.low[1] -= self._strip
        self._unit = anatomy.unit
        # The skin between lid and brow and at the eye's outer side.
        around = anatomy.landmarks[list(_AROUND[which]), :2]
        self._tone = _skin_tone(image, around.to(image.device)).to(device)

    def draw(
        self, frame: Tensor, image: Tensor, source: Tensor, closure: float, box: tuple[int, int, int, int]
    ) -> None:
        """Lower the lid over `closure` (0..1) of the eye, in place, in a box of frame [3, H, W].

        image [3, H, W]: the portrait; source [2, h, w]: backward map of the head's sheet.
        """
        x0, y0, x1, y1 = box
        if closure < _UNSEEN or x1 - x0 < 2 or y1 - y0 < 2:
            return
        height, width = frame.shape[1:]
        y, x = torch.meshgrid(
            torch.arange(y0, y1, device=frame.device, dtype=frame.dtype),
            torch.arange(x0, x1, device=frame.device, dtype=frame.dtype),
            indexing="ij",
        )
        at = normalised(torch.stack([x, y])[None], height, width)
        rest = F.grid_sample(source[None], at, padding_mode="border", align_corners=True)[0]
        d = rest - self._origin[:, None, None]
        u = (d * self._across[:, None, None]).sum(0)
        v = (d * self._down[:, None, None]).sum(0)
        top, bottom = interpolate(u, *self._upper), interpolate(u, *self._lower)
        inside = smoothstep(u / (0.06 * self._length)) * smoothstep((self._length - u) / (0.06 * self._length))
        fall = closure * (bottom - top).clamp_min(0) * inside
        along = v - (top - self._strip)
        t = self._unstretch(along.clamp_min(0), fall)
        original = torch.where(along > 0, top - self._strip + self._strip * t, v)
        offset = original - v
        moved = rest + offset * self._down[:, None, None]
        skin = F.grid_sample(image[None], normalised(moved[None], height, width), align_corners=True)[0]
        edge = top + fall
        cover = ((edge - v) / 1.2 + 0.5).clamp(0, 1) * (fall > 0.25)
        skin = self._shade(skin, t, fall)
        patch = frame[:, y0:y1, x0:x1]
        patch.copy_(patch + cover * (skin - patch))

    def _unstretch(self, along: Tensor, fall: Tensor) -> Tensor:
        """Share t of the strip that lies `along` pixels below its top when the lid's edge has sunk by `fall`.

        strip t + fall s(t) = along with s the smoothstep: the crease and the lashes keep their shape,
        the skin between them unfolds. Beyond the edge everything sinks alike.
        """
        t = (along / (self._strip + fall)).clamp(0, 1)
        for _ in range(4):
            value = self._strip * t + fall * t * t * (3 - 2 * t) - along
            slope = self._strip + fall * 6 * t * (1 - t)
            t = (t - value / slope).clamp(0, 1)
        return torch.where(along > self._strip + fall, (along - fall) / self._strip, t)

    def _shade(self, skin: Tensor, t: Tensor, fall: Tensor) -> Tensor:
        """An unfolded lid is smooth and catches light: its middle takes on the tone of the skin around."""
        share = (fall / (0.06 * self._unit)).clamp(0, 1)
        middle = smoothstep(t / 0.35) * smoothstep((0.97 - t) / 0.22)
        skin = skin + 0.75 * share * middle * (self._tone[:, None, None] - skin)
        line = torch.exp(-(((t - 1) / 0.10) ** 2))
        return skin * (1 - 0.35 * share * line)


def _skin_tone(image: Tensor, points: Tensor) -> Tensor:
    """Median colour [3] at points [n, 2] (x, y) of image [3, H, W]."""
    x = points[:, 0].round().long().clamp(0, image.shape[2] - 1)
    y = points[:, 1].round().long().clamp(0, image.shape[1] - 1)
    return image[:, y, x].median(1).values


def lids(image: Tensor, anatomy: Anatomy, device: torch.device) -> tuple[Lid, Lid]:
    """The viewer's left eye and the right one; image [3, H, W] in 0..1."""
    return Lid(image, anatomy, 0, device), Lid(image, anatomy, 1, device)

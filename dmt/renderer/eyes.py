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
_UNSEEN = 0.01
"""Closures under this are not drawn."""


class Lid:
    """One eye of one portrait, in a frame whose x runs from corner to corner."""

    def __init__(self, anatomy: Anatomy, which: int, device: torch.device):
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
        # v = start + strip t + fall t^2, solved for t; t = 1 is the lid's edge.
        along = (v - (top - self._strip)).clamp_min(0)
        t = 2 * along / (self._strip + torch.sqrt(self._strip**2 + 4 * fall * along))
        original = torch.where(t > 0, top - self._strip + self._strip * t, v)
        offset = original - v
        moved = rest + offset * self._down[:, None, None]
        skin = F.grid_sample(image[None], normalised(moved[None], height, width), align_corners=True)[0]
        edge = top + fall
        cover = ((edge - v) / 1.2 + 0.5).clamp(0, 1) * (fall > 0.25)
        skin = skin * self._shade(v, edge, fall, closure)
        patch = frame[:, y0:y1, x0:x1]
        patch.copy_(patch + cover * (skin - patch))

    def _shade(self, v: Tensor, edge: Tensor, fall: Tensor, closure: float) -> Tensor:
        """The lid is round and its lashes dark: a soft line along the edge, a little light on the ball."""
        share = (fall / (0.04 * self._unit)).clamp(0, 1)
        line = torch.exp(-(((edge - v) / (0.012 * self._unit + 0.6)) ** 2))
        return 1 - share * 0.45 * min(1.0, closure * 1.3) * line


def lids(anatomy: Anatomy, device: torch.device) -> tuple[Lid, Lid]:
    """The viewer's left eye and the right one."""
    return Lid(anatomy, 0, device), Lid(anatomy, 1, device)

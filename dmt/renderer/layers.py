"""The moving sheets of one portrait: everything above the mouth line, everything below it.

Each sheet is a smooth displacement of the whole picture; they differ only around the lips, where
the line between the lips is a crack: the upper sheet ignores the lower lip, the lower the upper.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..face.basis import LandmarkBasis
from .anatomy import LOWER_LIP_RINGS, MESH, UPPER_LIP_RINGS, Anatomy, Surroundings, surroundings
from .driver import Movement
from .field import FOLD_LIMIT, border_window, compression, gradient, grid_nodes, invert, ring_window, thin_plate

CELL = 4.0
"""Pixels between grid nodes at 512 pixels; scales with the picture."""


RIGID_SMOOTHING = 2e-2
"""Depth measured along the face's outline is rough; a turning head must not show it."""


class Sheets:
    """`sources(movement)`: where every grid node of each frame comes from, on both sheets."""

    def __init__(self, anatomy: Anatomy, basis: LandmarkBasis, height: int, width: int, device: torch.device) -> None:
        self.height, self.width = height, width
        nodes = grid_nodes(height, width, CELL * max(1.0, max(height, width) / 512))
        self.nodes = nodes.to(device)
        lm = anatomy.landmarks[:MESH]
        around = surroundings(anatomy, basis.contours["oval"])
        outline = lm[basis.contours["oval"]]
        centre = outline.mean(0)
        edge = border_window(nodes, height, width, 0.35 * anatomy.unit)
        shape = (centre[:2], outline[:, :2])
        near, far = ring_window(nodes, *shape, 1.25, 1.75), ring_window(nodes, *shape, 1.7, 2.5)
        self._expression = torch.stack(
            [
                _expression_operator(anatomy, around, nodes, near * edge, skipped)
                for skipped in (LOWER_LIP_RINGS, UPPER_LIP_RINGS)
            ]
        ).to(device)  # [2, M, 468]
        points = torch.cat([lm, around.points])
        weight = torch.cat([torch.ones(len(lm)), around.weight])
        operator = thin_plate(points[:, :2], nodes.reshape(-1, 2), anatomy.unit, smoothing=RIGID_SMOOTHING)
        arms = weight[:, None] * (points - anatomy.pivot)
        self._arms = ((far * edge).reshape(-1, 1) * (operator @ arms)).to(device)  # [M, 3]

    def sources(self, movement: Movement) -> Tensor:
        """Backward maps [T, 2 (upper, lower sheet), 2 (x, y), h, w] in pixels, free of folds."""
        count = len(movement.shift)
        h, w, _ = self.nodes.shape
        moved = movement.shift @ movement.rotation[:, :2].mT  # [T, 468, 2]: expression on the turned head
        flat = moved.permute(1, 0, 2).reshape(MESH, -1)
        expression = (self._expression @ flat).reshape(2, h, w, count, 2).permute(3, 0, 4, 1, 2)
        turn = movement.rotation[:, :2] - torch.eye(3, device=flat.device)[:2]
        rigid = (turn @ self._arms.T).reshape(count, 1, 2, h, w)
        field = (expression + rigid).reshape(-1, 2, h, w)
        strength = compression(gradient(field, self.height, self.width)).reshape(count, 2).amax(1)
        scale = FOLD_LIMIT / strength.clamp_min(FOLD_LIMIT)
        field = field * scale.repeat_interleave(2)[:, None, None, None]
        return invert(field, self.nodes, self.height, self.width).reshape(count, 2, 2, h, w)


def _expression_operator(
    anatomy: Anatomy, around: Surroundings, nodes: Tensor, window: Tensor, skipped: tuple
) -> Tensor:
    """[M, 468]: landmark shifts -> shift at every node, for the sheet that ignores `skipped` points."""
    missing = {point for ring in skipped for point in ring}
    kept = torch.tensor([i for i in range(MESH) if i not in missing])
    points = torch.cat([anatomy.landmarks[kept], around.points])[:, :2]
    operator = thin_plate(points, nodes.reshape(-1, 2), anatomy.unit)
    full = torch.zeros(len(operator), MESH)
    full[:, kept] = operator[:, : len(kept)]
    # The skin under the chin follows it in part.
    jaw = operator[:, len(kept) :] @ around.jaw
    chin = torch.tensor([152, 148, 377])
    full[:, chin] += jaw[:, None] / len(chin)
    return full * window.reshape(-1, 1)

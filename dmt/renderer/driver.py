"""From motion to landmark movement: expression relative to the portrait's own, limits, contact, lids."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..face.basis import LandmarkBasis
from ..types import Motion
from .anatomy import (
    JAW,
    LEFT_LOWER_LID,
    LEFT_UPPER_LID,
    LOWER_LIP_RINGS,
    MESH,
    RIGHT_LOWER_LID,
    RIGHT_UPPER_LID,
    UPPER_LIP_RINGS,
    Anatomy,
)

MAX_ANGLE = 0.42
"""Radians that a turn of the head approaches and never passes; a picture has no side view."""
MAX_SHIFT = 0.40
"""Eye distances that an expression may carry a point, approached softly."""
_CONTACT = (1.0, 0.9, 0.6, 0.3)
"""How much of the lips' contact correction each ring of lip points takes."""


@dataclass(frozen=True)
class Movement:
    """One chunk of frames, in pixels of the portrait.

    shift [T, 468, 3]: landmark movement by expression, before the head turns;
    rotation [T, 3, 3]: of the head about `Anatomy.pivot`; closure [T, 2]: share of each eye
    (viewer's left, right) that the upper lid covers; jaw [T, 3]: movement of the jaw bone.
    """

    shift: Tensor
    rotation: Tensor
    closure: Tensor
    jaw: Tensor


class Driver:
    """Turns `Motion` into `Movement` for one portrait."""

    def __init__(self, anatomy: Anatomy, basis: LandmarkBasis, device: torch.device) -> None:
        # [64, 468 * 3]: displacements in the portrait's axes and pixels
        turned = basis.basis[:, :MESH] @ anatomy.frame.T * anatomy.unit
        self._basis = turned.reshape(len(turned), -1).to(device)
        self._own = anatomy.own.to(device)
        self._unit = anatomy.unit
        self._down = anatomy.frame[:, 1].to(device)
        self._rest = anatomy.landmarks[:MESH].to(device)

    def __call__(self, motion: Motion) -> Movement:
        """[T] frames of motion -> [T] frames of movement."""
        device = self._basis.device
        expression = motion.expression.to(device, torch.float32)
        shift = ((expression - self._own) @ self._basis).reshape(len(expression), MESH, 3)
        shift = self._limit(shift)
        shift = self._touch(shift)
        shift, closure = self._lids(shift, motion.blink.to(device, torch.float32))
        return Movement(shift, rotation(motion.pose.to(device, torch.float32)), closure, shift[:, list(JAW)].mean(1))

    def _limit(self, shift: Tensor) -> Tensor:
        """Shorten long shifts: identity up to half the limit, then bending towards it."""
        limit = MAX_SHIFT * self._unit
        length = torch.linalg.vector_norm(shift, dim=-1, keepdim=True).clamp_min(1e-6)
        knee = 0.6 * limit
        bent = knee + (limit - knee) * torch.tanh((length - knee) / (limit - knee))
        return shift * torch.where(length > knee, bent / length, torch.ones_like(length))

    def _touch(self, shift: Tensor) -> Tensor:
        """Lips that would pass through one another meet halfway instead."""
        down = self._down
        upper, lower = list(UPPER_LIP_RINGS[0]), list(LOWER_LIP_RINGS[0])
        gap = ((self._rest[lower] - self._rest[upper]) @ down).clamp_min(0)  # [9]
        now = gap + (shift[:, lower] - shift[:, upper]) @ down  # [T, 9]
        correction = 0.5 * (-now).clamp_min(0)[..., None] * down  # [T, 9, 3]
        shift = shift.clone()
        for share, up, low in zip(_CONTACT, UPPER_LIP_RINGS, LOWER_LIP_RINGS, strict=True):
            shift[:, list(up)] -= share * correction
            shift[:, list(low)] += share * correction
        return shift

    def _lids(self, shift: Tensor, blink: Tensor) -> tuple[Tensor, Tensor]:
        """Split the upper lids' movement: what lowers them becomes closure, what raises them stays.

        The lowered lid slides over the eyeball (see eyes.py); if it moved the sheet of pixels it
        would squash the iris.
        """
        down = self._down
        closures, shift = [], shift.clone()
        for upper, lower in ((RIGHT_UPPER_LID, RIGHT_LOWER_LID), (LEFT_UPPER_LID, LEFT_LOWER_LID)):
            middle_up, middle_low = list(upper[3:6]), list(lower[3:6])
            own = ((self._rest[middle_low] - self._rest[middle_up]) @ down).mean().clamp_min(0.02 * self._unit)
            change = ((shift[:, middle_low] - shift[:, middle_up]) @ down).mean(1)  # [T], + opens
            openness = (1 + change / own).clamp(0.1, 1.0)
            closures.append(1 - openness * (1 - blink.clamp(0, 1)))
            raised = (change.clamp(min=0) / own).clamp(max=0.35) * own * (1 - blink.clamp(0, 1))
            corners = shift[:, [upper[0], upper[-1]]].mean(1, keepdim=True)
            profile = torch.sin(torch.linspace(0, torch.pi, len(upper), device=shift.device))
            shift[:, list(upper)] = corners - raised[:, None, None] * profile[:, None] * down
            low = list(lower[1:-1])
            lift = (shift[:, low] - corners) @ down
            shift[:, low] = corners + lift.clamp(-0.25 * own, 0.1 * own)[..., None] * down
        return shift, torch.stack(closures, 1)


def rotation(pose: Tensor) -> Tensor:
    """Pose rows [T, 9] -> head rotations [T, 3, 3] on image axes, each angle softly limited.

    M = Rz(z) Ry(y) Rx(x) with x = angle 0, y = -angle 1, z = -angle 2.
    """
    angle = MAX_ANGLE * torch.tanh(pose[:, :3] / MAX_ANGLE)
    x, y, z = angle[:, 0], -angle[:, 1], -angle[:, 2]
    one, nil = torch.ones_like(x), torch.zeros_like(x)
    (sx, cx), (sy, cy), (sz, cz) = ((torch.sin(a), torch.cos(a)) for a in (x, y, z))
    rx = torch.stack([one, nil, nil, nil, cx, -sx, nil, sx, cx], 1).reshape(-1, 3, 3)
    ry = torch.stack([cy, nil, sy, nil, one, nil, -sy, nil, cy], 1).reshape(-1, 3, 3)
    rz = torch.stack([cz, -sz, nil, sz, cz, nil, nil, nil, one], 1).reshape(-1, 3, 3)
    return rz @ ry @ rx

"""A talking head without weights: the portrait's own pixels, moved.

Coefficients move landmarks (face.basis), landmarks move two smooth sheets (layers.py), the sheets
move the picture; the mouth's inside is drawn where the lips part (mouth.py) and the lids slide over
the eyes (eyes.py). Everything is torch and the same on CPU and GPU.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..face.basis import LandmarkBasis, neutral_mean
from ..types import Motion, Portrait
from .anatomy import MESH, Anatomy
from .crew import Crew
from .driver import Driver, Movement
from .eyes import lids
from .field import normalised
from .layers import Sheets
from .mouth import Mouth

CHUNK = 8
"""Frames that a thread works on at once; more do not make it faster and cost memory."""


class WarpRenderer:
    """Renders motion with one portrait; everything that does not move is prepared here once.

    portrait: image [H, W, 3] uint8 of any size (even odd ones), landmarks [478, 3] pixels.
    ValueError for other shapes. Columns 3:9 of the pose (translation, crop) are not used:
    they place a head inside a camera's frame, and this head stays in its portrait. The angles
    turn the head away from the pose it was photographed in.
    """

    def __init__(self, portrait: Portrait, device: torch.device | str = "cpu") -> None:
        if portrait.image.ndim != 3 or portrait.image.shape[2] != 3 or portrait.image.dtype != np.uint8:
            raise ValueError(f"expected a uint8 RGB portrait [H, W, 3], got {portrait.image.shape}")
        if portrait.landmarks.shape != (478, 3):
            raise ValueError(f"expected landmarks [478, 3], got {portrait.landmarks.shape}")
        self.device = torch.device(device)
        self.height, self.width = portrait.image.shape[:2]
        basis = LandmarkBasis.load()
        self.anatomy = Anatomy.of(torch.as_tensor(portrait.landmarks).float().cpu(), basis, neutral_mean())
        picture = torch.from_numpy(np.array(portrait.image)).permute(2, 0, 1).float() / 255
        self._image = picture.to(self.device)
        self._driver = Driver(self.anatomy, basis, self.device)
        self._sheets = Sheets(self.anatomy, basis, self.height, self.width, self.device)
        self._mouth = Mouth(self._image, self.anatomy, self.device)
        self._lids = lids(self._image, self.anatomy, self.device)
        self._rest = self.anatomy.landmarks[:MESH].to(self.device)
        self._pivot = self.anatomy.pivot.to(self.device)
        self._side = self._mouth.side[None, None]
        self._crew = Crew() if self.device.type == "cpu" else Crew(1)  # another device works on frames in turn

    @torch.no_grad()
    def render(self, motion: Motion) -> Tensor:
        """Frames uint8 [T, H, W, 3] for T frames of motion; each depends on its own row alone.

        ValueError when the motion holds numbers that are not finite.
        """
        if not all(bool(torch.isfinite(t).all()) for t in (motion.expression, motion.pose[:, :3], motion.blink)):
            raise ValueError("the motion holds numbers that are not finite")
        frames = torch.empty(len(motion), self.height, self.width, 3, dtype=torch.uint8, device=self.device)

        def fill(rows: slice) -> None:
            part = Motion(motion.expression[rows], motion.pose[rows], motion.blink[rows])
            frames[rows] = self._chunk(self._driver(part))

        self._crew.share(fill, len(motion), CHUNK)
        return frames

    def stream(self, motions: Iterable[Motion]) -> Iterator[Tensor]:
        """Pieces of motion as they come -> their frames, uint8 [t, H, W, 3]."""
        for motion in motions:
            yield self.render(motion)

    def _chunk(self, movement: Movement) -> Tensor:
        sources = self._sheets.sources(movement)  # [T, 2, 2, h, w]
        out = torch.empty(len(sources), self.height, self.width, 3, dtype=torch.uint8, device=self.device)
        for index, maps in enumerate(sources):
            frame = self._warp(maps)
            self._draw_eyes(frame, maps, movement, index)
            self._draw_mouth(frame, maps, movement, index)
            out[index] = (frame * 255).round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)
        return out

    def _warp(self, maps: Tensor) -> Tensor:
        """The whole picture [3, H, W]: the sheets' maps melt into one across the mouth line."""
        above = F.grid_sample(self._side, normalised(maps[:1], self.height, self.width), align_corners=True)[0]
        joined = above * maps[0] + (1 - above) * maps[1]
        fine = F.interpolate(joined[None], size=(self.height, self.width), mode="bilinear", align_corners=True)
        at = normalised(fine, self.height, self.width)
        return F.grid_sample(self._image[None], at, padding_mode="border", align_corners=True)[0]

    def _forward(self, points: Tensor, movement: Movement, index: int) -> Tensor:
        """Rest points [n, 3] (already shifted by the expression) -> pixels [n, 2] on the turned head."""
        return ((points - self._pivot) @ movement.rotation[index].T + self._pivot)[:, :2]

    def _draw_mouth(self, frame: Tensor, maps: Tensor, movement: Movement, index: int) -> None:
        mapped = self._forward(self._rest + movement.shift[index], movement, index)
        turn = movement.rotation[index]
        teeth = self._forward(self._mouth.teeth.to(self.device)[None], movement, index)[0]
        jaw = (turn @ movement.jaw[index])[:2]
        across = (turn @ self.anatomy.frame[:, 0].to(self.device))[:2]
        across = across / torch.linalg.vector_norm(across)
        self._mouth.draw(frame, maps, self._mouth.view(mapped, teeth, jaw, across))

    def _draw_eyes(self, frame: Tensor, maps: Tensor, movement: Movement, index: int) -> None:
        for which, lid in enumerate(self._lids):
            closure = float(movement.closure[index, which])
            depth = self.anatomy.landmarks[33 if which == 0 else 263, 2]
            corners = torch.stack(
                [torch.stack([x, y, depth]) for x in (lid.low[0], lid.high[0]) for y in (lid.low[1], lid.high[1])]
            )
            moved = self._forward(corners.to(self.device), movement, index)
            low, high = moved.amin(0).tolist(), moved.amax(0).tolist()
            box = (
                max(0, int(low[0])),
                max(0, int(low[1])),
                min(self.width, int(high[0]) + 2),
                min(self.height, int(high[1]) + 2),
            )
            lid.draw(frame, self._image, maps[0], closure, box)

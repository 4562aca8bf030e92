"""The paper's dynamic threshold in time: frames that hardly change reuse what the last key frame computed.

Where the motion descriptor has moved since the last key frame by less than theta' * mu, with mu the
running mean of how far it moves from one frame to the next (equations 5 and 6, over time instead of
over features), the key frame is reused instead of computing another. Two forms:

- "frame": the key frame's picture is shown again, at the cost of the descriptor alone;
- "carry": a new flow, and what the editing network (nine tenths of a frame's work) added to the warped
  portrait in the key frame, moved along that flow. Motion stays fluid, but pictures lose more.

On the 414 frames of a published run "frame" is ahead at every speed: 1.4 times faster at 43 dB, 2.2 times at
38 dB, 3 times at 35 dB (benchmarks/temporal_reuse.py; carry: 1.7 times at 37 dB, 2 times at 36 dB). For scale,
neighbouring frames of that run are 35 dB apart. A face that does not move costs nothing in either form.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import InputError
from .flow import Rendered, sampling_positions, warp
from .flow_fast import PortraitRenderer, PreparedPortrait

Decision = Literal["key", "reuse", "repeat"]
"""key: compute everything; reuse: near the key frame; repeat: exactly the key frame again."""

Form = Literal["frame", "carry"]


@dataclass
class TemporalReuse:
    """Decides, frame after frame, how much of a frame must be computed.

    theta: allowed movement in units of the mean movement between frames; 0 computes whatever moves.
    alpha: decay of that mean, as for the paper's feature thresholds. Causal: frame t sees frames 0 .. t.
    """

    theta: float
    alpha: float = 0.9
    mean: float | None = None
    counts: dict[str, int] = field(default_factory=lambda: {"key": 0, "reuse": 0, "repeat": 0})
    _last: Tensor | None = None
    _key: Tensor | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.theta < float("inf"):
            raise InputError(f"reuse must be a number from 0 up (0 computes every frame in full), got {self.theta}")
        if not 0 <= self.alpha < 1:
            raise InputError(f"the decay of the mean movement must be from 0 to below 1, got {self.alpha}")

    def decide(self, descriptor: Tensor) -> Decision:
        """What to do for the frame with this descriptor [D]."""
        decision = self._decide(descriptor)
        self._last = descriptor
        if decision == "key":
            self._key = descriptor
        self.counts[decision] += 1
        return decision

    def _decide(self, descriptor: Tensor) -> Decision:
        if self._last is None or self._key is None:
            return "key"
        moved = _distance(descriptor, self._last)
        self.mean = moved if self.mean is None else self.alpha * self.mean + (1 - self.alpha) * moved
        distance = _distance(descriptor, self._key)
        if distance == 0:
            return "repeat"
        return "reuse" if distance < self.theta * self.mean else "key"


class ReusingRenderer:
    """One portrait's frames in order, each with as little work as `TemporalReuse` allows."""

    def __init__(
        self,
        renderer: PortraitRenderer,
        portrait: PreparedPortrait,
        reuse: TemporalReuse,
        form: Form = "frame",
    ) -> None:
        self.renderer, self.portrait, self.reuse, self.form = renderer, portrait, reuse, form
        self._key: Rendered | None = None

    @torch.no_grad()
    def render(self, window: Tensor) -> Rendered:
        """Motion window [1, 73, 27] of the next frame -> its `Rendered`, batch of 1."""
        # One window at a time, so that the cut of a stream into blocks cannot change a rounding here.
        descriptor = self.renderer.describe(window)
        decision = self.reuse.decide(descriptor[0])
        if decision == "key":
            self._key = self.renderer.render(self.portrait, descriptor)
        elif decision == "reuse" and self.form == "carry":
            flow = self.renderer.flow(self.portrait, self.renderer.modulations(descriptor))
            return carried(self._key, self.portrait.image, flow)
        return self._key


def carried(key: Rendered, portrait: Tensor, flow: Tensor) -> Rendered:
    """A frame with a new flow [1, 2, H/4, W/4] whose editing is the key frame's, moved with the face.

    Where frame and key take output pixel x from D(x) and K(x) in the portrait, the editing meant for
    that place stood in the key frame at K^-1(D(x)), which to first order is x + D(x) - K(x).
    """
    warped = warp(portrait, flow)
    size = portrait.shape[-2:]
    moved = sampling_positions(flow, size) - sampling_positions(key.flow, size)  # [1, H, W, 2]
    still = F.affine_grid(torch.eye(2, 3, device=flow.device)[None], [1, 1, *size], align_corners=False)
    editing = F.grid_sample(key.image - key.warped, still + moved, padding_mode="border", align_corners=False)
    return Rendered((warped + editing).clamp(-1, 1), warped, flow)


def _distance(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().mean().item()

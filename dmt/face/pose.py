"""Head pose and blinks, streamed: each source's `next(frames)` continues where it stopped.

What comes out does not depend on the sizes of the blocks it is asked for. A pose row is
[angles (radians) | translation | crop (scale, tx, ty)], as in DreamTalk's face-motion files.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..rates import FRAME_RATE, POSE
from .matfile import FULL_WIDTH, read_mat

ANGLES = slice(0, 3)
REST = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.9370641, 126.84911, 129.03864)
"""The row that DreamTalk's renderer takes for a head that does not move."""


def load_pose(path: str | Path) -> Tensor:
    """Pose rows [T, 9] of a DreamTalk pose file.

    .mat keys `coeff` [T, 257] and `transform_params` [T, 5]: angles are coeff[:, 224:227],
    translation coeff[:, 254:257], crop the last three of transform_params. InputError otherwise.
    """
    arrays = read_mat(Path(path), {"coeff": FULL_WIDTH, "transform_params": 5})
    coeff, crop = arrays["coeff"], arrays["transform_params"]
    return torch.from_numpy(np.concatenate([coeff[:, 224:227], coeff[:, 254:257], crop[:, -3:]], axis=1))


class StillPose:
    """The portrait's own pose for ever."""

    def next(self, frames: int) -> Tensor:
        """[frames, 9], each row `REST`."""
        return torch.tensor(REST).repeat(frames, 1)


class PoseClip:
    """A recorded pose [T, 9]; when it ends it is played backwards, then forwards, and so on.

    The first T rows are the clip bit for bit. At each turn a decaying correction keeps the
    speed continuous, so that the head swings round instead of bouncing off a wall.
    """

    _SETTLE = 5.0
    """Frames over which the head's speed is given up after a turn."""

    def __init__(self, pose: Tensor) -> None:
        self._pose = _checked(pose)
        self._frame = 0

    def __len__(self) -> int:
        return len(self._pose)

    def next(self, frames: int) -> Tensor:
        """The following [frames, 9] rows."""
        position = torch.arange(self._frame, self._frame + frames)
        self._frame += frames
        last = len(self._pose) - 1
        if last == 0:
            return self._pose.expand(frames, POSE).clone()
        leg, along = position // last, position % last
        forward = leg % 2 == 0
        # The first frame of leg 1 is the clip's last row, which the correction leaves alone (along = 0).
        rows = self._pose[torch.where(forward, along, last - along)]
        reach = min(3, last)
        speed_at_end = (self._pose[-1] - self._pose[-1 - reach]) / reach
        speed_at_start = (self._pose[0] - self._pose[reach]) / reach
        speed = torch.where(forward[:, None], speed_at_start, speed_at_end)
        decay = along * torch.exp(-along / self._SETTLE)
        correction = 2 * speed * decay[:, None]
        return torch.where((leg > 0)[:, None], rows + correction, rows)


class HeldPose:
    """A recorded pose [T, 9] that stays in its last row when it ends, as DreamTalk means it to."""

    def __init__(self, pose: Tensor) -> None:
        self._pose = _checked(pose)
        self._frame = 0

    def next(self, frames: int) -> Tensor:
        """The following [frames, 9] rows."""
        position = torch.arange(self._frame, self._frame + frames)
        self._frame += frames
        return self._pose[position.clamp(max=len(self._pose) - 1)]


def _checked(pose: Tensor) -> Tensor:
    if pose.ndim != 2 or pose.shape[1] != POSE or not len(pose):
        raise ValueError(f"expected pose rows [T, {POSE}] with T >= 1, got {tuple(pose.shape)}")
    return pose.detach().cpu().float()


class _Events:
    """Frames made event by event from a private generator, handed out in any block size."""

    def __init__(self, generator: torch.Generator, width: int) -> None:
        # A child generator: draws by others on the parent must not depend on how we are asked.
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        self._random = torch.Generator().manual_seed(seed)
        self._ready = torch.zeros(0, width)

    def uniform(self, low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=self._random, dtype=torch.float64))

    def normal(self, scale: float, limit: float = 2.2) -> float:
        value = float(torch.randn((), generator=self._random, dtype=torch.float64))
        return scale * max(-limit, min(limit, value))

    def take(self, frames: int) -> Tensor:
        parts, missing = [self._ready], frames - len(self._ready)
        while missing > 0:
            parts.append(self.event())
            missing -= len(parts[-1])
        joined = torch.cat(parts)
        self._ready = joined[frames:].clone()
        return joined[:frames]

    def event(self) -> Tensor:
        raise NotImplementedError


class NaturalPose(_Events):
    """A head that lives while it speaks: gaze-like shifts with rests, nods, slow drift.

    The head moves to a new attitude every one to three seconds, nods now and then, and is
    never quite still; a critically damped follower makes the movement smooth (its speed is
    continuous). It begins at rest. Sizes are those of filmed speakers: 2-3 degrees of yaw,
    1-2 of pitch and roll.
    """

    _YAW, _PITCH, _ROLL = 0.050, 0.022, 0.020
    """Standard deviation of the attitudes, radians."""
    _STIFFNESS = 7.0
    """1/s; the follower closes most of a gap in about 0.4 s."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__(generator, 3)
        self._value = torch.zeros(3, dtype=torch.float64)
        self._speed = torch.zeros(3, dtype=torch.float64)
        self._age = 0
        self._drift = torch.tensor([[self.uniform(0, math.tau) for _ in range(3)] for _ in range(2)])

    def next(self, frames: int) -> Tensor:
        """[frames, 9]: angles move, translation and crop stay at `REST`."""
        rows = torch.tensor(REST).repeat(frames, 1)
        rows[:, ANGLES] = self.take(frames)
        return rows

    def event(self) -> Tensor:
        """One attitude, held one to three seconds, with perhaps a nod at its start."""
        yaw = self.normal(self._YAW)
        attitude = torch.tensor([self.normal(self._PITCH), yaw, self.normal(self._ROLL) - 0.25 * yaw])
        frames = round(self.uniform(0.9, 2.8) * FRAME_RATE)
        target = attitude.double().expand(frames, 3).clone()
        if self.uniform(0, 1) < 0.45:
            length = round(self.uniform(0.28, 0.5) * FRAME_RATE)
            start = round(self.uniform(0, max(1, frames - length)))
            bump = torch.sin(torch.linspace(0, math.pi, length, dtype=torch.float64)) ** 2
            target[start : start + length, 0] += self.uniform(0.03, 0.07) * bump[: frames - start]
        return self._follow(target + self._wander(frames))

    def _wander(self, frames: int) -> Tensor:
        """Slow incommensurate waves [frames, 3], zero at the very beginning."""
        seconds = torch.arange(self._age, self._age + frames, dtype=torch.float64) / FRAME_RATE
        self._age += frames
        waves = torch.sin(seconds[:, None] * torch.tensor([1.31, 0.83, 0.97]) + self._drift[0])
        waves = waves + torch.sin(seconds[:, None] * torch.tensor([2.93, 2.11, 2.47]) + self._drift[1])
        fade = (seconds / 2).clamp(max=1)[:, None]
        return fade * waves * torch.tensor([0.006, 0.010, 0.005])

    def _follow(self, target: Tensor) -> Tensor:
        """Critically damped second-order follower, semi-implicit Euler at 4 steps a frame."""
        step = 1 / (4 * FRAME_RATE)
        out = torch.empty_like(target)
        for frame, goal in enumerate(target):
            for _ in range(4):
                pull = self._STIFFNESS**2 * (goal - self._value) - 2 * self._STIFFNESS * self._speed
                self._speed = self._speed + step * pull
                self._value = self._value + step * self._speed
            out[frame] = self._value
        return out.float()


class Blinks(_Events):
    """Lid closure in 0..1: a blink every 2 to 6 seconds, some of them double.

    A blink takes about 0.3 s: the lid falls in 0.1 s, rests a moment and rises in 0.2 s.
    """

    _FALL, _SHUT, _RISE = 0.10, 0.03, 0.20
    """Seconds."""

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__(generator, 1)
        self._first = True

    def next(self, frames: int) -> Tensor:
        """[frames] closures, 0 open and 1 shut."""
        return self.take(frames)[:, 0]

    def event(self) -> Tensor:
        """A pause and the blink that ends it."""
        pause = self.uniform(1.0, 3.0) if self._first else min(6.0, 2.0 + 1.5 * -math.log(self.uniform(0.03, 1.0)))
        self._first = False
        blink = self._blink()
        if self.uniform(0, 1) < 0.14:
            blink = torch.cat([blink, torch.zeros(round(self.uniform(0.08, 0.2) * FRAME_RATE)), self._blink()])
        return torch.cat([torch.zeros(round(pause * FRAME_RATE)), blink])[:, None]

    def _blink(self) -> Tensor:
        pace = self.uniform(0.9, 1.2)
        fall, shut, rise = pace * self._FALL, pace * self._SHUT, pace * self._RISE
        frames = math.ceil((fall + shut + rise) * FRAME_RATE) + 1
        seconds = (torch.arange(frames) - self.uniform(0, 1)) / FRAME_RATE
        # The frame nearest the bottom is moved onto it: at 25 frames a second it could be missed.
        bottom = fall + shut / 2
        seconds = seconds - (seconds - bottom)[(seconds - bottom).abs().argmin()]
        closing = _ease(seconds / fall)
        opening = _ease((fall + shut + rise - seconds) / rise)
        return torch.minimum(closing, opening)


def _ease(x: Tensor) -> Tensor:
    """Smoothstep: 0 below 0, 1 above 1."""
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)

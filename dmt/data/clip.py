"""The one record of training data: a face moving for a while and, where there is one, its voice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..rates import COEFFICIENTS, FEATURE_RATE, FRAME_RATE, POSE, SAMPLE_RATE

RESTING_POSE = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.9370641, 126.84911, 129.03864)
"""Pose row of a head that looks straight ahead, in DreamTalk's units: for data that has no pose of its own."""

SLACK = 0.2
"""Seconds by which sound and pictures may differ in length; containers round, and nobody sees it."""


@dataclass(frozen=True)
class Clip:
    """T frames of one face at `fps` pictures a second, float32 and finite throughout.

    name: unique in its data set, as "M003/front/angry/level_1/001".
    identity: who; sentence: what is said, None where nobody wrote it down (then it counts as said once).
    coefficients [T, 64]; pose [T, 9] (angles in radians, translation, crop).
    wave [S]: the voice at 16 kHz, mono, full scale 1, or None. features [R, D]: rows of a speech encoder at
    50 a second, or None. Both begin with the first frame.
    emotion: name, or None. partition: the split its own data set puts it in (train, validation, test), or None.
    style [F, 64]: another stretch of the same face in the same mood; None: take it from the clip itself.
    sounds [R] int8: class of sound of every feature row (dmt.corpus.phonemes.Sound); closures [N, 2] int32:
    first and last frame in which the lips must close. Both None where phoneme times are not known.
    """

    name: str
    identity: str
    coefficients: NDArray[np.float32]
    pose: NDArray[np.float32]
    fps: float = float(FRAME_RATE)
    wave: NDArray[np.float32] | None = None
    features: NDArray[np.float32] | None = None
    sentence: str | None = None
    emotion: str | None = None
    partition: str | None = None
    style: NDArray[np.float32] | None = None
    sounds: NDArray[np.int8] | None = None
    closures: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        return len(self.coefficients)

    @property
    def seconds(self) -> float:
        """Length of the pictures."""
        return len(self) / self.fps

    def check(self) -> Clip:
        """The clip itself; InputError naming it where its arrays contradict their description or one another."""
        _rows(self.coefficients, COEFFICIENTS, f"coefficients of {self.name}")
        _rows(self.pose, POSE, f"pose of {self.name}")
        if len(self.pose) != len(self):
            raise InputError(f"{self.name} has {len(self)} frames of coefficients and {len(self.pose)} of pose")
        if not 1 <= self.fps <= 240:
            raise InputError(f"{self.name} runs at {self.fps} frames a second; 1 to 240 were expected")
        if self.wave is not None:
            _sound(self.wave, self.name)
            self._same_length(len(self.wave) / SAMPLE_RATE, "sound")
        if self.features is not None:
            _rows(self.features, None, f"features of {self.name}")
            self._same_length(len(self.features) / FEATURE_RATE, "features")
        if self.style is not None:
            _rows(self.style, COEFFICIENTS, f"style of {self.name}")
        return self

    def cut(self, first: int, stop: int) -> Clip:
        """Frames first .. stop - 1 with their sound, features and labels; the style stays whole."""
        if not 0 <= first < stop <= len(self):
            raise InputError(f"frames {first} to {stop} were asked of {self.name}, which has {len(self)}")
        return replace(
            self,
            coefficients=self.coefficients[first:stop],
            pose=self.pose[first:stop],
            wave=self._between(self.wave, SAMPLE_RATE, first, stop),
            features=self._between(self.features, FEATURE_RATE, first, stop),
            sounds=self._between(self.sounds, FEATURE_RATE, first, stop),
            closures=_closures_between(self.closures, first, stop),
        )

    def at_frame_rate(self) -> Clip:
        """The clip at 25 frames a second: frames interpolated linearly in time; sound and features are as they were.

        The frame shown at time t is read at t * fps, so nothing drifts against the sound.
        """
        if self.fps == FRAME_RATE:
            return self
        frames = max(1, int(len(self) * Fraction(FRAME_RATE) / Fraction(self.fps).limit_denominator(1001)))
        at = np.arange(frames) * (self.fps / FRAME_RATE)
        return replace(
            self,
            fps=float(FRAME_RATE),
            coefficients=_read_at(self.coefficients, at),
            pose=_read_at(self.pose, at),
            style=None if self.style is None else self._slower_style(),
            closures=None if self.closures is None else self._moved_closures(frames),
        )

    def _slower_style(self) -> NDArray[np.float32]:
        frames = max(1, int(len(self.style) * FRAME_RATE / self.fps))
        return _read_at(self.style, np.arange(frames) * (self.fps / FRAME_RATE))

    def _moved_closures(self, frames: int) -> NDArray[np.int32]:
        moved = np.rint(self.closures * (FRAME_RATE / self.fps)).astype(np.int32)
        return np.minimum(moved, frames - 1)

    def _between(self, rows: NDArray | None, rate: int, first: int, stop: int) -> NDArray | None:
        if rows is None:
            return None
        return rows[round(first * rate / self.fps) : round(stop * rate / self.fps)]

    def _same_length(self, seconds: float, what: str) -> None:
        # A voice may go on after the last picture; pictures without a voice are the mistake.
        if seconds < self.seconds - SLACK:
            raise InputError(
                f"the {what} of {self.name} lasts {seconds:.2f} s and its {len(self)} frames {self.seconds:.2f} s; "
                "they do not belong together"
            )


def pose_rows(
    angles: NDArray | None, translation: NDArray | None, crop: NDArray | None, frames: int
) -> NDArray[np.float32]:
    """Pose [T, 9] from its three parts, each [T, 3] or None; a part that is not known rests."""
    rows = np.tile(np.float32(RESTING_POSE), (frames, 1))
    for part, columns in ((angles, slice(0, 3)), (translation, slice(3, 6)), (crop, slice(6, 9))):
        if part is not None:
            rows[:, columns] = part
    return rows


def _read_at(rows: NDArray, at: NDArray) -> NDArray[np.float32]:
    """Rows [T, D] at the fractional places `at` [n]; the last row goes on."""
    before = np.clip(np.floor(at).astype(int), 0, len(rows) - 1)
    after = np.minimum(before + 1, len(rows) - 1)
    share = np.clip(at - before, 0, 1)[:, None]
    return ((1 - share) * rows[before] + share * rows[after]).astype(np.float32)


def _closures_between(closures: NDArray | None, first: int, stop: int) -> NDArray[np.int32] | None:
    if closures is None:
        return None
    inside = (closures[:, 1] >= first) & (closures[:, 0] < stop)
    return np.clip(closures[inside] - first, 0, stop - first - 1).astype(np.int32)


def _rows(values: NDArray, width: int | None, what: str) -> None:
    if values.ndim != 2 or not len(values) or (width is not None and values.shape[1] != width):
        wanted = f"(frames, {width})" if width else "(rows, width)"
        raise InputError(f"{what} have shape {values.shape}; expected {wanted} with at least one row")
    if not np.isfinite(values).all():
        raise InputError(f"{what} hold values that are not finite numbers")


def _sound(wave: NDArray, name: str) -> None:
    if wave.ndim != 1 or not np.isfinite(wave).all():
        raise InputError(f"the sound of {name} must be finite numbers [S], got shape {wave.shape}")

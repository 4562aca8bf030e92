"""Samples as numbers: 16-bit integers and floats of full scale 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError

FULL_SCALE = 32768


def to_int16(samples: NDArray[np.floating]) -> NDArray[np.int16]:
    """Rounded to 16 bits; what is beyond full scale is clipped."""
    return np.clip(np.rint(samples.astype(np.float64) * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def to_float(samples: ArrayLike) -> NDArray[np.float32]:
    """int16 or floating samples as float32 of full scale 1. InputError for any other type of number."""
    samples = np.asarray(samples)
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / FULL_SCALE
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    raise InputError(f"sound must come as int16 or floating samples, got {samples.dtype}; convert the blocks first")

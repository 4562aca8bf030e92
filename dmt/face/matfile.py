"""Reading the MATLAB files that DreamTalk's style clips and poses come in, with one-sentence errors."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, why
from .matlab import read_variables

FULL_WIDTH = 257
"""Columns of `coeff`: 80 identity, 64 expression, 80 texture, 3 angle, 27 light, 3 translation."""


def read_mat(path: Path, wanted: dict[str, int]) -> dict[str, np.ndarray]:
    """The arrays `wanted` (name -> columns) of a .mat file, float32 [F, columns], same F for all.

    InputError: the file is absent or no .mat, an array is missing, has another width,
    no rows, or values that are not finite numbers.
    """
    if not os.path.isfile(path):
        raise InputError(f"no such file: {path}")
    content = mat_arrays(path, wanted)
    arrays = {}
    for name, width in wanted.items():
        if name not in content:
            raise InputError(f"{path} has no array '{name}'; expected a .mat file in DreamTalk's layout")
        arrays[name] = finite_rows(content[name], width, f"'{name}' in {path}")
    if len({len(rows) for rows in arrays.values()}) > 1:
        found = " and ".join(f"{len(rows)} of '{name}'" for name, rows in arrays.items())
        raise InputError(f"the arrays of {path} have different numbers of frames ({found})")
    return arrays


def mat_arrays(path: Path, wanted: Container[str]) -> dict[str, NDArray[np.generic]]:
    """Those arrays of real numbers that are wanted and there. InputError: no .mat file, damaged."""
    try:
        found = read_variables(path, wanted)
    except (ValueError, OSError, MemoryError) as error:
        raise InputError(f"{path} cannot be read as a MATLAB .mat file (version 7 or older): {why(error)}") from None
    return {variable.name: variable.values for variable in found if variable.values is not None}


def finite_rows(values: np.ndarray, width: int, what: str) -> np.ndarray:
    """`values` as float32 [F, width], F >= 1, all finite; InputError naming `what` otherwise."""
    values = np.asarray(values)
    if values.ndim != 2 or values.shape[1] != width or not len(values):
        raise InputError(f"{what} has shape {tuple(values.shape)}; expected (frames, {width}) with at least one frame")
    if values.dtype.kind not in "fiu":
        raise InputError(f"{what} holds {values.dtype} values; expected real numbers")
    rows = values.astype(np.float32)
    if not np.isfinite(rows).all():
        raise InputError(f"{what} holds values that are not finite numbers")
    return rows

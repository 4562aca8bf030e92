"""Writing what was extracted in the layouts that DreamTalk and this package read, whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import scipy.io
from numpy.typing import NDArray

from ..atomic import atomic
from ..errors import InputError
from ..face.matfile import FULL_WIDTH

SUFFIXES = (".mat", ".npy", ".txt")
"""Full rows; face-motion rows [T, 73]; expression [T, 64] as text."""
CROP_SIZE = 256.0
"""Pixels: the size that the crop columns speak of."""


def check_targets(*paths: str | os.PathLike[str] | None) -> None:
    """Make sure that clips can be written there, before the long work. InputError says what is wrong."""
    for path in (Path(p) for p in paths if p is not None):
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"the output must be named *.mat, *.npy or *.txt, got {path.name!r}")
        if os.path.isdir(path):
            raise InputError(f"the output {path} is a folder; name a file in it")
        if not os.path.isdir(path.parent):
            raise InputError(f"the output folder {path.parent} does not exist; create it first")
        if not os.access(path.parent, os.W_OK):
            raise InputError(f"the output folder {path.parent} is not writable; choose another")


def write_clip(path: str | os.PathLike[str], expression: NDArray[np.float32], pose: NDArray[np.float32]) -> None:
    """expression [T, 64] and pose [T, 9] (angles, translation, crop) to a file whose suffix names the layout.

    .mat: `coeff` [T, 257] (identity, texture and light are 0) and `transform_params` [T, 5], so that one file is
    both a style clip and a pose. .npy: [T, 73] as in facemotion.npy. .txt: [T, 64], a style clip only.
    """
    path = Path(path)
    check_targets(path)
    with atomic(path) as part:
        if path.suffix.lower() == ".mat":
            with open(part, "wb") as out:
                scipy.io.savemat(out, mat_arrays(expression, pose), do_compression=True)
        elif path.suffix.lower() == ".npy":
            with open(part, "wb") as out:
                np.save(out, np.concatenate([expression, pose], 1).astype(np.float32), allow_pickle=False)
        else:
            np.savetxt(part, expression, fmt="%.7g")


def mat_arrays(expression: NDArray[np.float32], pose: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """The arrays of DreamTalk's .mat files."""
    coeff = np.zeros((len(expression), FULL_WIDTH), np.float32)
    coeff[:, 80:144] = expression
    coeff[:, 224:227] = pose[:, 0:3]
    coeff[:, 254:257] = pose[:, 3:6]
    transform = np.full((len(pose), 5), CROP_SIZE, np.float32)
    transform[:, 2:] = pose[:, 6:9]
    return {"coeff": coeff, "transform_params": transform}

"""The seam between films and coefficients: a tracker is any function from a video to a `Track`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, damaged
from ..face.matfile import FULL_WIDTH, finite_rows, mat_arrays
from ..rates import COEFFICIENTS, FRAME_RATE, POSE
from .clip import pose_rows

SIDECARS = (".mat", ".npy")
"""Files with coefficients that may lie beside a video of the same stem."""


@dataclass(frozen=True)
class Track:
    """coefficients [T, 64] and pose [T, 9] float32 of one face, `fps` rows a second.

    start: seconds into the film of the first row; a film may begin before its face is seen.
    """

    coefficients: NDArray[np.float32]
    pose: NDArray[np.float32]
    fps: float
    start: float = 0.0


Tracker = Callable[[Path], Track]
"""From a video (or folder of pictures) to its motion; raises InputError where no face can be followed."""


def sidecar(pictures: Path) -> Path | None:
    """The file of coefficients beside a video or a folder of pictures, or None."""
    for suffix in SIDECARS:
        candidate = pictures.with_name(_stem(pictures) + suffix)
        if os.path.isfile(candidate):
            return candidate
    return None


def stored(pictures: Path) -> Track:
    """The tracker that tracks nothing: coefficients from the file beside the video, one row a picture."""
    found = sidecar(pictures)
    if found is None:
        stem = _stem(pictures)
        raise InputError(
            f"no coefficients beside {pictures}: expected {stem}.mat or {stem}.npy there, or the videos tracked "
            "(dmt prepare --track)"
        )
    coefficients, pose = read_motion(found)
    return Track(coefficients, pose, _rate(pictures))


def stored_or_extracted(pictures: Path) -> Track:
    """Coefficients from the file beside the video, or tracked as `dmt extract` does where there is none."""
    if sidecar(pictures) is not None:
        return stored(pictures)
    if os.path.isdir(pictures):
        raise InputError(
            f"{pictures} is a folder of pictures, which cannot be tracked; give videos or a .mat beside it"
        )
    from ..tracking import extract

    found = extract(pictures)
    return Track(found.expression, found.pose, float(FRAME_RATE), found.start)


def read_motion(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coefficients [T, 64] and pose [T, 9] of a file.

    .mat: `coeff` [T, 257] as DreamTalk's, `transform_params` [T, 5] where there is one; .npy: [T, 64] coefficients,
    [T, 73] with pose (facemotion.npy) or [T, 257]. Parts of the pose that are not there rest.
    Raises InputError for anything else.
    """
    if not os.path.isfile(path):
        raise InputError(f"no such file: {path}")
    if path.suffix.lower() == ".mat":
        full, crop = _mat(path)
    else:
        full, crop = _npy(path), None
    if full.shape[1] == COEFFICIENTS + POSE:
        return full[:, :COEFFICIENTS], full[:, COEFFICIENTS:]
    if full.shape[1] == COEFFICIENTS:
        return full, pose_rows(None, None, None, len(full))
    return full[:, 80:144], pose_rows(full[:, 224:227], full[:, 254:257], crop, len(full))


def _npy(path: Path) -> NDArray[np.float32]:
    with damaged(path, "an array (.npy)"):
        # Mapped, so that a header that promises more than the file holds is found out before memory is taken.
        rows = np.array(np.load(path, allow_pickle=False, mmap_mode="r"))
    known = (COEFFICIENTS, COEFFICIENTS + POSE, FULL_WIDTH)
    width = rows.shape[1] if isinstance(rows, np.ndarray) and rows.ndim == 2 else None
    if width not in known:
        raise InputError(f"{path} has shape {getattr(rows, 'shape', None)}; expected (frames, {known[0]}, 73 or 257)")
    return finite_rows(rows, width, str(path))


def _mat(path: Path) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
    content = mat_arrays(path, ("coeff", "transform_params"))
    if "coeff" not in content:
        raise InputError(f"{path} has no array 'coeff'; expected a .mat file in DreamTalk's layout")
    full = finite_rows(content["coeff"], FULL_WIDTH, f"'coeff' in {path}")
    if "transform_params" not in content:
        return full, None
    crop = finite_rows(content["transform_params"], 5, f"'transform_params' in {path}")
    if len(crop) != len(full):
        raise InputError(f"the arrays of {path} have different numbers of frames ({len(full)} and {len(crop)})")
    return full, crop[:, -3:]


def _rate(pictures: Path) -> float:
    """Pictures a second: a video's own; folders of pictures have 25."""
    if os.path.isdir(pictures):
        return float(FRAME_RATE)
    from ..media.film import film_info

    rate = film_info(pictures).rate
    return rate if rate > 0 else float(FRAME_RATE)


def _stem(pictures: Path) -> str:
    return pictures.name if os.path.isdir(pictures) else pictures.stem

"""Framing: a square around the head with hair, chin and a little shoulder, never distorted."""

from __future__ import annotations

import numpy as np
import scipy.ndimage
from PIL import Image

from ..errors import InputError

SIDE = 3.4
"""Eye distances that the square measures where the picture has room."""
SMALLEST_SIDE = 2.6
"""Eye distances that it must have; what the picture lacks of that is padded."""
CENTRE = 0.22
"""Eye distances from the bridge of the nose down to the middle of the square."""
SMALLEST_EYES = 16.0
"""Pixels between the outer eye corners under which a face is too small to move."""
UPSAMPLE = 2.0
"""Largest enlargement; a small face stays a small picture."""


def crop_portrait(image: np.ndarray, landmarks: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut, pad and resize [H, W, 3] uint8 and move landmarks [478, 3] along.

    Returns a square picture with an even side of at most `size` pixels and its landmarks.
    InputError when the face is too small.
    """
    eyes = float(np.linalg.norm(landmarks[33] - landmarks[263]))
    if eyes < SMALLEST_EYES:
        raise InputError(
            f"the face is too small: {eyes:.0f} pixels between the outer eye corners; "
            f"at least {SMALLEST_EYES:.0f} are needed, so use a larger picture or a closer crop"
        )
    height, width = image.shape[:2]
    side = round(max(SMALLEST_SIDE * eyes, min(SIDE * eyes, height, width)))
    left = _place(landmarks[168, 0] - side / 2, side, width)
    top = _place(landmarks[168, 1] + CENTRE * eyes - side / 2, side, height)
    square = _cut(image, left, top, side)
    target = int(min(size, UPSAMPLE * side)) // 2 * 2
    scale = target / side
    # Pixels are squares for the resize and points for landmarks: half a pixel lies between.
    moved = (landmarks - np.array([left - 0.5, top - 0.5, 0])) * scale - np.array([0.5, 0.5, 0])
    resample = Image.Resampling.LANCZOS if scale < 1 else Image.Resampling.BICUBIC
    resized = np.array(Image.fromarray(square).resize((target, target), resample))
    return resized, moved.astype(np.float32)


def _place(start: float, side: int, length: int) -> int:
    """Move a stretch of `side` into 0..length where it fits, else centre the overhang on demand."""
    start = round(start)
    return min(max(start, 0), length - side) if side <= length else min(max(start, length - side), 0)


def _cut(image: np.ndarray, left: int, top: int, side: int) -> np.ndarray:
    """The square, with pixels beyond the picture replicated and increasingly blurred."""
    height, width = image.shape[:2]
    before = (max(0, -top), max(0, -left))
    after = (max(0, top + side - height), max(0, left + side - width))
    inside = image[max(0, top) : top + side, max(0, left) : left + side]
    if not any((*before, *after)):
        return inside
    padded = np.pad(inside, ((before[0], after[0]), (before[1], after[1]), (0, 0)), mode="edge")
    known = np.zeros(padded.shape[:2], bool)
    known[before[0] : before[0] + inside.shape[0], before[1] : before[1] + inside.shape[1]] = True
    distance = scipy.ndimage.distance_transform_edt(~known)
    blurred = np.stack(
        [scipy.ndimage.gaussian_filter(padded[..., c].astype(np.float32), side / 40) for c in range(3)], -1
    )
    share = np.clip(distance / (side / 25), 0, 1)[..., None]
    return (padded * (1 - share) + blurred * share).round().astype(np.uint8)

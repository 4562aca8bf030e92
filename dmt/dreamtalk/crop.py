"""DreamTalk's portrait crop, bit for bit: dlib's frontal detector, its box arithmetic, OpenCV's resize.

The ordinary pipeline frames faces its own way (`dmt.face.crop`); this one exists
so that a script written for DreamTalk gets the same 256 x 256 picture.
"""

from __future__ import annotations

from os import PathLike

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .files import read_picture

SIZE = 256
INCREASE_RATIO = 0.4


def framed_portrait(path: str | PathLike[str], *, crop: bool = True) -> NDArray[np.uint8]:
    """The picture that DreamTalk's renderer gets, uint8 RGB [256, 256, 3].

    crop: cut around the face; else the picture must have that size. InputError: no picture, no face, another size.
    """
    picture = read_picture(path)
    if crop:
        return crop_portrait(picture)
    if picture.shape[:2] != (SIZE, SIZE):
        raise InputError(
            f"{path} is {picture.shape[1]} x {picture.shape[0]}; without cropping "
            f"the picture must already be {SIZE} x {SIZE}"
        )
    return picture


def crop_portrait(image: np.ndarray) -> np.ndarray:
    """RGB uint8 [H, W, 3] -> the square that DreamTalk would render, uint8 [256, 256, 3].

    The first face dlib reports is used, as in the original. InputError without a face.
    """
    import dlib

    # The original hands OpenCV's BGR picture to the detector; channel order changes its grey value.
    bgr = np.ascontiguousarray(image[..., ::-1])
    faces = dlib.get_frontal_face_detector()(bgr, 0)
    if not faces:
        raise InputError(
            "no frontal face was found in the portrait; use a picture with one clear frontal face, "
            "or crop it to 256 x 256 yourself and turn cropping off (--disable_img_crop; in dmt generate --no-crop)"
        )
    face = faces[0]
    left, top, right, bottom = crop_box(
        (face.left(), face.top(), face.right(), face.bottom()), image.shape[1], image.shape[0]
    )
    return resize_bilinear(image[top:bottom, left:right], SIZE, SIZE)


def crop_box(face: tuple[int, int, int, int], width: int, height: int) -> tuple[int, int, int, int]:
    """dlib's box (left, top, right, bottom) -> the box that is cut out, kept from going negative.

    Reproduces the original's arithmetic with its quirk: overflow at the right and the bottom
    is measured against the face's own edge, so it is hardly ever seen and the slice is clipped.
    """
    left, top, right, bottom = face
    shift = 0.1 * (bottom - top)
    top, bottom = max(0, top - shift), min(height, bottom - shift)
    w, h = right - left, bottom - top
    grow_x = max(INCREASE_RATIO, ((1 + 2 * INCREASE_RATIO) * h - w) / (2 * w))
    grow_y = max(INCREASE_RATIO, ((1 + 2 * INCREASE_RATIO) * w - h) / (2 * h))
    x0, y0 = int(left - grow_x * w), int(top - grow_y * h)
    x1, y1 = int(right + grow_x * w), int(bottom + grow_y * h)
    over_x = max(-min(0, x0), right - min(x1, width))
    over_y = max(-min(0, y0), bottom - min(y1, height))
    if max(over_x, over_y) > 0:
        inset = max(over_x, over_y)
        x0, y0, x1, y1 = x0 + inset, y0 + inset, x1 - inset, y1 - inset
    return max(0, int(x0)), max(0, int(y0)), int(x1), int(y1)


def resize_bilinear(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """OpenCV's bilinear resize of uint8 [H, W, C], bit for bit (11-bit fixed point)."""
    x0, x1, a0, a1 = _weights(image.shape[1], width, clamp=True)
    y0, y1, b0, b1 = _weights(image.shape[0], height, clamp=False)
    source = image.astype(np.int32)
    rows = source[:, x0] * a0[:, None] + source[:, x1] * a1[:, None]
    upper, lower = rows[y0] >> 4, rows[y1] >> 4
    mixed = ((b0[:, None, None] * upper) >> 16) + ((b1[:, None, None] * lower) >> 16)
    return ((mixed + 2) >> 2).astype(np.uint8)


def _weights(inside: int, outside: int, *, clamp: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Source indices and 11-bit weights of one axis; OpenCV clamps the weights of columns, not of rows."""
    position = ((np.arange(outside) + 0.5) * (inside / outside) - 0.5).astype(np.float32)
    first = np.floor(position).astype(np.int64)
    share = (position - first).astype(np.float32)
    if clamp:
        share[(first < 0) | (first >= inside - 1)] = 0
        first = np.clip(first, 0, inside - 1)
    lower, upper = np.clip(first, 0, inside - 1), np.clip(first + 1, 0, inside - 1)
    return lower, upper, np.rint((1 - share) * 2048).astype(np.int32), np.rint(share * 2048).astype(np.int32)

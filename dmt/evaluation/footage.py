"""Two folders of videos brought together: which belongs to which, 25 frames a second, one size, one length.

The way the field compares: frames are those shown at 0, 1/25, 2/25 s ..., the pair ends with the shorter video, and
both are scaled to one square (256 pixels unless told otherwise). Methods that frame the face differently from the
reference are compared on face crops (`crop="face"`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..data.source import PICTURES, VIDEOS
from ..errors import InputError, damaged
from ..face.image import open_picture
from ..media.film import film_info, film_pictures
from ..rates import FRAME_RATE

SIDE = 2.6
"""Side of a face crop in eye distances."""
BELOW_BRIDGE = 0.22
"""Eye distances from the bridge of the nose down to the middle of the crop."""

_EPSILON = 1e-3
"""Seconds by which rounded time stamps may be off."""

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Pair:
    """One generated video and what it should look like; name: their common path without suffix."""

    name: str
    made: Path
    reference: Path


@dataclass(frozen=True)
class Square:
    """A square of a picture in pixels: left, top, side; it may reach beyond the picture, where edges are repeated."""

    left: int
    top: int
    side: int


def pair_up(generated: str | Path, reference: str | Path) -> tuple[list[Pair], list[str]]:
    """Videos of the same path (without suffix) below both folders, or two files; and notes on those left alone.

    A folder of pictures counts as a video of 25 frames a second. Raises InputError: no such folder, nothing in common.
    """
    made, wanted = _films(Path(generated)), _films(Path(reference))
    if os.path.isfile(generated) and os.path.isfile(reference):
        return [Pair(Path(generated).stem, Path(generated), Path(reference))], []
    common = sorted(made.keys() & wanted.keys())
    if not common:
        raise InputError(
            f"no video of {generated} ({len(made)} there) has the name of one in {reference} ({len(wanted)} there); "
            "give generated videos the names of their references"
        )
    notes = [f"{path} has no reference and is left out" for name, path in sorted(made.items()) if name not in wanted]
    notes += [f"{path} has no generated video" for name, path in sorted(wanted.items()) if name not in made]
    return [Pair(name, made[name], wanted[name]) for name in common], notes


def frames_at_25(path: Path) -> Iterator[Picture]:
    """What is shown at 0, 1/25, 2/25 s ...: uint8 RGB [H, W, 3]. A film of 25 frames a second comes as it is."""
    if os.path.isdir(path):
        for file in _picture_files(path):
            with damaged(file, "a picture"), open_picture(file) as picture:
                pixels = np.asarray(picture.convert("RGB"))
            yield pixels
        return
    rate = film_info(path).rate
    count, shown, since = 0, None, 0.0
    for time, picture in film_pictures(path):
        while shown is not None and count / FRAME_RATE < time - _EPSILON:
            yield shown
            count += 1
        shown, since = picture, time
    end = since + 1 / (rate if rate > 0 else FRAME_RATE)
    while shown is not None and count / FRAME_RATE < end - _EPSILON:
        yield shown
        count += 1


def frame_rate(path: Path) -> float:
    """Pictures a second that the file itself has; folders of pictures have 25."""
    return float(FRAME_RATE) if os.path.isdir(path) else film_info(path).rate


def face_square(landmarks: NDArray) -> Square:
    """The square around a face of landmarks [478, 3] in pixels."""
    eyes = float(np.linalg.norm(landmarks[33, :2] - landmarks[263, :2]))
    side = max(2, round(SIDE * eyes))
    x, y = landmarks[168, 0], landmarks[168, 1] + BELOW_BRIDGE * eyes
    return Square(round(x - side / 2), round(y - side / 2), side)


def scaled(picture: Picture, size: int, square: Square | None = None) -> Picture:
    """The picture (or that square of it) as [size, size, 3]; unchanged where it has that size already."""
    part = picture if square is None else cut(picture, square)
    if part.shape[:2] == (size, size):
        return part
    resample = Image.Resampling.LANCZOS if min(part.shape[:2]) > size else Image.Resampling.BICUBIC
    return np.asarray(Image.fromarray(part).resize((size, size), resample))


def cut(picture: Picture, square: Square) -> Picture:
    """[side, side, 3]; beyond the picture its edge goes on."""
    rows = np.clip(np.arange(square.top, square.top + square.side), 0, picture.shape[0] - 1)
    columns = np.clip(np.arange(square.left, square.left + square.side), 0, picture.shape[1] - 1)
    return np.ascontiguousarray(picture[rows][:, columns])


def _films(place: Path) -> dict[str, Path]:
    """Name -> video or folder of pictures below `place`."""
    if os.path.isfile(place):
        return {place.stem: place}
    if not os.path.isdir(place):
        raise InputError(f"no such folder: {place}")
    films: dict[str, Path] = {}
    for path in sorted(place.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(place).parts)
        if not hidden and path.suffix.lower() in VIDEOS and os.path.isfile(path):
            films[path.relative_to(place).with_suffix("").as_posix()] = path
        elif not hidden and os.path.isdir(path) and _picture_files(path):
            films[path.relative_to(place).as_posix()] = path
    return films


def _picture_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)

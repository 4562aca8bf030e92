"""One person's video as the learned renderer sees it: square pictures of the face and the motion of each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data.tracks import read_motion, stored_or_extracted
from ..dreamtalk.crop import crop_box
from ..errors import InputError
from ..face.fallback import face_boxes
from ..media.film import film_pictures
from ..rates import FRAME_RATE
from ..renderer.flow import STRIDE, motion_windows

FEWEST = 10
"""Pictures of the shortest video that can be learned from."""


@dataclass(frozen=True)
class Film:
    """pictures [T, 3, H, W] uint8 and windows of motion [T, 73, 27], 25 a second."""

    pictures: Tensor
    windows: Tensor

    def __len__(self) -> int:
        return len(self.pictures)

    @staticmethod
    def of(pictures: np.ndarray, motion: np.ndarray) -> Film:
        """From uint8 [T, H, W, 3] and motion [T, 73] (64 expression, 9 pose). InputError where they do not fit."""
        if len(pictures) != len(motion) or len(pictures) < FEWEST:
            raise InputError(
                f"{len(pictures)} pictures and {len(motion)} rows of motion were given; "
                f"at least {FEWEST} of both are needed, and as many of the one as of the other"
            )
        shown = torch.from_numpy(np.ascontiguousarray(pictures)).permute(0, 3, 1, 2).contiguous()
        return Film(shown, motion_windows(torch.from_numpy(np.asarray(motion, np.float32))))

    def batch(self, index: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] in -1..1."""
        return self.pictures[index].float() / 127.5 - 1


def read_film(video: str | Path, motion: str | Path | None, size: int) -> Film:
    """The video's face at `size` pixels: cut out by the first picture's face, as DreamTalk cuts portraits.

    A video that is square and no larger than twice `size` is taken to be cut out already. Raises InputError: a
    damaged video, no face in its first picture, motion of another length, a size the network cannot take.
    """
    if size < 64 or size % STRIDE:
        raise InputError(f"the size must be a multiple of {STRIDE} and at least 64, got {size}")
    path = Path(video)
    pictures, times, box = [], [], None
    for seconds, picture in film_pictures(path):
        box = box or _box(picture, size, path)
        cut = Image.fromarray(picture).crop(box).resize((size, size), Image.Resampling.LANCZOS)
        pictures.append(np.asarray(cut))
        times.append(seconds)
    rows, fps, start = _motion(path, motion, len(pictures))
    # Rows go by their own clock, pictures by theirs; both are read at 25 a second, from the first row on.
    length = min(len(rows) / fps, times[-1] + 1 / FRAME_RATE - start)
    seconds = start + np.arange(int(length * FRAME_RATE)) / FRAME_RATE
    nearest = np.abs(np.asarray(times)[None] - seconds[:, None]).argmin(1)
    row = np.clip(np.rint((seconds - start) * fps).astype(int), 0, len(rows) - 1)
    return Film.of(np.stack(pictures)[nearest], rows[row])


def _motion(video: Path, motion: str | Path | None, pictures: int) -> tuple[np.ndarray, float, float]:
    """Motion [T, 73], its rows a second, and seconds into the video of the first; a file has one row a picture."""
    if motion is None:
        track = stored_or_extracted(video)
        return np.concatenate([track.coefficients, track.pose], 1), track.fps, track.start
    coefficients, pose = read_motion(Path(motion))
    if abs(len(coefficients) - pictures) > 2:
        raise InputError(f"{motion} has {len(coefficients)} rows and {video} {pictures} pictures; they do not fit")
    from ..media.film import film_info

    return np.concatenate([coefficients, pose], 1), film_info(video).rate or FRAME_RATE, 0.0


def _box(picture: np.ndarray, size: int, path: Path) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is cut out."""
    height, width = picture.shape[:2]
    if height == width <= 2 * size:
        return 0, 0, width, height
    faces = face_boxes(picture)
    if not faces:
        raise InputError(f"no frontal face was found in the first picture of {path}; cut the video to begin with one")
    left, top, right, bottom = (round(float(edge)) for edge in faces[0])
    return crop_box((left, top, right, bottom), width, height)

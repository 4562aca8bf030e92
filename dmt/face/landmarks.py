"""A picture becomes a portrait: find the face, its 478 landmarks, and frame it.

Landmarks come from a file if one is given, else from MediaPipe's face mesh if that is installed
(extra `face`), else from a detected box and the pixels of eyes and mouth (fallback.py).
"""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from ..errors import InputError, why
from ..types import Portrait
from .basis import POINTS, LandmarkBasis
from .crop import crop_portrait
from .fallback import estimate_landmarks, face_boxes
from .image import read_image
from .quiet import native_stderr_silenced

FEW_PIXELS = 32
"""Smallest portrait side that `load_portrait` may be asked for."""


LARGEST_FILE = 64 << 20
"""Bytes of landmarks, unfolded; a face's own are 6 kB."""


def load_portrait(path: str | Path, *, landmarks: str | Path | None = None, size: int = 512) -> Portrait:
    """Read a picture, find the largest face, frame it in a square of at most `size` pixels.

    landmarks: a file (.npz with `landmarks`, .npy, .json or .csv) of [478, 2 or 3] points in pixels
    of the upright picture, in the order of MediaPipe's face mesh with irises.
    Portrait.notes says what the user should know: several faces, landmarks only estimated.
    InputError: unreadable or tiny picture, no face, face too small, bad landmark file.
    """
    if size < FEW_PIXELS:
        raise InputError(f"the portrait's size must be at least {FEW_PIXELS} pixels, got {size}")
    image = read_image(path)
    if landmarks is not None:
        points, notes = read_landmarks(landmarks, image.shape[:2]), ()
    else:
        points, notes = find_landmarks(image, str(path))
    framed, moved = crop_portrait(image, points, size)
    return Portrait(framed, moved, notes)


def find_landmarks(image: np.ndarray, name: str = "the picture") -> tuple[np.ndarray, tuple[str, ...]]:
    """Landmarks [478, 3] of the largest face in uint8 RGB [H, W, 3], and notes; InputError if there is none."""
    missing = why_no_mesh()
    with_mesh = missing is None
    faces = _mesh(image) if with_mesh else []
    boxes: list[np.ndarray] = [] if faces else face_boxes(image)
    if with_mesh and not faces and boxes:
        faces = _mesh_in_box(image, boxes[0])
    if not faces and not boxes:
        raise InputError(
            f"no face found in {name}; use a picture that shows one face from the front, upright and well lit, "
            "or give its landmarks in a file"
        )
    notes = []
    if max(len(faces), len(boxes)) > 1:
        notes.append(f"{max(len(faces), len(boxes))} faces found in {name}; the largest is used")
    if faces:
        return max(faces, key=_extent), tuple(notes)
    cause = missing or "found no mesh"
    notes.append(f"MediaPipe {cause}; landmarks are estimated from the face's box, eyes and mouth and are less exact")
    return estimate_landmarks(image, boxes[0]), tuple(notes)


def read_landmarks(path: str | Path, shape: tuple[int, int]) -> np.ndarray:
    """Landmarks [478, 3] float32 from a file, for a picture of `shape` (H, W); InputError if they cannot be its."""
    path = Path(path)
    if not os.path.isfile(path):
        raise InputError(f"no such landmark file: {path}")
    expected = f"expected [{POINTS}, 2 or 3] pixels in the order of MediaPipe's face mesh with irises"
    try:
        points = np.asarray(_parse(path), dtype=np.float32)
    except Exception as error:  # numpy and what it unpacks with raise a dozen kinds for damaged files
        raise InputError(f"{path} cannot be read as landmarks ({why(error)}); {expected}") from None
    if points.ndim != 2 or points.shape[0] != POINTS or points.shape[1] not in (2, 3):
        raise InputError(f"{path} holds {tuple(points.shape)} numbers; {expected}")
    if not np.isfinite(points).all():
        raise InputError(f"{path} holds numbers that are not finite; {expected}")
    height, width = shape
    if not (
        -0.1 * width <= points[:, 0].mean() <= 1.1 * width and -0.1 * height <= points[:, 1].mean() <= 1.1 * height
    ):
        raise InputError(f"the landmarks of {path} lie outside the picture of {width} x {height} pixels")
    if np.ptp(points[:, 0]) <= 2:
        raise InputError(f"the landmarks of {path} span less than 2 pixels; give pixels, not shares of the picture")
    return points if points.shape[1] == 3 else _with_depth(points)


def _parse(path: Path) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix == ".npy":
        # Mapped, so that a header that promises more than the file holds is found out before memory is taken.
        return np.array(np.load(path, allow_pickle=False, mmap_mode="r"))
    if suffix == ".npz":
        with ZipFile(path) as archive:
            if sum(item.file_size for item in archive.infolist()) > LARGEST_FILE:
                raise ValueError(f"it unfolds to more than {LARGEST_FILE >> 20} MB")
        with np.load(path, allow_pickle=False) as data:
            return data["landmarks"] if "landmarks" in data.files or len(data.files) != 1 else data[data.files[0]]
    if suffix == ".json":
        content = json.loads(path.read_text())
        return np.array(content["landmarks"] if isinstance(content, dict) else content, dtype=np.float64)
    if suffix == ".csv":
        lines = [line.replace(";", ",") for line in path.read_text().splitlines() if line.strip()]
        if lines and any(c.isalpha() and c not in "eE" for c in lines[0]):
            lines = lines[1:]
        return np.array([[float(v) for v in line.split(",")] for line in lines])
    raise ValueError(f"unknown kind {suffix or 'without a suffix'}: use .npz, .npy, .json or .csv")


def _with_depth(points: np.ndarray) -> np.ndarray:
    """Add the neutral face's depth, turned and scaled as the 2-D points are."""
    neutral = LandmarkBasis.load().neutral.numpy()
    scale = np.linalg.norm(points[33] - points[263]) / np.linalg.norm(neutral[33, :2] - neutral[263, :2])
    return np.column_stack([points, scale * neutral[:, 2]]).astype(np.float32)


def why_no_mesh() -> str | None:
    """None where MediaPipe can look for faces, else what is missing, to follow its name in a sentence."""
    if find_spec("mediapipe") is None:
        return "is not installed (extra `face`)"
    try:
        import mediapipe
    except ImportError as error:  # as its OpenCV does where a system library (libGL) is missing
        return f"cannot be loaded ({why(error)})"
    if not hasattr(mediapipe, "solutions"):
        return f"{mediapipe.__version__} has no face mesh of its own (versions under 0.10.30 have; extra `face`)"
    return None


def _mesh(image: np.ndarray) -> list[np.ndarray]:
    """MediaPipe's meshes, [478, 3] pixels each; needs the package."""
    import mediapipe

    options = {"static_image_mode": True, "refine_landmarks": True, "max_num_faces": 5}
    with (
        native_stderr_silenced(),
        mediapipe.solutions.face_mesh.FaceMesh(**options, min_detection_confidence=0.5) as mesh,
    ):
        return mesh_faces(mesh, image)


def mesh_faces(mesh: Any, image: np.ndarray) -> list[np.ndarray]:
    """What an open MediaPipe FaceMesh finds in uint8 RGB [H, W, 3]: landmarks [478, 3] float32 in pixels, per face."""
    height, width = image.shape[:2]
    found = mesh.process(np.ascontiguousarray(image)).multi_face_landmarks or []
    # x and depth share the picture's width as their unit, y has its height.
    return [
        np.array([[p.x * width - 0.5, p.y * height - 0.5, p.z * width] for p in face.landmark], dtype=np.float32)
        for face in found
    ]


def _mesh_in_box(image: np.ndarray, box: np.ndarray) -> list[np.ndarray]:
    """Look again, closer: small faces escape MediaPipe's detector."""
    left, top, right, bottom = box
    reach = 0.8 * max(right - left, bottom - top)
    x0, y0 = (int(max(0, v - reach)) for v in (left, top))
    x1, y1 = int(min(image.shape[1], right + reach)), int(min(image.shape[0], bottom + reach))
    return [face + np.array([x0, y0, 0], np.float32) for face in _mesh(image[y0:y1, x0:x1])]


def _extent(points: np.ndarray) -> float:
    return float(np.prod(np.ptp(points[:, :2], axis=0)))

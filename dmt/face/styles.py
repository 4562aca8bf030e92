"""Style clips: how a face feels while it speaks, from a file or from a bundled emotion."""

from __future__ import annotations

import math
import os
import warnings
from functools import cache
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from ..errors import InputError, why
from ..rates import COEFFICIENTS, STYLE_FRAMES
from ..types import StyleClip
from .basis import neutral_mean
from .matfile import FULL_WIDTH, finite_rows, read_mat

LARGEST = 1e4
"""Of a coefficient: far beyond any face, and short of where the renderer's numbers overflow."""

EXPRESSION = slice(80, 80 + COEFFICIENTS)
"""Columns of a full 257-number row that are the expression."""


def load_style(path_or_emotion: str | Path, intensity: float = 1.0) -> StyleClip:
    """A style clip from a DreamTalk .mat or .txt file, or a bundled emotion by name.

    .mat: key `coeff` [F, 257], columns 80:144; .txt: [F, 64] numbers. The first 256 frames
    count; shorter clips are zero-padded and the padding marked.
    intensity scales the clip about the mean neutral face: 0 is neutral, 1 as filmed, 1.5 stronger.
    InputError: no such file or emotion, another layout, numbers that are not finite or beyond `LARGEST`.
    """
    if not math.isfinite(intensity) or intensity < 0:
        raise InputError(f"intensity must be a number of at least 0, got {intensity}")
    path = Path(path_or_emotion)
    rows = _read(path) if path.suffix or len(path.parts) > 1 else _emotion(str(path_or_emotion))
    if intensity != 1.0:
        neutral = neutral_mean().numpy()
        with np.errstate(over="ignore"):  # that is said below
            rows = neutral + np.float32(intensity) * (rows - neutral)
    if not np.abs(rows[:STYLE_FRAMES]).max() <= LARGEST:
        raise InputError(
            f"the style {path_or_emotion} at intensity {intensity:g} holds numbers beyond {LARGEST:g}; expression "
            "coefficients lie within about 5"
        )
    return style_clip(rows)


def emotion_names() -> tuple[str, ...]:
    """Names that `load_style` knows without a file, sorted."""
    return tuple(sorted(_bundled()))


def style_clip(rows: np.ndarray | torch.Tensor) -> StyleClip:
    """[F, 64] coefficients, F >= 1, cut or zero-padded to 256 frames with the padding marked."""
    rows = torch.as_tensor(rows, dtype=torch.float32)[:STYLE_FRAMES]
    coefficients = torch.zeros(STYLE_FRAMES, COEFFICIENTS)
    coefficients[: len(rows)] = rows
    return StyleClip(coefficients, torch.arange(STYLE_FRAMES) >= len(rows))


def _read(path: Path) -> np.ndarray:
    suffix = path.suffix.lower()
    if suffix == ".mat":
        return read_mat(path, {"coeff": FULL_WIDTH})["coeff"][:, EXPRESSION]
    if suffix == ".txt":
        return _read_text(path)
    if os.path.isfile(path):
        raise InputError(f"{path} is not a style clip: expected a .mat or .txt file")
    raise InputError(f"no such style file: {path}")


def _emotion(name: str) -> np.ndarray:
    if name not in _bundled():
        raise InputError(f"unknown emotion '{name}': expected one of {', '.join(emotion_names())}, or a clip's path")
    return _bundled()[name]


def _read_text(path: Path) -> np.ndarray:
    if not os.path.isfile(path):
        raise InputError(f"no such style file: {path}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy's about an empty file; the error below says it
            rows = np.loadtxt(path, ndmin=2)
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a table of {COEFFICIENTS} numbers per line: {why(error)}") from None
    return finite_rows(rows, COEFFICIENTS, f"style clip {path}")


@cache
def _bundled() -> dict[str, np.ndarray]:
    with np.load(_asset("styles.npz"), allow_pickle=False) as data:
        return {name: finite_rows(data[name], COEFFICIENTS, f"bundled style {name}") for name in data.files}


def _asset(name: str) -> Path:
    return Path(str(files("dmt") / "assets" / name))

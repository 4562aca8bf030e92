"""Files of numbers: DreamTalk's .mat, .npy and .txt, and landmarks."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError, damaged
from ..face.basis import POINTS, LandmarkBasis
from ..face.matfile import FULL_WIDTH
from ..face.matlab import read_variables
from ..rates import COEFFICIENTS, FRAME_RATE, POSE, STYLE_FRAMES
from .finding import Finding

LARGEST = 2 << 30
"""Bytes that the arrays of a compressed file may unfold to, and that a text may have a fourth of."""
DRAWN = 4096
"""Rows and columns of a table that are drawn at most."""
STYLE = ("dmt generate --style {}", "dreamtalk --style_clip_path {}")
POSE_USE = ("dmt generate --pose {}", "dreamtalk --pose_path {}")
REFERENCE = "dmt evaluate lips --reference {}"

Facts = list[tuple[str, str]]


def from_mat(path: Path) -> Finding:
    """DreamTalk's layout: `coeff` [T, 257] and perhaps `transform_params` [T, 5]; others are named, not understood."""
    with damaged(path, "a MATLAB .mat file (version 7 or older)"):
        found = [variable for variable in read_variables(path) if variable.name]
    content = {variable.name: variable.values for variable in found if variable.values is not None}
    facts: Facts = [(v.name, described(content.get(v.name, v.kind))) for v in found]
    coeff, crop = content.get("coeff"), content.get("transform_params")
    if not _table(coeff, FULL_WIDTH):
        raise InputError(
            f"{path} is a .mat file but not DreamTalk's: it needs 'coeff' of [frames, {FULL_WIDTH}] numbers and holds "
            + (", ".join(f"{name} {text}" for name, text in facts)[:300] or "nothing")
        )
    coeff = coeff.astype(np.float32)
    _finite(path, coeff)
    takes, pose = STYLE, None
    kind = "style clip"
    if _table(crop, 5) and len(crop) == len(coeff):
        pose = np.concatenate([coeff[:, 224:227], coeff[:, 254:257], crop[:, 2:].astype(np.float32)], 1)
        _finite(path, pose)
        kind, takes = "style clip and head pose", STYLE + POSE_USE
    return _motion(path, kind + " (DreamTalk .mat)", facts, takes, coeff[:, 80:144], pose)


def from_npy(path: Path) -> Finding:
    """Face motion [T, 73], expression [T, 64], full rows [T, 257], features [T, 1024], landmarks [478, 2 or 3]."""
    with damaged(path, "a .npy file of plain numbers"):
        values = np.load(path, allow_pickle=False, mmap_mode="r")
        if not isinstance(values, np.ndarray):
            raise ValueError("it is an archive; archives of arrays are named .npz")
    return _array(path, values, [("array", described(values))])


def from_npz(path: Path) -> Finding:
    """Landmarks, landmark basis, or any named arrays."""
    with damaged(path, "a .npz file of plain arrays"):
        with zipfile.ZipFile(path) as archive:
            if sum(item.file_size for item in archive.infolist()) > LARGEST:
                raise InputError(f"{path} unfolds to more than {LARGEST >> 30} GB, which is not looked at")
        with np.load(path, allow_pickle=False) as data:
            arrays = {name: data[name] for name in data.files}
            if any(isinstance(value, bytes) for value in arrays.values()):
                raise ValueError("it holds files that are no arrays")
    facts: Facts = [(name, described(value)) for name, value in arrays.items()]
    if {"basis", "neutral", "coef_cov"} <= set(arrays):
        return Finding("landmark basis of the 64 coefficients", tuple(facts))
    if "landmarks" in arrays or len(arrays) == 1:
        return _array(path, arrays.get("landmarks", next(iter(arrays.values()))), facts)
    if arrays and all(_table(value, COEFFICIENTS) for value in arrays.values()):
        faces = {name: np.median(value, axis=0).astype(np.float32) for name, value in arrays.items()}
        return Finding("style clips by name", tuple(facts), faces=faces)
    return Finding("named arrays (.npz)", tuple(facts))


def from_text(path: Path) -> Finding:
    """Expression [T, 64] as text."""
    if path.stat().st_size > LARGEST // 4:
        raise InputError(f"{path} is longer than {LARGEST >> 32} GB of text, which is not looked at")
    with damaged(path, f"a table of {COEFFICIENTS} numbers per line"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of no data; that is said below
        try:
            rows = np.loadtxt(path, ndmin=2)
        except ValueError:
            rows = np.loadtxt(path, ndmin=2, delimiter=",", skiprows=1)
    if not rows.size:
        raise InputError(f"{path} holds no numbers; expected {COEFFICIENTS} per line")
    return _array(path, rows, [("table", described(rows))])


def _array(path: Path, values: NDArray, facts: Facts) -> Finding:
    if values.dtype.kind not in "fiu":
        raise InputError(f"{path} holds {values.dtype} values; expected numbers")
    if values.ndim == 2 and values.shape[0] == POINTS and values.shape[1] in (2, 3):
        points = np.asarray(values, np.float32)
        _finite(path, points)
        points = points if points.shape[1] == 3 else np.pad(points, ((0, 0), (0, 1)))
        return Finding("face-mesh landmarks", tuple(facts), ("dmt generate --landmarks {}",), landmarks=points)
    if values.ndim != 2 or not values.size:
        return Finding("an array", tuple(facts))
    rows = np.asarray(values, np.float32) if values.shape[1] <= FULL_WIDTH else None
    if rows is not None:
        _finite(path, rows)
    text = path.suffix.lower() in (".txt", ".csv")
    if values.shape[1] == COEFFICIENTS + POSE:
        return _motion(path, "face motion", facts, (REFERENCE,), rows[:, :COEFFICIENTS], rows[:, COEFFICIENTS:])
    if values.shape[1] == COEFFICIENTS:
        return _motion(path, "expression coefficients", facts, STYLE if text else (REFERENCE,), rows, None)
    if values.shape[1] == FULL_WIDTH:
        return _motion(path, "full coefficient rows", facts, (), rows[:, 80:144], None)
    if values.shape[1] in (512, 1024):
        seconds = len(values) / (2 * FRAME_RATE)
        kind, facts = "speech features, 50 rows a second", [*facts, ("length", f"{seconds:.2f} s")]
    else:
        kind = "a table of numbers"
    return Finding(kind, tuple(facts), table=np.asarray(values[:DRAWN, :DRAWN], np.float32))


def _motion(
    path: Path, kind: str, facts: Facts, takes: tuple[str, ...], expression: NDArray, pose: NDArray | None
) -> Finding:
    """The facts that every clip of expression has."""
    expression = np.array(expression, np.float32)
    basis = LandmarkBasis.load()
    opening = basis.mouth_opening(torch.from_numpy(expression)).numpy()
    frames = len(expression)
    facts = [*facts, ("length", f"{frames} frames, {frames / FRAME_RATE:.2f} s at {FRAME_RATE} a second")]
    if frames > STYLE_FRAMES and takes[:1] == STYLE[:1]:
        facts.append(("as a style", f"the first {STYLE_FRAMES} frames count ({STYLE_FRAMES / FRAME_RATE:.1f} s)"))
    facts.append(("expression", described(expression)))
    facts.append(("mouth opening", f"{_range(opening)} eye distances"))
    if pose is not None:
        for name, column in (("pitch", 0), ("yaw", 1), ("roll", 2)):
            facts.append((name, f"{_range(np.degrees(pose[:, column]), 1)} degrees"))
        facts.append(("crop scale", _range(pose[:, 6])))
    return Finding(kind, tuple(facts), takes, expression, pose)


def _table(values: object, width: int) -> bool:
    return (
        isinstance(values, np.ndarray)
        and values.ndim == 2
        and values.shape[1] == width
        and len(values) > 0
        and (values.dtype.kind in "fiu")
    )


def _finite(path: Path, values: NDArray) -> None:
    if not np.isfinite(values).all():
        raise InputError(f"{path} holds values that are not finite numbers; it is damaged")


def described(values: object) -> str:
    """Shape, type and range of an array in a few words."""
    if isinstance(values, str):
        return values
    if not isinstance(values, np.ndarray):
        return type(values).__name__
    if values.ndim == 0:
        return f"{values} ({values.dtype})"[:100]
    text = f"{list(values.shape)} {values.dtype}"
    if values.dtype.kind in "fiu" and values.size:
        return f"{text}, {_range(np.asarray(values[: 1 << 20]))}"
    return text


def _range(values: NDArray, digits: int = 3) -> str:
    with np.errstate(all="ignore"):
        return f"{float(values.min()):.{digits}f} to {float(values.max()):.{digits}f}"

"""Our checkpoints: safetensors, with configuration and training record as JSON in its metadata."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .atomic import atomic
from .config import ModelConfig, from_dict, to_dict
from .errors import InputError, damaged, why
from .features import SpeechEncoder
from .model import MotionModel

FORMAT = "dreamtalk-dmt motion model"
VERSION = 1
WIDEST, MOST_LAYERS = 1 << 16, 256
"""Beyond these a size in a configuration is taken for damage."""
SPEECH = "speech."
"""Prefix of the speech encoder's weights, left out where they are somebody else's and pretrained."""


def save_model(path: str | Path, model: MotionModel, record: dict[str, Any], *, half: bool = False) -> None:
    """Write `model` and its training record (JSON-ready) to `path`; it appears complete or not at all.

    half: matrices are stored in float16, at half the size; vectors and buffers stay as they are.
    Weights of a pretrained speech encoder are not stored: `config.speech.pretrained` names them.
    Raises InputError where the folder is missing or not writable.
    """
    matrices = {name for name, p in model.named_parameters() if p.dim() > 1} if half else set()
    tensors = {
        name: value.detach().to("cpu", torch.float16 if name in matrices else value.dtype).contiguous()
        for name, value in _stored(model).items()
    }
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "config": json.dumps(to_dict(model.config)),
        "record": json.dumps(record),
    }
    with atomic(path) as part:
        save_file(tensors, part, metadata)


def load_model(
    path: str | Path, device: str | torch.device = "cpu", *, speech: SpeechEncoder | None = None
) -> MotionModel:
    """The model that `save_model` wrote, in float32 and evaluation mode, on `device`.

    speech: a speech encoder to use for a preset whose weights are pretrained; otherwise those
    are fetched at the first use. Raises InputError for a file that is missing, truncated, of
    another kind or version, or whose tensors do not fit its configuration or are not finite.
    """
    metadata, tensors = _read(Path(path))
    model = _build(path, metadata, tensors, speech)
    own = model.state_dict()
    with torch.no_grad():
        for name, value in tensors.items():
            own[name].copy_(value)
    return model.eval().to(device)


def read_record(path: str | Path) -> dict[str, Any]:
    """The training record of a checkpoint, without its weights."""
    metadata, _ = _read(Path(path), weights=False)
    _check_kind(path, metadata)
    with damaged(path, "the record of a checkpoint"):
        return json.loads(metadata["record"])


def _stored(model: MotionModel) -> dict[str, Tensor]:
    """What a checkpoint of this model holds, by name."""
    foreign = model.config.speech.pretrained is not None
    return {n: v for n, v in model.state_dict().items() if not (foreign and n.startswith(SPEECH))}


def _read(path: Path, *, weights: bool = True) -> tuple[dict[str, str], dict[str, Tensor]]:
    if not os.path.isfile(path):
        raise InputError(f"there is no checkpoint at {path}; give the path of a .safetensors file")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            names = file.keys() if weights else []
            return file.metadata() or {}, {name: file.get_tensor(name) for name in names}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} cannot be read as a safetensors checkpoint ({why(error)}); it is truncated or another kind of file"
        ) from None


def _check_kind(path: str | Path, metadata: dict[str, str]) -> None:
    if metadata.get("format") != FORMAT:
        raise InputError(f"{path} is a safetensors file but not a {FORMAT}; expected one written by this package")
    if metadata.get("version") != str(VERSION):
        raise InputError(
            f"{path} has format version {metadata.get('version')}, this package reads version {VERSION}; "
            "use the package version that wrote it"
        )


def _build(
    path: str | Path, metadata: dict[str, str], tensors: dict[str, Tensor], speech: SpeechEncoder | None
) -> MotionModel:
    """The model that the metadata describes, its weights still random.

    It is built without memory first, and its shapes held against the file's: a configuration that somebody altered
    must not take more memory than the file has weights.
    """
    _check_kind(path, metadata)
    try:
        data = json.loads(metadata["config"])
        _check_sizes(data)
        config = from_dict(ModelConfig, data)
        with torch.device("meta"):
            expected = _stored(MotionModel(config, speech))
        _check(path, expected, tensors)
        return MotionModel(config, speech)
    except InputError as error:
        raise error if str(path) in str(error) else _unusable(path, error) from None
    except (KeyError, TypeError, ValueError, ArithmeticError, RuntimeError, RecursionError) as error:
        raise _unusable(path, error) from None


def _unusable(path: str | Path, error: Exception) -> InputError:
    return InputError(f"{path} holds no usable configuration ({why(error)}); the file is damaged")


def _check_sizes(data: Any, name: str = "") -> None:
    """ValueError for a number that no network of ours has, before anything is built by it."""
    if isinstance(data, dict):
        for key, value in data.items():
            _check_sizes(value, str(key))
    elif isinstance(data, int) and abs(data) > (MOST_LAYERS if "layers" in name else WIDEST):
        raise ValueError(f"{name} is {data}")


def _check(path: str | Path, expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """One error that lists every way in which the tensors do not fit."""
    shared = expected.keys() & found.keys()
    problems = {
        "missing": expected.keys() - found.keys(),
        "unexpected": found.keys() - expected.keys(),
        "of another shape": {n for n in shared if expected[n].shape != found[n].shape},
        "of another type": {n for n in shared if expected[n].is_floating_point() != found[n].is_floating_point()},
        "not finite": {n for n in shared if found[n].is_floating_point() and not torch.isfinite(found[n]).all()},
    }
    if any(problems.values()):
        said = "; ".join(f"{what}: {_some(names)}" for what, names in problems.items() if names)
        raise InputError(f"{path} does not fit its own configuration ({said}); the file is damaged or was altered")


def _some(names: set[str], shown: int = 4) -> str:
    listed = ", ".join(sorted(names)[:shown])
    return listed if len(names) <= shown else f"{listed} and {len(names) - shown} more"

"""A stage's whole state as one safetensors file: tensors by their path, everything else as JSON in the header.

One file, so that one rename replaces it: a run that is killed at any moment leaves the state before
or the state after, never half of each. Nothing in it can run when it is read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..atomic import atomic
from ..errors import InputError, file_at, why

_TENSOR = "tensor "
"""In the JSON, a string that begins so stands for the tensor of that path."""


def save_state(path: Path, state: Mapping[str, Any]) -> None:
    """Write nested mappings and lists of tensors, numbers, strings and None to `path`, all or nothing."""
    tensors: dict[str, Tensor] = {}
    skeleton = _take_tensors(state, "", tensors)
    with atomic(path) as part:
        save_file(tensors, part, {"state": json.dumps(skeleton)})


def load_state(path: Path) -> dict[str, Any]:
    """What `save_state` wrote, on the CPU. Raises InputError for a file that is damaged or of another kind."""
    file_at(path, "the state of a training stage")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            skeleton = json.loads((file.metadata() or {})["state"])
            return _put_tensors(skeleton, file)
    except Exception as error:  # a skeleton of another making fails in any of its pieces
        raise InputError(
            f"{path} is not the state of a training stage ({why(error)}); delete it to start the stage anew"
        ) from None


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by name, buffers outside the checkpoint included; not copied."""
    return {name: value.detach() for name, value in (*module.named_parameters(), *module.named_buffers())}


@torch.no_grad()
def restore(module: nn.Module, values: Mapping[str, Tensor]) -> None:
    """The inverse of `snapshot`. Raises InputError where names or shapes differ."""
    own = snapshot(module)
    if own.keys() != values.keys() or any(own[n].shape != values[n].shape for n in own):
        wrong = sorted(own.keys() ^ values.keys()) or [n for n in own if own[n].shape != values[n].shape]
        raise InputError(f"the saved state is of another model ({wrong[0]} differs); choose another output folder")
    for name, value in own.items():
        value.copy_(values[name])


def _take_tensors(value: Any, path: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        # A copy of its own: safetensors refuses tensors that share memory.
        tensors[path] = value.detach().to("cpu", copy=True).contiguous()
        return _TENSOR + path
    if isinstance(value, Mapping):
        # Pairs and not an object: an optimiser counts its parameters with integers, which JSON's keys are not.
        return {"pairs": [[key, _take_tensors(v, f"{path}/{key}", tensors)] for key, v in value.items()]}
    if isinstance(value, (list, tuple)):
        return [_take_tensors(v, f"{path}/{index}", tensors) for index, v in enumerate(value)]
    return value


def _put_tensors(value: Any, file: Any) -> Any:
    if isinstance(value, str) and value.startswith(_TENSOR):
        return file.get_tensor(value.removeprefix(_TENSOR))
    if isinstance(value, dict):
        return {key: _put_tensors(v, file) for key, v in value["pairs"]}
    if isinstance(value, list):
        return [_put_tensors(v, file) for v in value]
    return value

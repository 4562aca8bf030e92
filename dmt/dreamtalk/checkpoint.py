"""Reading DreamTalk's own checkpoint files, without ever running what is inside them."""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import InputError, why

Source = str | Path | Mapping[str, Tensor]
"""A `.pth`, `.pt` or `.safetensors` file, or a state dict."""

WRAPPERS = {"model_state_dict": "denoiser", "net_G_ema": "renderer"}
"""Where the released files keep their tensors."""

PICKLES = (".pth", ".pt")
"""Suffixes of files that `torch.save` writes."""

SHOWN = 4
"""Keys named in an error before the rest are only counted."""


def read_state(source: Source, wrapper: str) -> dict[str, Tensor]:
    """The tensors of a checkpoint, out of its `wrapper` entry where it has one.

    Files are read with `weights_only`, so a pickle that holds anything but plain
    data is refused. InputError: missing, truncated, hostile or foreign files.
    """
    content = dict(source) if isinstance(source, Mapping) else _read_file(Path(source))
    what = "the state dict" if isinstance(source, Mapping) else str(source)
    if isinstance(content.get(wrapper), Mapping):
        content = content[wrapper]
    else:
        for other, kind in WRAPPERS.items():
            if other != wrapper and isinstance(content.get(other), Mapping):
                raise InputError(f"{what} is a {kind} checkpoint, not a {WRAPPERS[wrapper]}; pass it as the {kind}")
    state = {k: v for k, v in content.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if not state:
        found = ", ".join(map(str, list(content)[:SHOWN])) or "nothing"
        raise InputError(f"{what} holds no tensors: expected them under '{wrapper}' or at the top, found {found}")
    for name, value in state.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise InputError(f"{what} holds values that are not finite in '{name}'; the file is damaged")
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def is_foreign(path: str | Path) -> bool:
    """Whether a checkpoint is in DreamTalk's form rather than ours: a .pth or .pt, or safetensors with its names."""
    path = Path(path)
    if path.suffix in PICKLES:
        return True
    if path.suffix != ".safetensors" or not os.path.isfile(path):
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return "dreamtalk" in (file.metadata() or {}) or any(
                name.removeprefix("diff_net.").startswith(("net.", "mapping_net."))
                for name in file.keys()  # noqa: SIM118 - it is no dictionary
            )
    except (SafetensorError, OSError):
        return False


def _read_file(path: Path) -> dict:
    if not os.path.isfile(path):
        raise InputError(f"no such checkpoint: {path}")
    if path.suffix == ".safetensors":
        try:
            return load_file(path)
        except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
            raise InputError(f"{path} is not a readable safetensors file ({why(error)})") from None
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise InputError(
            f"{path} is not a plain checkpoint: it is damaged or holds Python objects besides tensors, "
            "which are not loaded because they could run code"
        ) from None
    except Exception as error:  # torch raises a dozen kinds for damaged files
        raise InputError(f"{path} is not a readable checkpoint, perhaps cut short in download ({why(error)})") from None
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}; expected a dictionary of tensors")
    return dict(content)


def load_strictly(module: nn.Module, state: Mapping[str, Tensor], what: str) -> None:
    """Load `state` into `module`; every missing, extra or misshapen key goes into one InputError."""
    expected = module.state_dict()
    missing = [k for k in expected if k not in state]
    extra = [k for k in state if k not in expected]
    misshapen = [
        f"{k} {list(state[k].shape)} instead of {list(v.shape)}"
        for k, v in expected.items()
        if k in state and state[k].shape != v.shape
    ]
    problems = [
        f"{len(keys)} {kind} ({', '.join(keys[:SHOWN])}{', ...' if len(keys) > SHOWN else ''})"
        for kind, keys in (("missing", missing), ("unexpected", extra), ("of another shape", misshapen))
        if keys
    ]
    if problems:
        raise InputError(f"this is not a {what} checkpoint: keys {'; '.join(problems)}")
    module.load_state_dict(state)

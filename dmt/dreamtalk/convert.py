"""DreamTalk's checkpoints to safetensors and back, checked on the way."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from ..atomic import atomic
from ..errors import InputError
from .checkpoint import PICKLES, read_state
from .denoiser import export_denoiser, load_denoiser
from .renderer import load_renderer


def convert(source: str | Path, target: str | Path, *, force: bool = False) -> str:
    """Write `source` (.pth, .pt or .safetensors) as `target`, in the format its suffix names.

    The weights are loaded into the network they belong to first, so a file that comes out
    is one that works. A .pth or .pt comes out nested and prefixed as DreamTalk's own.
    force: replace `target` if it exists. Returns `denoiser` or `renderer`. InputError: `source` is
    neither, or `target` exists, cannot be written or has a suffix that is not known.
    """
    target = Path(target)
    if target.suffix not in (*PICKLES, ".safetensors"):
        raise InputError(f"{target} must end in .safetensors, .pth or .pt, which names the format to write")
    if os.path.exists(target) and not force:
        raise InputError(f"{target} exists; choose another name, or replace it with --force (force=True)")
    if not os.path.isdir(target.parent):
        raise InputError(f"cannot write {target}: the folder {target.parent} does not exist; create it first")
    kind, state = _load(source)
    with atomic(target) as part:
        if target.suffix == ".safetensors":
            save_file({k: v.contiguous() for k, v in state.items()}, part, metadata={"format": "pt", "dreamtalk": kind})
        elif kind == "denoiser":
            torch.save({"model_state_dict": {f"diff_net.{k}": v for k, v in state.items()}}, part)
        else:
            torch.save({"net_G_ema": state}, part)
    return kind


def _load(source: str | Path) -> tuple[str, dict[str, Tensor]]:
    """(kind, tensors under the released names without wrapper or prefix)."""
    try:
        state = read_state(source, "net_G_ema")
        is_renderer = any(k.startswith("mapping_net.") for k in state)
    except InputError as error:
        if "denoiser checkpoint" not in str(error):
            raise
        is_renderer = False
    if is_renderer:
        return "renderer", dict(load_renderer(source).state_dict())
    return "denoiser", export_denoiser(load_denoiser(source))

"""Weights to start from: a checkpoint of ours, or DreamTalk's own denoiser."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..checkpoint import FORMAT, load_model
from ..dreamtalk import load_denoiser
from ..errors import InputError
from ..model import MotionModel

VARIETY = 0.01
"""Share of its own spread by which copies of one matrix differ, so that the mixture can learn to tell them apart."""


def start_from(model: MotionModel, path: str | Path) -> str:
    """Give `model` the weights in `path`; returns a sentence that says what was taken over.

    One of our checkpoints must have the same configuration of the parts both have. Of DreamTalk's
    `denoising_network.pth` (or its safetensors) the denoiser takes everything; where the model's decoders are
    dynamic, each of the shared matrices starts as DreamTalk's one, nearly: their mixture computes what it computed, and
    thresholds are new. Raises InputError for files that are damaged, hostile, or of another size.
    """
    path = Path(path)
    if _is_ours(path):
        other = load_model(path)
        loaded = _copy(model, dict(other.state_dict()), path)
        return f"started from {path}: {loaded} tensors"
    released = load_denoiser(path)
    state = _for_shared_matrices(dict(released.net.state_dict()), dict(model.denoiser.state_dict()))
    loaded = _copy(model.denoiser, state, path)
    new = len(model.denoiser.state_dict()) - loaded
    return f"started from DreamTalk's denoiser in {path}: {loaded} tensors taken over, {new} new"


def _is_ours(path: Path) -> bool:
    if path.suffix != ".safetensors" or not os.path.isfile(path):
        return False
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError):
        return False  # whoever reads it next says what is wrong


@torch.no_grad()
def _copy(module: nn.Module, state: dict[str, Tensor], path: Path) -> int:
    """Copy what both have; every tensor of the file must find its place."""
    own = module.state_dict()
    homeless = sorted(set(state) - set(own))
    misfits = sorted(n for n in state.keys() & own.keys() if state[n].shape != own[n].shape)
    if homeless or misfits:
        name = (misfits or homeless)[0]
        raise InputError(
            f"{path} is of another model than this preset: {len(homeless)} of its tensors have no place in it and "
            f"{len(misfits)} another shape, the first is {name}; choose the preset it was made for"
        )
    for name, value in state.items():
        own[name].copy_(value)
    return len(state)


def _for_shared_matrices(state: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, Tensor]:
    """DreamTalk's plain `linear1` as the shared matrices of a dynamic one; other tensors as they are."""
    generator, found = torch.Generator().manual_seed(0), {}
    for name, value in state.items():
        stem, dot, kind = name.rpartition(".linear1.")
        shared = f"{stem}{dot}dynamic_conv.{kind}"
        if not dot or name in wanted or shared not in wanted:
            found[name] = value
        elif kind == "bias":
            found[shared] = value.expand(wanted[shared].shape).clone()
        else:
            copies = value[None, :, :, None, None].expand(wanted[shared].shape[0], -1, -1, -1, -1)
            found[shared] = copies + VARIETY * value.std() * torch.randn(copies.shape, generator=generator)
    return found

"""wav2vec 2.0 weights kept outside our checkpoints: a hub name, a local folder or a safetensors file."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from ..errors import InputError, damaged, why

if TYPE_CHECKING:
    from transformers import Wav2Vec2Config

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

ARCHITECTURE_FIELDS = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "hidden_act",
    "conv_dim",
    "conv_kernel",
    "conv_stride",
    "conv_bias",
    "num_conv_pos_embeddings",
    "num_conv_pos_embedding_groups",
    "do_stable_layer_norm",
    "feat_extract_norm",
    "feat_extract_activation",
    "layer_norm_eps",
)
"""What must agree for the weights to mean the same."""


def check_architecture(source: str | None, expected: Wav2Vec2Config) -> None:
    """Raises InputError naming the settings in which `source` (its config.json) is another network."""
    if os.path.isfile(_named(source)):
        return  # a bare weight file has no settings; names and shapes are checked when it is loaded
    found = type(expected).from_dict(read_json(source, "config.json"))
    differing = [
        f"{name} {_plain(getattr(found, name))} (expected {_plain(getattr(expected, name))})"
        for name in ARCHITECTURE_FIELDS
        if _plain(getattr(found, name)) != _plain(getattr(expected, name))
    ]
    if differing:
        raise InputError(f"the weights in {source} are of another network: {', '.join(differing)}")


def read_weights(source: str | None) -> dict[str, Tensor]:
    """All weights of `source`, named as in transformers' Wav2Vec2Model (a `wav2vec2.` prefix removed,
    older names of the weight-normalised convolution mapped to today's).

    Raises InputError where they cannot be had.
    """
    path = Path(_named(source)) if os.path.isfile(_named(source)) else _first_of(source, WEIGHT_FILES)
    with damaged(path, "a weight file"):
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = torch.load(path, map_location="cpu", weights_only=True)
    if not isinstance(weights, dict) or not all(
        isinstance(n, str) and isinstance(v, Tensor) for n, v in weights.items()
    ):
        raise InputError(f"{path} is not a table of weights (a state dict)")
    return {_today(name): value for name, value in weights.items()}


def read_json(source: str | None, name: str) -> dict[str, Any]:
    """A settings file of `source`. Raises InputError where it cannot be had."""
    path = _first_of(_named(source), (name,))
    with damaged(path, "JSON"):
        return json.loads(path.read_text(encoding="utf-8"))


def _named(source: str | None) -> str:
    if source is None:
        raise InputError("the speech configuration names no pretrained weights; they are in the checkpoint")
    return source


def _first_of(source: str, names: tuple[str, ...]) -> Path:
    """The first file of `names` that the folder or hub repository `source` has."""
    folder = Path(source)
    if os.path.isfile(folder):
        raise InputError(f"{source} is a single file without {' or '.join(names)}; give the model's folder")
    if os.path.isdir(folder):
        for name in names:
            if os.path.isfile(folder / name):
                return folder / name
        raise InputError(f"folder {source} has no {' or '.join(names)}; it must hold a transformers wav2vec 2.0 model")
    return _from_hub(source, names)


def _from_hub(source: str, names: tuple[str, ...]) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    reason = "not found"
    for name in names:
        try:
            with _quiet("huggingface_hub"):  # it logs each of its retries; the sentence below says it once
                return Path(hf_hub_download(source, name))
        except LocalEntryNotFoundError:
            reason = "no connection, and not in its cache"
            break
        except EntryNotFoundError:
            reason = f"it has no {' or '.join(names)}"
        except (OSError, ValueError) as error:
            reason = why(error)
            break
    raise InputError(
        f"the speech encoder's weights {source!r} are neither here nor to be had from the Hugging Face hub ({reason}); "
        f"run `hf download {source}` where there is a network, or give the folder that holds them"
    )


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _today(name: str) -> str:
    name = re.sub(r"^(module\.)?(wav2vec2\.)?", "", name)
    name = name.replace("pos_conv_embed.conv.weight_g", "pos_conv_embed.conv.parametrizations.weight.original0")
    return name.replace("pos_conv_embed.conv.weight_v", "pos_conv_embed.conv.parametrizations.weight.original1")


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value

"""Weights and inputs that anyone can regenerate from their names; the golden vectors were made with them."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

SHARED = Path(os.environ.get("DMT_SHARED", Path(__file__).parents[3] / "shared")) / "dreamtalk"
SEED = 20250520


def golden_input(name: str, shape: tuple[int, ...]) -> Tensor:
    random = np.random.RandomState((zlib.crc32(name.encode()) ^ SEED) & 0xFFFFFFFF)
    return torch.from_numpy(random.standard_normal(shape).astype(np.float32))


def golden_weight(name: str, shape: tuple[int, ...]) -> Tensor:
    random = np.random.RandomState((zlib.crc32(name.encode()) ^ SEED) & 0xFFFFFFFF)
    w = random.standard_normal(shape)
    w = w / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else float(name.endswith("weight")) + 0.1 * w
    return torch.from_numpy(w.astype(np.float32))


def golden_keys(file: str) -> dict[str, tuple[tuple[int, ...], bool]]:
    """Key -> (shape, is a parameter) of a key list."""
    keys = {}
    for line in (SHARED / file).read_text().splitlines():
        name, shape, *rest = line.split("\t")
        keys[name] = tuple(int(n) for n in shape.strip("()").split(",") if n.strip()), "buffer" not in rest
    return keys

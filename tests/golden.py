"""Weights and inputs that anyone can regenerate from their names; the golden vectors were made with them.

RandomState(crc32(name) ^ SEED) draws normal numbers: with two or more dimensions over the root of the fan-in, with
one dimension a tenth of them, plus 1 for a weight.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

SHARED = Path(os.environ.get("DMT_SHARED", Path(__file__).parents[2] / "shared")) / "dreamtalk"
SAMPLES = SHARED / "samples"
SEED = 20250520

needs_golden = pytest.mark.skipif(
    not (SHARED / "golden.npz").exists(), reason=f"golden vectors are not at {SHARED / 'golden.npz'}"
)
needs_samples = pytest.mark.skipif(not SAMPLES.exists(), reason=f"sample files are not at {SAMPLES}")


def golden_input(name: str, shape: tuple[int, ...]) -> Tensor:
    """A standard normal input [shape] float32."""
    random = np.random.RandomState((zlib.crc32(name.encode()) ^ SEED) & 0xFFFFFFFF)
    return torch.from_numpy(random.standard_normal(shape).astype(np.float32))


def golden_weight(name: str, shape: tuple[int, ...]) -> Tensor:
    """A parameter [shape] float32."""
    random = np.random.RandomState((zlib.crc32(name.encode()) ^ SEED) & 0xFFFFFFFF)
    w = random.standard_normal(shape)
    w = w / np.sqrt(np.prod(shape[1:])) if len(shape) > 1 else float(name.endswith("weight")) + 0.1 * w
    return torch.from_numpy(np.asarray(w, dtype=np.float32))


def golden_parameters(module: nn.Module, prefix: str = "") -> dict[str, Tensor]:
    """Golden values of all parameters of a module whose names in the released file begin with `prefix`."""
    return {f"{prefix}{n}": golden_weight(f"{prefix}{n}", tuple(p.shape)) for n, p in module.named_parameters()}


def golden_vectors() -> dict[str, np.ndarray]:
    """Outputs of the reference networks under these weights."""
    with np.load(SHARED / "golden.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def golden_keys(file: str) -> dict[str, tuple[int, ...]]:
    """Key -> shape of a list of the released file's keys."""
    keys = {}
    for line in (SHARED / file).read_text().splitlines():
        name, shape, *_ = line.split("\t")
        keys[name] = tuple(int(n) for n in shape.strip("()").split(",") if n.strip())
    return keys

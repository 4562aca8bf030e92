"""Every operator against its reference, on small random tensors: seconds, for `dmt doctor`."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dmt_kernels import ema_state, pack_mask, sparse_linear, threshold_ema, unpack_mask
from dmt_kernels.ops.mask_bits import reference as bits_reference
from dmt_kernels.ops.sparse_linear import reference as linear_reference
from dmt_kernels.ops.threshold_ema import reference as threshold_reference

ROWS, WIDTH, OUT = 37, 200, 72
"""Odd sizes: neither a multiple of the vector width nor of a 64-bit word."""


def operator_differences(device: str, dtype: torch.dtype = torch.float32) -> Iterator[tuple[str, float, float]]:
    """(operator, largest difference between it and its reference, allowed difference), values and gradients."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, WIDTH, generator=generator).to(device, dtype)
    weight = (torch.randn(OUT, WIDTH, generator=generator) / WIDTH**0.5).to(device, dtype)
    bias = torch.randn(OUT, generator=generator).to(device, dtype)
    yield "pack_mask", _packing(x > 0), 0.0
    yield "threshold_ema", _thresholding(x), 1e-5
    yield "sparse_linear", _multiplying(x, pack_mask(x.abs() > 0.8), weight, bias), 1e-4


def _packing(mask: Tensor) -> float:
    bits = pack_mask(mask)
    same = torch.equal(bits, bits_reference.pack_mask(mask)) and torch.equal(unpack_mask(bits, WIDTH), mask)
    return 0.0 if same else 1.0


def _thresholding(x: Tensor) -> float:
    theta = torch.zeros((), device=x.device)
    ours = threshold_ema(x, theta, ema_state(x.device), information=True)
    expected = threshold_reference.forward(x, theta, ema_state(x.device), None, 0.9, True, True, True)
    if not torch.equal(ours.bits, expected.bits):
        return 1.0
    pairs = (
        (ours.values, expected.values),
        (ours.live, expected.live),
        (ours.information, expected.information),
    )
    return max(_largest(a - b) for a, b in pairs)


def _multiplying(x: Tensor, bits: Tensor, weight: Tensor, bias: Tensor) -> float:
    found = []
    for operator in (sparse_linear, linear_reference.sparse_linear):
        inputs = [t.clone().requires_grad_() for t in (x, weight, bias)]
        y = operator(inputs[0], bits, inputs[1], inputs[2])
        found.append([y.detach(), *torch.autograd.grad(y.square().sum(), inputs)])
    # gradients are sums over rows: compare them by their own size
    return max(_largest(a - b) / max(1.0, _largest(b)) for a, b in zip(*found, strict=True))


def _largest(t: Tensor) -> float:
    return float(t.abs().max())

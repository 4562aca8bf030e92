"""Every operator against its reference, on small random tensors: seconds, for `dmt doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from dmt_kernels import Masked, ema_state, masked_linear, pack_mask, sparse_linear, threshold_ema, unpack_mask
from dmt_kernels.ops.mask_bits import reference as bits_reference
from dmt_kernels.ops.masked_linear import reference as masked_reference
from dmt_kernels.ops.sparse_linear import reference as linear_reference
from dmt_kernels.ops.threshold_ema import reference as threshold_reference
from dmt_kernels.ops.threshold_groups import reference as groups_reference
from dmt_kernels.structure import STRUCTURES, cell

ROWS, WIDTH, OUT = 137, 200, 72
"""Odd sizes: neither a multiple of the vector width, of a 64-bit word nor of a tile, of which there are several."""
ALPHA = 0.9


def operator_differences(device: str, dtype: torch.dtype = torch.float32) -> Iterator[tuple[str, float, float]]:
    """(operator, largest difference between it and its reference, allowed difference), values and gradients.

    Operators that know structured masks follow once per structure, as "sparse_linear by tile".
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(ROWS, WIDTH, generator=generator)
    for structure in range(1, len(STRUCTURES)):  # groups of different strength, so that some of each kind die
        size = cell(structure, ROWS, WIDTH)
        strength = 0.4 + 1.2 * torch.rand(size.grid(ROWS, WIDTH), generator=generator)
        x = x * groups_reference.spread(strength, size, ROWS, WIDTH)
    x = x.to(device, dtype)
    weight = (torch.randn(OUT, WIDTH, generator=generator) / WIDTH**0.5).to(device, dtype)
    bias = torch.randn(OUT, generator=generator).to(device, dtype)
    yield "pack_mask", _packing(x > 0), 0.0
    yield "threshold_ema", _thresholding(x), 1e-4
    yield "sparse_linear", _multiplying(x, pack_mask(x.abs() > 0.8), weight, bias), 1e-4
    yield "masked_linear", _both_at_once(x, weight, bias), 1e-4
    for structure, name in enumerate(STRUCTURES[1:], 1):
        yield f"threshold_ema by {name}", _thresholding_groups(x, structure), 1e-4
        bits = threshold_ema(x, _theta(x), ema_state(x.device), structure=name).bits
        yield f"sparse_linear by {name}", _multiplying(x, bits, weight, bias, name), 1e-4


def _packing(mask: Tensor) -> float:
    bits = pack_mask(mask)
    same = torch.equal(bits, bits_reference.pack_mask(mask)) and torch.equal(unpack_mask(bits, WIDTH), mask)
    return 0.0 if same else 1.0


def _theta(x: Tensor) -> Tensor:
    return torch.tensor(2.0, device=x.device)


def _thresholding(x: Tensor) -> float:
    theta = _theta(x)
    expected = threshold_reference.forward(x, theta, ema_state(x.device), None, ALPHA, True, True, True)
    slopes = threshold_reference.backward(
        torch.ones_like(x), torch.ones_like(expected.information), x, theta, expected.state, expected.statistics
    )
    return _compared(x, theta, "element", expected, slopes)


def _thresholding_groups(x: Tensor, structure: int) -> float:
    theta, sums = _theta(x), groups_reference.group_sums(x, structure)
    state = ema_state(x.device)
    expected = groups_reference.forward(x, theta, state, sums, None, ALPHA, True, True, True, structure)
    slopes = groups_reference.backward(
        torch.ones_like(x),
        torch.ones_like(expected.information),
        x,
        theta,
        expected.state,
        expected.statistics,
        expected.means,
        structure,
    )
    return _compared(x, theta, STRUCTURES[structure], expected, slopes)


def _compared(x: Tensor, theta: Tensor, structure: str, expected: Masked, slopes: Sequence[Tensor]) -> float:
    """`threshold_ema` against what its reference gave: values, live share, information; gradients to x and theta."""
    inputs = [x.clone().requires_grad_(), theta.clone().requires_grad_()]
    ours = threshold_ema(*inputs, ema_state(x.device), information=True, structure=structure)
    if not torch.equal(ours.bits, expected.bits):
        return 1.0
    found = [ours.values, ours.live, ours.information]
    found += torch.autograd.grad(ours.values.sum() + ours.information, inputs)
    return _worst(found, [expected.values, expected.live, expected.information, *slopes])


def _multiplying(x: Tensor, bits: Tensor, weight: Tensor, bias: Tensor, structure: str = "element") -> float:
    how = {} if structure == "element" else {"structure": structure}
    found = []
    for operator, options in ((sparse_linear, how), (linear_reference.sparse_linear, {})):
        inputs = [t.clone().requires_grad_() for t in (x, weight, bias)]
        y = operator(inputs[0], bits, inputs[1], inputs[2], **options)
        found.append([y.detach(), *torch.autograd.grad(y.square().sum(), inputs)])
    return _worst(*found)


def _both_at_once(x: Tensor, weight: Tensor, bias: Tensor) -> float:
    theta = _theta(x)
    y, inner = masked_reference.forward(x, theta, ema_state(x.device), weight, bias, ALPHA, True, True)
    slopes = masked_reference.backward(2 * y, torch.ones_like(inner.information), x, theta, weight, inner)
    inputs = [t.clone().requires_grad_() for t in (x, theta, weight, bias)]
    ours, masked = masked_linear(inputs[0], inputs[1], ema_state(x.device), inputs[2], inputs[3], information=True)
    found = torch.autograd.grad(ours.square().sum() + masked.information, inputs)
    return _worst([ours.detach(), masked.information, *found], [y, inner.information, *slopes])


def _worst(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """Largest difference, infinite where one is no number; each by its own size, as gradients are sums over rows."""
    sizes = [
        (a.detach() - b.detach()).abs().max() / b.detach().abs().max().clamp(min=1)
        for a, b in zip(found, expected, strict=True)
    ]
    worst = torch.stack([size.float() for size in sizes]).max()
    return float(worst.nan_to_num(nan=float("inf")))

"""Weights of convolutions in the parts and the order that matrix tiles take them in."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 32
"""Outputs of a panel and channels of a step."""

PARTS = {"highest": 3, "high": 2, "medium": 1}
"""Parts of bfloat16 that stand for a number of float32: all of its 24 bits, 16, or 8."""


@dataclass(frozen=True)
class PackedConv2d:
    """What `packed_conv2d` computes, made by `pack_conv2d`.

    Every output pixel belongs to one of up x up phases, (i mod up, j mod up), in that order, each with taps of its own:

        y[b, o, up i + p, up j + q] = bias[o] + sum over taps (dy, dx) of (p, q), channels c:
            weight[o, c, tap] x[b, c, stride i + dy, stride j + dx]        (x is 0 outside the picture)

    weight: bfloat16 [panels, steps, parts, 2, 16, 16, 2]: output 32 panel + 16 half + column; of each phase, steps of
    32 channels, for all taps before the next 32, where channel r makes a pair with 16 + r: [half, r, column, which].
    taps: (dy, dx) of all phases; ends: how many of them the phases up to each one have.
    margin: what the output has more than up / stride times the input: (rows, columns), see `size`.
    """

    weight: Tensor
    bias: Tensor | None
    outputs: int
    channels: int
    taps: tuple[tuple[int, int], ...]
    ends: tuple[int, ...]
    stride: int
    up: int
    margin: tuple[int, int]

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Of the output, for a picture of this size; ValueError if nothing is left of it."""
        size = tuple((n * self.up + m) // self.stride for n, m in zip((height, width), self.margin, strict=True))
        if min(size) < 1:
            raise ValueError(f"a picture of {height} x {width} pixels is too small for this convolution")
        return size


def unpack(weight: Tensor, ends: list[int], outputs: int, channels: int) -> Tensor:
    """The weight as it was, but for what its parts leave away: float32 [taps, outputs, channels]."""
    blocks = -(-channels // SIDE)
    whole = weight.float().sum(2)
    phases = [
        whole[:, begin * blocks : end * blocks].unflatten(1, (blocks, end - begin))
        for begin, end in pairwise([0, *ends])
    ]
    steps = torch.cat(phases, 2).permute(2, 0, 3, 5, 1, 6, 4)  # taps, panel, half, column, block, which, r
    return steps.reshape(ends[-1], -1, blocks * SIDE)[:, :outputs, :channels]


def pack_conv2d(
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int | tuple[int, int] = 0,
    output_padding: int = 0,
    transposed: bool = False,
    upsample: int = 1,
    precision: str = "highest",
) -> PackedConv2d:
    """The weight of a convolution, packed for `packed_conv2d`.

    weight: float32, [O, C, h, w] as `F.conv2d` takes it, or [C, O, h, w] as `F.conv_transpose2d` does (transposed);
    bias: [O]. stride, padding, output_padding: as there; no groups, no dilation.
    upsample: the picture is first made as many times larger, each pixel repeated (nearest), which costs no products:
    taps that meet the same pixel are added together. For stride 1, not transposed.
    precision: "highest" (as exact as float32), "high" (16 bits of each number, half of the products) or "medium"
    (bfloat16, a sixth of them), the names of `torch.set_float32_matmul_precision`. Sums are float32 in all of them.

    Raises TypeError for a dtype and ValueError for a shape, value or name that does not fit.
    """
    _check(weight, bias, stride, output_padding, transposed, upsample, precision)
    weight = weight.detach().cpu()
    oriented = weight.transpose(0, 1) if transposed else weight
    outputs, channels, *size = oriented.shape
    pad = (padding, padding) if isinstance(padding, int) else padding
    up = stride if transposed else upsample
    axes = [[_taps(phase, p, k, up, transposed) for phase in range(up)] for p, k in zip(pad, size, strict=True)]
    taps, ends, kernels = _phases(oriented, *axes)
    if transposed:  # (n - 1) stride - 2 padding + k + output_padding
        margin = [k - 2 * p - up + output_padding for p, k in zip(pad, size, strict=True)]
    else:  # (up n + 2 padding - k) / stride + 1, rounded down
        margin = [2 * p - k + stride for p, k in zip(pad, size, strict=True)]
    return PackedConv2d(
        _panels(torch.stack(kernels), ends, PARTS[precision]),
        None if bias is None else bias.detach().cpu().contiguous(),
        outputs,
        channels,
        tuple(taps),
        tuple(ends),
        1 if transposed else stride,
        up,
        (margin[0], margin[1]),
    )


def _check(
    weight: Tensor,
    bias: Tensor | None,
    stride: int,
    output_padding: int,
    transposed: bool,
    upsample: int,
    precision: str,
) -> None:
    if weight.dtype != torch.float32 or (bias is not None and bias.dtype != torch.float32):
        raise TypeError(f"pack_conv2d expects float32, got {weight.dtype}{'' if bias is None else f', {bias.dtype}'}")
    if precision not in PARTS:
        raise ValueError(f"precision is one of {', '.join(PARTS)}, got {precision!r}")
    if weight.dim() != 4 or 0 in weight.shape:
        raise ValueError(f"expected a weight of four dimensions that are not empty, got {tuple(weight.shape)}")
    outputs = weight.shape[1 if transposed else 0]
    if bias is not None and bias.shape != (outputs,):
        raise ValueError(f"expected a bias [{outputs}], got {tuple(bias.shape)}")
    together = not (upsample > 1 and (transposed or stride > 1)) and (transposed or output_padding == 0)
    if stride < 1 or upsample < 1 or not together:
        raise ValueError(
            f"stride {stride}, upsample {upsample}, output_padding {output_padding}, transposed {transposed} do not go "
            "together: upsample is for stride 1, output_padding for transposed convolutions"
        )


Axis = list[list[tuple[int, list[int]]]]
"""Along one axis, for each phase: offsets of taps, and the rows of the kernel that meet there."""


def _phases(weight: Tensor, down: Axis, across: Axis) -> tuple[list[tuple[int, int]], list[int], list[Tensor]]:
    """Taps of all phases, how many there are up to each, and their kernels [O, C]; weight [O, C, h, w]."""
    taps, ends, kernels = [], [], []
    for rows, columns in product(down, across):
        for (dy, ys), (dx, xs) in product(rows, columns):
            taps.append((dy, dx))
            kernels.append(weight[:, :, ys][..., xs].sum((2, 3)))
        if not rows or not columns:  # nothing but the bias gets there
            taps.append((0, 0))
            kernels.append(torch.zeros_like(weight[:, :, 0, 0]))
        ends.append(len(taps))
    return taps, ends, kernels


def _taps(phase: int, pad: int, kernel: int, up: int, transposed: bool) -> list[tuple[int, list[int]]]:
    """Along one axis: where outputs up i + phase look, from (stride) i on, and which rows of the kernel are there."""
    found: dict[int, list[int]] = {}
    for k in range(kernel):
        if transposed:
            # y[up n - pad + k] takes x[n]
            if (phase + pad - k) % up == 0:
                found.setdefault((phase + pad - k) // up, []).append(k)
        else:
            # y[up i + phase] takes pixel (up i + phase + k - pad) of the large picture, (...) // up of the small one
            found.setdefault((phase + k - pad) // up, []).append(k)
    return sorted(found.items())


def _panels(kernels: Tensor, ends: list[int], parts: int) -> Tensor:
    """[taps, O, C] -> [panels, steps, parts, half, r, column, which]."""
    taps, outputs, channels = kernels.shape
    padded = F.pad(kernels, (0, -channels % SIDE, 0, -outputs % SIDE))
    halves = padded.view(taps, -1, 2, 16, padded.shape[2] // SIDE, 2, 16)  # taps, panel, half, column, block, which, r
    steps = halves.permute(1, 4, 0, 2, 6, 3, 5)  # panel, block, taps, half, r, column, which
    phases = [steps[:, :, begin:end].flatten(1, 2) for begin, end in pairwise([0, *ends])]
    rest = torch.cat(phases, 1)
    found = []
    for _ in range(parts):
        found.append(rest.bfloat16())
        rest = rest - found[-1].float()
    return torch.stack(found, 2).contiguous()

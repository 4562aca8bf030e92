"""`packed_conv2d` on matrix tiles against PyTorch's convolutions (oneDNN): those of the learned renderer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from dmt_kernels import pack_conv2d, packed_conv2d, tiles

from .case import Candidate, Case, Work

TOLERANCES = {"highest": 1e-4, "high": 1e-3, "medium": 5e-2}
"""By precision: of results of size 1, summed from up to 2304 products."""


@dataclass(frozen=True)
class Convolution:
    """One layer: `channels` of a square picture of `side` pixels to `outputs`; `how`: as `pack_conv2d` takes it."""

    name: str
    channels: int
    side: int
    outputs: int
    kernel: tuple[int, int]
    how: dict[str, int | bool | tuple[int, int]] = field(default_factory=lambda: {"padding": 1})


TRANSPOSED = {"stride": 2, "padding": 1, "output_padding": 1, "transposed": True}
LAYERS = (
    Convolution("3 x 3", 64, 256, 128, (3, 3)),
    Convolution("3 x 3", 128, 128, 128, (3, 3)),
    Convolution("3 x 3", 256, 64, 256, (3, 3)),
    Convolution("3 x 3", 256, 16, 256, (3, 3)),
    Convolution("4 x 4, stride 2", 64, 128, 128, (4, 4), {"stride": 2, "padding": 1}),
    Convolution("3 x 3, transposed", 512, 32, 128, (3, 3), TRANSPOSED),
    Convolution("3 x 3, doubled", 128, 128, 64, (3, 3), {"padding": 1, "upsample": 2}),
    Convolution("1 x 7", 64, 256, 21, (1, 7), {"padding": (0, 3)}),
)


def cases() -> Iterator[Case]:
    """Every layer at every precision; none where there are no tiles."""
    if tiles():
        for layer in LAYERS:
            for precision in TOLERANCES:
                yield case(layer, precision)


def case(layer: Convolution, precision: str, side: int | None = None) -> Case:
    """One layer; side: of the picture, in place of the layer's."""
    g = torch.Generator().manual_seed(0)
    side = side or layer.side
    transposed = bool(layer.how.get("transposed"))
    shape = (layer.channels, layer.outputs) if transposed else (layer.outputs, layer.channels)
    taps = layer.kernel[0] * layer.kernel[1]
    x = torch.randn(1, layer.channels, side, side, generator=g)
    weight = torch.randn(*shape, *layer.kernel, generator=g) * (layer.channels * taps) ** -0.5
    packed = pack_conv2d(weight, precision=precision, **layer.how)
    last = x.contiguous(memory_format=torch.channels_last)
    expected = library(layer, x.double(), weight.double()).float()
    size = tuple(expected.shape[2:])
    executed = flops(last.permute(0, 2, 3, 1).shape, packed.outputs, 2 * len(packed.taps), packed.up, size)
    moved = 4 * (x.numel() + weight.numel() + expected.numel())
    candidates = [
        Candidate("ours", "ours", without_gradient(lambda: packed_conv2d(last, packed))),
        Candidate("float32", "dense", without_gradient(lambda: library(layer, x, weight))),
        Candidate("float32, channels last", "dense", without_gradient(lambda: library(layer, last, weight))),
    ]
    if precision == "medium":
        low, low_weight = (t.bfloat16().contiguous(memory_format=torch.channels_last) for t in (x, weight))
        run = without_gradient(lambda: library(layer, low, low_weight))
        candidates.append(Candidate("bfloat16, channels last", "dense", run))
    return Case(
        "packed_conv2d",
        f"{layer.name}, {layer.channels} to {layer.outputs} channels, {side} x {side} pixels, {precision}",
        (side * side, layer.channels),
        0.0,
        1.0,
        "float32",
        Work(executed, executed, moved),
        tuple(candidates),
        (expected,),
        atol=TOLERANCES[precision],
    )


def flops(x: tuple[int, ...], outputs: int, numbers: int, up: int, size: tuple[int, ...]) -> int:
    """Of a call with x [B, H, W, C] and so many numbers of taps, two to each: every phase has its own taps."""
    return 2 * x[0] * x[3] * outputs * (numbers // 2) * size[0] * size[1] // up**2


def counted(x, weight, bias, scale, shift, slope, add, outputs, taps, ends, stride, up, size, measured, **more) -> int:
    """For `FlopCounterMode`: the operator's arguments, tensors as shapes."""
    return flops(x, outputs, len(taps), up, size)


def library(layer: Convolution, x: Tensor, weight: Tensor) -> Tensor:
    """The layer by PyTorch."""
    how = dict(layer.how)
    up = int(how.pop("upsample", 1))
    if how.pop("transposed", False):
        return F.conv_transpose2d(x, weight, **how)
    return F.conv2d(F.interpolate(x, scale_factor=up) if up > 1 else x, weight, **how)


def without_gradient(run: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """The same, recording nothing."""
    return torch.no_grad()(run)

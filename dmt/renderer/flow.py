"""The learned renderer that DreamTalk uses: motion descriptor, flow, editing.

Written from the published interface (key names, shapes, mathematics), so that
a `renderer.pt` loads unchanged. Fully convolutional: any height and width that
are multiples of 32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError
from ..rates import COEFFICIENTS, POSE
from .flow_blocks import DownBlock, LayerNorm2d, MotionDescriptor, NormedConv, ResidualBlock, UpBlock

DESCRIPTOR = 256
WINDOW = 27
"""Frames of motion one picture sees: 13 before, 13 after."""
MOTION = COEFFICIENTS + POSE
"""Numbers a frame of motion has: 64 expression, 9 pose."""
STRIDE = 32
"""Height and width must be multiples of this."""


@dataclass(frozen=True)
class FlowSize:
    """Widths of the network; the defaults are the released one's. base: its channels are base / 2 to 4 base."""

    base: int = 64
    descriptor: int = DESCRIPTOR


@dataclass(frozen=True)
class Rendered:
    """image, warped: [B, 3, H, W] in [-1, 1]; flow: [B, 2, H/4, W/4] in flow-grid pixels."""

    image: Tensor
    warped: Tensor
    flow: Tensor


class Hourglass(nn.Module):
    """Portrait and descriptor -> features at a quarter of the size, [B, 256, H/4, W/4]."""

    def __init__(self, size: FlowSize) -> None:
        super().__init__()
        b = size.base
        self.encoder = nn.Module()
        self.encoder.input_layer = nn.Conv2d(3, b // 2, 7, padding=3)
        sizes = [(b // 2, b), (b, 2 * b), (2 * b, 4 * b), (4 * b, 4 * b), (4 * b, 4 * b)]
        for index, (inside, outside) in enumerate(sizes):
            self.encoder.add_module(f"encoder{index}", DownBlock(inside, outside, size.descriptor))
        self.decoder = nn.Module()
        for index, (inside, outside) in {4: (4 * b, 4 * b), 3: (8 * b, 4 * b), 2: (8 * b, 2 * b)}.items():
            self.decoder.add_module(f"decoder{index}", UpBlock(inside, outside, size.descriptor))

    def forward(self, portrait: Tensor, descriptor: Tensor) -> Tensor:
        skips = [self.encoder.input_layer(portrait)]
        for index in range(5):
            skips.append(self.encoder.get_submodule(f"encoder{index}")(skips[-1], descriptor))
        x = skips.pop()
        for index in (4, 3, 2):
            x = self.decoder.get_submodule(f"decoder{index}")(x, descriptor)
            x = torch.cat([x, skips[index]], 1)
        return x


class Warping(nn.Module):
    """Estimates the flow that moves the portrait's pixels."""

    def __init__(self, size: FlowSize) -> None:
        super().__init__()
        width = 4 * size.base
        self.hourglass = Hourglass(size)
        self.flow_out = nn.Sequential(LayerNorm2d(width), nn.LeakyReLU(0.1), nn.Conv2d(width, 2, 7, padding=3))

    def forward(self, portrait: Tensor, descriptor: Tensor) -> Tensor:
        return self.flow_out(self.hourglass(portrait, descriptor))


class Editing(nn.Module):
    """Portrait beside warped portrait -> finished picture in [-1, 1]."""

    def __init__(self, size: FlowSize) -> None:
        super().__init__()
        b = size.base
        self.encoder = nn.Module()
        self.encoder.first = NormedConv(6, b, 7)
        for index, (inside, outside) in enumerate([(b, 2 * b), (2 * b, 4 * b), (4 * b, 4 * b)]):
            self.encoder.add_module(f"down{index}", NormedConv(inside, outside, 3, pool=True))
        self.decoder = nn.Module()
        for index, (inside, outside) in {2: (4 * b, 4 * b), 1: (4 * b, 2 * b), 0: (2 * b, b)}.items():
            pair = nn.Module()
            pair.res0, pair.res1 = (ResidualBlock(inside, size.descriptor) for _ in range(2))
            self.decoder.add_module(f"res{index}", pair)
            self.decoder.add_module(f"up{index}", NormedConv(inside, outside, 3, upsample=True))
            self.decoder.add_module(f"jump{index}", NormedConv(outside, outside, 3))
        self.decoder.final = nn.Module()
        self.decoder.final.model = nn.Sequential(nn.Conv2d(b, 3, 7, padding=3))

    def forward(self, portrait: Tensor, warped: Tensor, descriptor: Tensor) -> Tensor:
        skips = [self.encoder.first(torch.cat([portrait, warped], 1))]
        for index in range(3):
            skips.append(self.encoder.get_submodule(f"down{index}")(skips[-1]))
        x = skips.pop()
        for index in (2, 1, 0):
            pair = self.decoder.get_submodule(f"res{index}")
            x = pair.res1(pair.res0(x, descriptor), descriptor)
            x = self.decoder.get_submodule(f"up{index}")(x)
            x = x + self.decoder.get_submodule(f"jump{index}")(skips[index])
        return torch.tanh(self.decoder.final.model(x))


def deformation(flow: Tensor) -> Tensor:
    """Flow [B, 2, h, w] in pixels of its own grid -> sampling positions [B, h, w, 2] in [-1, 1]."""
    height, width = flow.shape[-2:]
    # 2 i / (n - 1) - 1 and not linspace: the released network's rounding, visible at 1e-5.
    y = 2 * torch.arange(height, dtype=flow.dtype, device=flow.device) / (height - 1) - 1
    x = 2 * torch.arange(width, dtype=flow.dtype, device=flow.device) / (width - 1) - 1
    grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), 0)
    # Filled on the device: a tensor made of a list is copied from the host, which no CUDA graph can hold.
    size = torch.cat([flow.new_full((1, 1, 1), width - 1), flow.new_full((1, 1, 1), height - 1)])
    return (grid + 2 * flow / size).permute(0, 2, 3, 1)


def warp(portrait: Tensor, flow: Tensor) -> Tensor:
    """Portrait [B, 3, H, W] moved by the flow [B, 2, H/4, W/4].

    The grid is built with align_corners=True and sampled with False, as the
    released network does; weights were trained around that half-pixel shift.
    """
    return F.grid_sample(portrait, sampling_positions(flow, portrait.shape[-2:]), align_corners=False)


def sampling_positions(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """Flow [B, 2, h, w] -> where each pixel of a picture of `size` (H, W) comes from, [B, H, W, 2] in [-1, 1]."""
    positions = deformation(flow).permute(0, 3, 1, 2)
    return F.interpolate(positions, size, mode="bilinear", align_corners=False).permute(0, 2, 3, 1)


class FlowRenderer(nn.Module):
    """DreamTalk's renderer: portrait [B, 3, H, W] in [-1, 1] and motion [B, 73, 27] -> `Rendered`."""

    def __init__(self, size: FlowSize | None = None) -> None:
        super().__init__()
        size = size or FlowSize()
        self.mapping_net = MotionDescriptor(MOTION, size.descriptor)
        self.warpping_net = Warping(size)
        self.editing_net = Editing(size)

    def forward(self, portrait: Tensor, motion: Tensor) -> Rendered:
        check_inputs(portrait, motion)
        descriptor = self.mapping_net(motion)
        flow = self.warpping_net(portrait, descriptor)
        warped = warp(portrait, flow)
        return Rendered(self.editing_net(portrait, warped, descriptor), warped, flow)


def check_inputs(portrait: Tensor, motion: Tensor) -> None:
    """InputError unless the shapes are [B, 3, H, W] (multiples of 32) and [B, 73, 27]."""
    if portrait.ndim != 4 or portrait.shape[1] != 3 or portrait.shape[2] % STRIDE or portrait.shape[3] % STRIDE:
        raise InputError(
            f"expected a portrait [B, 3, H, W] with H and W multiples of {STRIDE}, got {list(portrait.shape)}"
        )
    if motion.ndim != 3 or tuple(motion.shape[1:]) != (MOTION, WINDOW) or len(motion) != len(portrait):
        raise InputError(
            f"expected motion [{len(portrait)}, {MOTION}, {WINDOW}] for this portrait, got {list(motion.shape)}"
        )


def motion_windows(motion: Tensor) -> Tensor:
    """Face motion [T, 73] -> windows [T, 73, 27] of 13 frames before and after, ends repeated."""
    frames = len(motion)
    half = WINDOW // 2
    index = torch.arange(frames)[:, None] + torch.arange(-half, half + 1)[None]
    return motion[index.clamp(0, frames - 1)].transpose(1, 2)

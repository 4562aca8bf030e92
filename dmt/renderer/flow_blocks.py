"""Building blocks of the learned renderer; parameter names are the checkpoint's.

Everything here is the plain meaning of the network. `flow_fast.py` and `flow_tiles.py` hold
the same mathematics rearranged for speed; tests keep them equal.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SLOPE = 0.1
"""Negative slope of every LeakyReLU in the renderer."""


def activate(x: Tensor) -> Tensor:
    """The leaky ReLU between all convolutions of the renderer."""
    return F.leaky_relu(x, SLOPE)


class Modulation(nn.Module):
    """Instance norm whose scale and shift follow the motion descriptor (AdaIN).

    forward: x [B, C, H, W], descriptor [B, D] -> [B, C, H, W].
    """

    def __init__(self, channels: int, descriptor: int, hidden: int = 128) -> None:
        super().__init__()
        self.mlp_shared = nn.Sequential(nn.Linear(descriptor, hidden), nn.ReLU())
        self.mlp_gamma = nn.Linear(hidden, channels)
        self.mlp_beta = nn.Linear(hidden, channels)

    def scale_shift(self, descriptor: Tensor) -> tuple[Tensor, Tensor]:
        """Scale 1 + gamma and shift beta, each [B, C]."""
        shared = self.mlp_shared(descriptor)
        return 1 + self.mlp_gamma(shared), self.mlp_beta(shared)

    def forward(self, x: Tensor, descriptor: Tensor) -> Tensor:
        scale, shift = self.scale_shift(descriptor)
        return F.instance_norm(x, eps=1e-5) * scale[..., None, None] + shift[..., None, None]


class LayerNorm2d(nn.Module):
    """Layer norm over (C, H, W) with one weight and bias a channel ([C, 1, 1])."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        shape = x.shape[1:]
        return F.layer_norm(x, shape, self.weight.expand(shape), self.bias.expand(shape), eps=1e-5)


class MotionDescriptor(nn.Module):
    """Coefficients of 27 frames [B, 73, 27] -> descriptor [B, 256]."""

    def __init__(self, coefficients: int, width: int, layers: int = 3) -> None:
        super().__init__()
        self.layers = layers
        self.first = nn.Sequential(nn.Conv1d(coefficients, width, 7))
        for index in range(layers):
            block = nn.Sequential(nn.LeakyReLU(SLOPE), nn.Conv1d(width, width, 3, dilation=3))
            self.add_module(f"encoder{index}", block)

    def forward(self, motion: Tensor) -> Tensor:
        x = self.first(motion)
        for index in range(self.layers):
            x = self.get_submodule(f"encoder{index}")(x) + x[:, :, 3:-3]
        return x.mean(2)


class DownBlock(nn.Module):
    """Modulated convolution that halves the picture, then one that keeps it."""

    def __init__(self, inside: int, outside: int, descriptor: int) -> None:
        super().__init__()
        self.conv_0 = nn.Conv2d(inside, outside, 4, stride=2, padding=1)
        self.conv_1 = nn.Conv2d(outside, outside, 3, padding=1)
        self.norm_0 = Modulation(inside, descriptor)
        self.norm_1 = Modulation(outside, descriptor)

    def forward(self, x: Tensor, descriptor: Tensor) -> Tensor:
        x = self.conv_0(activate(self.norm_0(x, descriptor)))
        return self.conv_1(activate(self.norm_1(x, descriptor)))


class UpBlock(nn.Module):
    """Residual block that doubles the picture with transposed convolutions."""

    def __init__(self, inside: int, outside: int, descriptor: int) -> None:
        super().__init__()
        double = dict(kernel_size=3, stride=2, padding=1, output_padding=1)
        self.conv_0 = nn.Conv2d(inside, outside, 3, padding=1)
        self.conv_1 = nn.ConvTranspose2d(outside, outside, **double)
        self.conv_s = nn.ConvTranspose2d(inside, outside, **double)
        self.norm_0 = Modulation(inside, descriptor)
        self.norm_1 = Modulation(outside, descriptor)
        self.norm_s = Modulation(inside, descriptor)

    def forward(self, x: Tensor, descriptor: Tensor) -> Tensor:
        short = self.conv_s(activate(self.norm_s(x, descriptor)))
        x = self.conv_0(activate(self.norm_0(x, descriptor)))
        return short + self.conv_1(activate(self.norm_1(x, descriptor)))


class ResidualBlock(nn.Module):
    """x + norm2(conv2(x)).

    The checkpoint also holds conv1 and norm1, whose result the released network
    overwrites before use; they are kept so that files load strictly, and never run.
    """

    def __init__(self, channels: int, descriptor: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm1 = Modulation(channels, descriptor)
        self.norm2 = Modulation(channels, descriptor)

    def forward(self, x: Tensor, descriptor: Tensor) -> Tensor:
        return x + self.norm2(self.conv2(x), descriptor)

    def forward_with_dead_branch(self, x: Tensor, descriptor: Tensor) -> Tensor:
        """The released network's work, dead branch computed and dropped; a baseline for timing."""
        activate(self.norm1(self.conv1(x), descriptor))
        return x + self.norm2(self.conv2(x), descriptor)


class NormedConv(nn.Module):
    """Convolution, layer norm, LeakyReLU; `model` is the checkpoint's name for them."""

    def __init__(self, inside: int, outside: int, kernel: int, *, pool: bool = False, upsample: bool = False) -> None:
        super().__init__()
        self.pool, self.upsample = pool, upsample
        self.model = nn.Sequential(nn.Conv2d(inside, outside, kernel, padding=kernel // 2), LayerNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        if self.upsample:
            x = F.interpolate(x, scale_factor=2, mode="nearest")
        x = activate(self.model(x))
        return F.avg_pool2d(x, 2) if self.pool else x

"""The learned renderer on matrix tiles (AMX), equal to `FlowRenderer` within 2e-5 at precision "highest".

What `flow_fast` does, with convolutions of our own (`dmt_kernels.packed_conv2d`) in place of PyTorch's: a number of
float32 is the sum of one to three of bfloat16. Features stay float32, channels last. A norm costs no pass over them:
the convolution before it returns mean and variance, and the one after it scales, shifts and rectifies what it reads.
"""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmt_kernels import Measured, PackedConv2d, measured_conv2d, modulate, pack_conv2d, packed_conv2d

from .flow import Editing, FlowRenderer, Warping
from .flow_blocks import SLOPE, LayerNorm2d, NormedConv
from .flow_fast import PortraitRenderer, PreparedPortrait
from .flow_fast_blocks import QuickDescriptor, Scales, rowwise, sum_of_rows

Affine = tuple[Tensor, Tensor]
"""Scale and shift of a norm with what follows it, each [B, C]."""


class Features(NamedTuple):
    """What a convolution reads: y [B, C, H, W]; scaled, shifted (each [B, C]) and rectified on the way, or as it is."""

    y: Tensor
    scale: Tensor | None = None
    shift: Tensor | None = None
    slope: float = 1.0


EPSILON = 1e-5
LAST = torch.channels_last


class TileFlowRenderer(PortraitRenderer):
    """Same weights and results as `FastFlowRenderer`, on a CPU with matrix tiles.

    precision: of the convolutions that make the picture, flow_precision: of those that estimate the flow: "highest" (as
    exact as float32), "high" (16 bits of each number) or "medium" (8).
    """

    def __init__(self, renderer: FlowRenderer, precision: str = "highest", flow_precision: str = "highest") -> None:
        super().__init__(renderer)
        self.mapping = QuickDescriptor(renderer.mapping_net)
        self.norms = nn.ModuleDict()
        self.packed: dict[str, PackedConv2d] = {}
        self._pack_flow(renderer.warpping_net, flow_precision)
        self._pack_editing(renderer.editing_net, precision)
        self.eval().requires_grad_(False)

    def _pack_flow(self, net: Warping, precision: str) -> None:
        self.stem = copy.deepcopy(net.hourglass.encoder.input_layer)
        for name, conv in net.hourglass.named_modules():
            if isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d)) and name != "encoder.input_layer":
                self.packed[name] = packed(conv, precision)
        self.norms["flow"] = copy.deepcopy(net.flow_out[0])
        self.flow_out = RowwiseTiles(net.flow_out[2], precision)

    def _pack_editing(self, net: Editing, precision: str) -> None:
        first = net.encoder.first.model[0]
        self.portrait_half = nn.Conv2d(3, first.out_channels, 7, padding=3)
        self.portrait_half.weight.data, self.portrait_half.bias.data = first.weight.detach()[:, :3], first.bias.detach()
        self.first = wide_first(first.weight.detach()[:, 3:], precision)
        for name, block in net.named_modules():
            if isinstance(block, NormedConv):
                self.norms[name.replace(".", "_")] = copy.deepcopy(block.model[1])
                if name != "encoder.first":
                    self.packed[name] = packed(block.model[0], precision, upsample=2 if block.upsample else 1)
            elif isinstance(block, nn.Conv2d) and name.endswith("conv2"):
                self.packed[name] = packed(block, precision)
        self.final = RowwiseTiles(net.decoder.final.model[0], precision)

    @torch.no_grad()
    def prepare(self, portrait: Tensor) -> PreparedPortrait:
        """Portrait [1, 3, H, W] in [-1, 1] -> what all of its frames share; everything channels last."""
        stem, half = (conv(portrait).contiguous(memory_format=LAST) for conv in (self.stem, self.portrait_half))
        return PreparedPortrait(portrait, F.instance_norm(stem, eps=EPSILON), stem, half)

    def flow(self, prepared: PreparedPortrait, scales: Scales) -> Tensor:
        """The flow field [B, 2, H/4, W/4], float32."""

        def conv(name: str, x: Measured, norm: str, add: Tensor | None = None) -> Measured:
            read = Features(x.y, *instance(x, scales[f"warpping_net.hourglass.{norm}"]), SLOPE)
            return self._conv(name, read, add)

        stem_scale, stem_shift = scales["warpping_net.hourglass.encoder.encoder0.norm_0"]
        stem = prepared.stem.expand(len(stem_scale), -1, -1, -1)  # normalised already
        x = self._conv("encoder.encoder0.conv_0", Features(stem, stem_scale, stem_shift, SLOPE))
        skips = [conv("encoder.encoder0.conv_1", x, "encoder.encoder0.norm_1")]
        for index in range(1, 5):
            at = f"encoder.encoder{index}"
            x = conv(f"{at}.conv_0", skips[-1], f"{at}.norm_0")
            skips.append(conv(f"{at}.conv_1", x, f"{at}.norm_1"))
        x = skips.pop()
        for index in (4, 3, 2):
            at = f"decoder.decoder{index}"
            short = conv(f"{at}.conv_s", x, f"{at}.norm_s").y
            x = conv(f"{at}.conv_0", x, f"{at}.norm_0")
            x = beside(conv(f"{at}.conv_1", x, f"{at}.norm_1", add=short), skips[index - 1])
        return self.flow_out(Features(x.y, *layer(x, self.norms["flow"]), SLOPE))

    def edit(self, prepared: PreparedPortrait, warped: Tensor, scales: Scales) -> Tensor:
        """The finished picture [B, 3, H, W] in [-1, 1], float32."""
        x = measured_conv2d(wide_pixels(warped), self.first, add=prepared.first.expand(len(warped), -1, -1, -1))
        skips = [Features(x.y, *layer(x, self.norms["encoder_first"]), SLOPE)]
        for index in range(3):
            x = self._conv(f"encoder.down{index}", skips[-1])
            norm = layer(x, self.norms[f"encoder_down{index}"])
            skips.append(Features(modulate(x.y, *norm, SLOPE, pool=True)))
        y = skips.pop().y
        for index in (2, 1, 0):
            for res in ("res0", "res1"):
                name = f"decoder.res{index}.{res}"
                x = self._conv(f"{name}.conv2", Features(y))
                y = modulate(x.y, *instance(x, scales[f"editing_net.{name}.norm2"]), add=y)
            up = self._conv(f"decoder.up{index}", Features(y))
            jump = self._conv(f"decoder.jump{index}", skips[index])
            norm, other = (self.norms[f"decoder_{name}{index}"] for name in ("up", "jump"))
            y = modulate(up.y, *layer(up, norm), SLOPE, add=jump.y, add_affine=layer(jump, other))
        return torch.tanh_(self.final(Features(y)))

    def _conv(self, name: str, read: Features, add: Tensor | None = None) -> Measured:
        return measured_conv2d(read.y, self.packed[name], *read[1:], add=add)


class RowwiseTiles(nn.Module):
    """`RowwiseConv` on tiles, where 32 outputs at a time cost as much as 2 or 3."""

    def __init__(self, conv: nn.Conv2d, precision: str) -> None:
        super().__init__()
        padding = (0, conv.kernel_size[1] // 2)
        self.rows = pack_conv2d(rowwise(conv.weight.detach()), padding=padding, precision=precision)
        self.register_buffer("bias", conv.bias.detach().view(-1, 1, 1))

    def forward(self, read: Features) -> Tensor:
        """Features of C channels -> float32 [B, O, H, W]."""
        return sum_of_rows(packed_conv2d(read.y, self.rows, *read[1:]), self.bias)


def packed(conv: nn.Conv2d | nn.ConvTranspose2d, precision: str, upsample: int = 1) -> PackedConv2d:
    """A module's weight for tiles."""
    transposed = isinstance(conv, nn.ConvTranspose2d)
    return pack_conv2d(
        conv.weight,
        conv.bias.detach(),
        stride=conv.stride[0],
        padding=conv.padding[0],
        output_padding=conv.output_padding[0] if transposed else 0,
        transposed=transposed,
        upsample=upsample,
        precision=precision,
    )


def wide_first(weight: Tensor, precision: str) -> PackedConv2d:
    """A k x k convolution of few channels as k x 1 one of k times as many, those of k pixels side by side."""
    outputs, channels, size, _ = weight.shape
    column = weight.permute(0, 3, 1, 2).reshape(outputs, size * channels, size, 1)
    return pack_conv2d(column, padding=(size // 2, 0), precision=precision)


def wide_pixels(x: Tensor, size: int = 7) -> Tensor:
    """[B, C, H, W] -> [B, size C, H, W], the pixels around each one, of which nothing is copied but the rim."""
    batch, channels, height, width = x.shape
    rim = size // 2
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, rim, rim)).contiguous()  # [B, H, W + size - 1, C]
    frame, row, pixel, _ = padded.stride()
    return padded.as_strided((batch, size * channels, height, width), (frame, 1, row, pixel))


def instance(x: Measured, scale_shift: Affine) -> Affine:
    """Instance norm and its modulation, as one scale and shift."""
    scale = scale_shift[0] * torch.rsqrt(x.variance + EPSILON)
    return scale, torch.addcmul(scale_shift[1], x.mean, scale, value=-1)


def layer(x: Measured, norm: LayerNorm2d) -> Affine:
    """Layer norm over (C, H, W) with a channel's weight and bias, as one scale and shift."""
    between, mean = torch.var_mean(x.mean, 1, correction=0, keepdim=True)
    scale = norm.weight.view(1, -1) * torch.rsqrt(x.variance.mean(1, keepdim=True) + between + EPSILON)
    return scale, torch.addcmul(norm.bias.view(1, -1), mean, scale, value=-1)


def beside(a: Measured, b: Measured) -> Measured:
    """Channels of both."""
    return Measured(*(torch.cat(pair, 1) for pair in zip(a, b, strict=True)))

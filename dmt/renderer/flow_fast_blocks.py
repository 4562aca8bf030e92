"""Pieces of the fast renderer: modulations in two products, convolutions with fewer products, one-call norms."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dmt_kernels import sparse_bmm

from .flow_blocks import SLOPE, LayerNorm2d, Modulation, MotionDescriptor

Scales = dict[str, tuple[Tensor, Tensor]]
"""Per modulated norm: scale and shift, each [B, C] float32."""


def product(x: Tensor, weight: Tensor) -> Tensor:
    """x [N, P, D] @ weight [N, D, out], to the bit the same however many threads there are, which MKL's is not."""
    return sparse_bmm(x, weight, impl="sparse")


class StackedModulations(nn.Module):
    """Scales and shifts of every site from one product for the shared layers and one for the heads."""

    def __init__(self, sites: dict[str, Modulation]) -> None:
        super().__init__()
        self.names = list(sites)
        self.widths = [m.mlp_gamma.out_features for m in sites.values()]
        shared = [m.mlp_shared[0] for m in sites.values()]
        self.register_buffer("weight", torch.cat([s.weight.detach() for s in shared]).T.contiguous())
        self.register_buffer("bias", torch.cat([s.bias.detach() for s in shared]))
        # Heads padded to the widest site: one batched product instead of two calls a site.
        widest, hidden = max(self.widths), shared[0].out_features
        heads = torch.zeros(len(sites), hidden, 2 * widest)
        offsets = torch.zeros(len(sites), 1, 2 * widest)
        for i, m in enumerate(sites.values()):
            c = m.mlp_gamma.out_features
            heads[i, :, :c], heads[i, :, widest : widest + c] = (
                m.mlp_gamma.weight.detach().T,
                m.mlp_beta.weight.detach().T,
            )
            offsets[i, 0, :c] = m.mlp_gamma.bias.detach() + 1
            offsets[i, 0, widest : widest + c] = m.mlp_beta.bias.detach()
        self.register_buffer("heads", heads)
        self.register_buffer("offsets", offsets)

    def forward(self, descriptor: Tensor) -> Scales:
        """Descriptor [B, 256] -> scales of all sites."""
        shared = F.relu(product(descriptor[None], self.weight[None])[0] + self.bias)
        shared = shared.unflatten(1, (len(self.names), -1)).transpose(0, 1)  # [sites, B, 128]
        both = product(shared, self.heads).add_(self.offsets)
        widest = both.shape[-1] // 2
        return {
            name: (both[i, :, :c], both[i, :, widest : widest + c])
            for i, (name, c) in enumerate(zip(self.names, self.widths, strict=True))
        }


class PhaseConv(nn.Module):
    """Nearest-neighbour doubling and a 3x3 convolution, as one 2x2 convolution with four times the outputs.

    Output pixel (2i + a, 2j + b) sees only a 2x2 patch of the small picture, with
    kernel rows (columns) that meet the same source pixel added together.
    """

    def __init__(self, conv: nn.Conv2d, memory_format: torch.memory_format = torch.channels_last) -> None:
        super().__init__()
        fold = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])  # [phase, 2, 3]
        fold = fold.to(conv.weight.device)
        folded = torch.einsum("aiu,bjv,ocuv->abocij", fold, fold, conv.weight.detach().float())
        weight = folded.flatten(0, 2).to(conv.weight.dtype)  # [4 O, C, 2, 2]
        self.register_buffer("weight", weight.contiguous(memory_format=memory_format))
        self.register_buffer("bias", conv.bias.detach().repeat(4))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, O, 2H, 2W], channels last."""
        batch, _, height, width = x.shape
        outputs = len(self.bias) // 4
        y = F.conv2d(x, self.weight, self.bias, padding=1)  # [B, 4 O, H + 1, W + 1]
        out = x.new_empty(batch, 2 * height, 2 * width, outputs).permute(0, 3, 1, 2)
        for phase in range(4):
            a, b = divmod(phase, 2)
            out[:, :, a::2, b::2] = y[:, phase * outputs : (phase + 1) * outputs, a : a + height, b : b + width]
        return out


class RowwiseConv(nn.Module):
    """A k x k convolution with few outputs O, as one 1 x k convolution with k O outputs and k shifted sums.

    Direct kernels work on 16 output channels at a time, so that 2 or 3 cost as much as 16.
    The sums are float32 whatever the type of the products.
    """

    def __init__(self, conv: nn.Conv2d, memory_format: torch.memory_format = torch.channels_last) -> None:
        super().__init__()
        self.size = conv.kernel_size[0]
        self.register_buffer("weight", rowwise(conv.weight.detach()).contiguous(memory_format=memory_format))
        self.register_buffer("bias", conv.bias.detach().float().view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> float32 [B, O, H, W]."""
        return sum_of_rows(F.conv2d(x, self.weight, padding=(0, self.size // 2)).float(), self.bias)


def rowwise(weight: Tensor) -> Tensor:
    """[O, C, k, k] -> [k O, C, 1, k]: its rows as outputs of their own."""
    return weight.permute(2, 0, 1, 3).flatten(0, 1)[:, :, None]


def sum_of_rows(y: Tensor, bias: Tensor) -> Tensor:
    """What the rows of a kernel gave, [B, k O, H, W], and a bias [O, 1, 1] -> [B, O, H, W]."""
    # Rows above and below the picture give zeros, which are put where they belong instead of being computed. Added in
    # turn: how `sum` adds depends on the number of threads.
    outputs, size = len(bias), y.shape[1] // len(bias)
    height = y.shape[2]
    rows = F.pad(y, (0, 0, size // 2, size // 2)).unflatten(1, (size, outputs))  # [B, k, O, H + k - 1, W]
    total = rows[:, 0, :, :height] + bias
    for k in range(1, size):
        total += rows[:, k, :, k : k + height]
    return total.contiguous()


class QuickDescriptor(nn.Module):
    """`MotionDescriptor` as a product for each layer: PyTorch has no fast dilated convolution of so few frames."""

    def __init__(self, mapping: MotionDescriptor) -> None:
        super().__init__()
        convolutions = [mapping.first[0], *(mapping.get_submodule(f"encoder{i}")[1] for i in range(mapping.layers))]
        self.taps = [(c.kernel_size[0], c.dilation[0]) for c in convolutions]
        for i, c in enumerate(convolutions):
            self.register_buffer(f"weight{i}", c.weight.detach().permute(2, 1, 0).flatten(0, 1)[None].contiguous())
            self.register_buffer(f"bias{i}", c.bias.detach().clone())

    def forward(self, motion: Tensor) -> Tensor:
        """Motion [B, 73, T] -> descriptors [B, 256]."""
        x = self._layer(0, motion.transpose(1, 2))
        for i in range(1, len(self.taps)):
            x = self._layer(i, F.leaky_relu(x, SLOPE)) + x[:, 3:-3]
        return x.mean(1)

    def _layer(self, i: int, x: Tensor) -> Tensor:
        size, dilation = self.taps[i]
        frames = x.shape[1] - (size - 1) * dilation
        seen = torch.cat([x[:, k * dilation : k * dilation + frames] for k in range(size)], 2)
        y = product(seen.flatten(0, 1)[None], getattr(self, f"weight{i}"))[0] + getattr(self, f"bias{i}")
        return y.unflatten(0, (len(x), frames))


def modulate(x: Tensor, scales: tuple[Tensor, Tensor], *, activate: bool = True) -> Tensor:
    """Instance norm, scale, shift and (unless told otherwise) LeakyReLU; x [B, C, H, W], scales [B, C]."""
    scale, shift = scales
    if len(x) == 1:
        out = F.batch_norm(x, None, None, scale[0], shift[0], training=True, eps=1e-5)
    else:
        variance, mean = torch.var_mean(x.float(), (2, 3), correction=0)
        scale = scale * torch.rsqrt(variance + 1e-5)
        shift = shift - mean * scale
        out = torch.addcmul(shift[..., None, None].to(x.dtype), x, scale[..., None, None].to(x.dtype))
    return F.leaky_relu_(out, SLOPE) if activate else out


def normalise(x: Tensor, norm: LayerNorm2d) -> Tensor:
    """Layer norm over (C, H, W) with a channel's weight and bias, then LeakyReLU."""
    weight, bias = norm.weight.view(-1), norm.bias.view(-1)
    if x.is_cuda:  # whose group norm sums in float32 too, but wants its weights in the type of x
        weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    return F.leaky_relu_(F.group_norm(x, 1, weight, bias, eps=1e-5), SLOPE)

"""The learned renderer rearranged for speed, equal to `FlowRenderer` within 2e-5.

What changes, none of it the mathematics:
- everything that depends on the portrait alone is computed once (`prepare`);
- scales and shifts of every modulated norm come from two stacked products a clip;
- instance norm with its modulation is one batch-norm call over B * C channels;
- layer norm over (C, H, W) is group norm with one group (no expanded weights);
- nearest-neighbour doubling followed by a 3x3 convolution is four 2x2 convolutions
  on the small picture (4/9 of the products).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .flow import FlowRenderer, Rendered, check_inputs, warp
from .flow_blocks import SLOPE, LayerNorm2d, Modulation, NormedConv, UpBlock


@dataclass(frozen=True)
class PreparedPortrait:
    """What one portrait contributes to every frame.

    image: [1, 3, H, W]; stem: first hourglass layer, instance-normalised [1, 32, H, W];
    stem_raw: the same before the norm; first: the portrait's half of the editing network's
    first convolution with its bias [1, 64, H, W].
    """

    image: Tensor
    stem: Tensor
    stem_raw: Tensor
    first: Tensor


class FastFlowRenderer(nn.Module):
    """Same weights and results as the `FlowRenderer` given (within 2e-5), in less time.

    Weights are copied at construction: build it again after loading others.
    """

    def __init__(self, renderer: FlowRenderer) -> None:
        super().__init__()
        self.renderer = renderer
        sites = {n: m for n, m in renderer.named_modules() if isinstance(m, Modulation) and not n.endswith("norm1")}
        self.modulations = StackedModulations(sites)
        self.phases = nn.ModuleDict()
        for index in (0, 1, 2):
            up: NormedConv = renderer.editing_net.decoder.get_submodule(f"up{index}")
            self.phases[str(index)] = PhaseConv(up.model[0])

    @torch.no_grad()
    def prepare(self, portrait: Tensor) -> PreparedPortrait:
        """Portrait [1, 3, H, W] in [-1, 1] -> what all of its frames share."""
        stem = self.renderer.warpping_net.hourglass.encoder.input_layer(portrait)
        first = self.renderer.editing_net.encoder.first.model[0]
        half = F.conv2d(portrait, first.weight[:, :3], first.bias, padding=3)
        return PreparedPortrait(portrait, F.instance_norm(stem, eps=1e-5), stem, half)

    @torch.no_grad()
    def forward(self, portrait: Tensor | PreparedPortrait, motion: Tensor) -> Rendered:
        """Portrait (prepared, or [1, 3, H, W]) and motion [B, 73, 27] -> `Rendered` of B frames."""
        prepared = portrait if isinstance(portrait, PreparedPortrait) else self.prepare(portrait)
        batch = len(motion)
        image = prepared.image.expand(batch, -1, -1, -1)
        check_inputs(image, motion)
        scales = self.modulations(self.renderer.mapping_net(motion))
        flow = self._flow(prepared, scales)
        warped = warp(image, flow)
        return Rendered(self._edit(prepared, warped, scales), warped, flow)

    def _flow(self, prepared: PreparedPortrait, scales: Scales) -> Tensor:
        net = self.renderer.warpping_net
        prefix = "warpping_net.hourglass"
        block = net.hourglass.encoder.encoder0
        gamma, beta = scales[f"{prefix}.encoder.encoder0.norm_0"]
        x = F.leaky_relu_(prepared.stem * gamma[..., None, None] + beta[..., None, None], SLOPE)
        skips = [prepared.stem_raw]
        for index in range(5):
            block = net.hourglass.encoder.get_submodule(f"encoder{index}")
            name = f"{prefix}.encoder.encoder{index}"
            if index:
                x = modulate(skips[-1], scales[f"{name}.norm_0"])
            x = modulate(block.conv_0(x), scales[f"{name}.norm_1"])
            skips.append(block.conv_1(x))
        x = skips.pop()
        for index in (4, 3, 2):
            up: UpBlock = net.hourglass.decoder.get_submodule(f"decoder{index}")
            name = f"{prefix}.decoder.decoder{index}"
            short = up.conv_s(modulate(x, scales[f"{name}.norm_s"]))
            x = up.conv_0(modulate(x, scales[f"{name}.norm_0"]))
            x = short + up.conv_1(modulate(x, scales[f"{name}.norm_1"]))
            x = torch.cat([x, skips[index]], 1)
        return net.flow_out[2](normalise(x, net.flow_out[0]))

    def _edit(self, prepared: PreparedPortrait, warped: Tensor, scales: Scales) -> Tensor:
        net = self.renderer.editing_net
        conv, norm = net.encoder.first.model
        x = F.conv2d(warped, conv.weight[:, 3:], None, padding=3) + prepared.first
        skips = [normalise(x, norm)]
        for index in range(3):
            conv, norm = net.encoder.get_submodule(f"down{index}").model
            skips.append(F.avg_pool2d(normalise(conv(skips[-1]), norm), 2))
        x = skips.pop()
        for index in (2, 1, 0):
            for res in ("res0", "res1"):
                name = f"editing_net.decoder.res{index}.{res}"
                block = net.decoder.get_submodule(f"res{index}.{res}")
                x = x + modulate(block.conv2(x), scales[f"{name}.norm2"], activate=False)
            up = net.decoder.get_submodule(f"up{index}")
            jump = net.decoder.get_submodule(f"jump{index}")
            x = normalise(self.phases[str(index)](x), up.model[1])
            x = x + normalise(jump.model[0](skips[index]), jump.model[1])
        return torch.tanh(net.decoder.final.model(x))


Scales = dict[str, tuple[Tensor, Tensor]]
"""Per modulated norm: scale and shift, each [B, C]."""


class StackedModulations(nn.Module):
    """Scales and shifts of every site from one product for the shared layers and one for the heads."""

    def __init__(self, sites: dict[str, Modulation]) -> None:
        super().__init__()
        self.names = list(sites)
        self.widths = [m.mlp_gamma.out_features for m in sites.values()]
        shared = [m.mlp_shared[0] for m in sites.values()]
        self.register_buffer("weight", torch.cat([s.weight.detach() for s in shared]))
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
        shared = F.relu(F.linear(descriptor, self.weight, self.bias))
        shared = shared.unflatten(1, (len(self.names), -1)).transpose(0, 1)  # [sites, B, 128]
        both = torch.baddbmm(self.offsets, shared, self.heads)
        widest = both.shape[-1] // 2
        return {
            name: (both[i, :, :c], both[i, :, widest : widest + c])
            for i, (name, c) in enumerate(zip(self.names, self.widths, strict=True))
        }


class PhaseConv(nn.Module):
    """Nearest-neighbour doubling and a 3x3 convolution, as four 2x2 convolutions.

    Output pixel (2i + a, 2j + b) sees only a 2x2 patch of the small picture, with
    kernel rows (columns) that meet the same source pixel added together.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        fold = torch.tensor([[[1.0, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]])  # [phase, 2, 3]
        weight = conv.weight.detach()
        folded = torch.einsum("aiu,bjv,ocuv->aboijc", fold.to(weight), fold.to(weight), weight)
        self.register_buffer("weight", folded.permute(0, 1, 2, 5, 3, 4).contiguous())  # [2, 2, O, C, 2, 2]
        self.register_buffer("bias", conv.bias.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """x [B, C, H, W] -> [B, O, 2H, 2W]."""
        batch, _, height, width = x.shape
        out = x.new_empty(batch, len(self.bias), height, 2, width, 2)
        for a in (0, 1):
            for b in (0, 1):
                patch = F.pad(x, (1 - b, b, 1 - a, a))
                out[:, :, :, a, :, b] = F.conv2d(patch, self.weight[a, b], self.bias)
        return out.view(batch, len(self.bias), 2 * height, 2 * width)


def modulate(x: Tensor, scales: tuple[Tensor, Tensor], *, activate: bool = True) -> Tensor:
    """Instance norm, scale, shift and (unless told otherwise) LeakyReLU; x [B, C, H, W], scales [B, C]."""
    flat = x.reshape(1, -1, *x.shape[2:])
    scale, shift = (s.reshape(-1) for s in scales)
    out = F.batch_norm(flat, None, None, scale, shift, training=True, eps=1e-5).view_as(x)
    return F.leaky_relu_(out, SLOPE) if activate else out


def normalise(x: Tensor, norm: LayerNorm2d) -> Tensor:
    """Layer norm over (C, H, W) with a channel's weight and bias, then LeakyReLU."""
    return F.leaky_relu_(F.group_norm(x, 1, norm.weight.view(-1), norm.bias.view(-1), eps=1e-5), SLOPE)

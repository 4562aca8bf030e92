"""The learned renderer rearranged for speed, equal to `FlowRenderer` within 2e-5 in float32.

What changes, none of it the mathematics:
- everything that depends on the portrait alone is computed once (`prepare`);
- scales and shifts of every modulated norm come from two stacked products a clip;
- on a CPU frames go one by one, so that instance norm with its modulation is one batch-norm call;
- layer norm over (C, H, W) is group norm with one group (no expanded weights);
- nearest-neighbour doubling followed by a 3x3 convolution is one 2x2 convolution with four
  times the outputs on the small picture (4/9 of the products);
- the 7x7 convolutions with 2 or 3 outputs are 1x7 ones with seven times as many.

Convolutions in 16 bits run channels last. Float32 ones do not: those kernels are a tenth faster but round
more, and leave the 2e-5 at sharp edges of a portrait.

With `dtype` bfloat16 or float16 the convolutions run in it; descriptor, modulations, warping, the
sums of every norm and those that make flow field and picture stay float32. Float32 means float32 on a GPU too, where
PyTorch lets convolutions round to TF32 by itself, which leaves pictures 1e-3 from it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .flow import FlowRenderer, Rendered, check_inputs, warp
from .flow_blocks import SLOPE, Modulation, NormedConv, ResidualBlock, UpBlock
from .flow_fast_blocks import PhaseConv, RowwiseConv, Scales, StackedModulations, modulate, normalise


@contextmanager
def without_tf32(device: torch.device | str) -> Iterator[None]:
    """Float32 convolutions on a GPU keep all their bits; everything else about cuDNN stays as it is set."""
    b = torch.backends.cudnn
    if torch.device(device).type != "cuda" or not b.allow_tf32:
        yield
        return
    same = dict(benchmark=b.benchmark, benchmark_limit=b.benchmark_limit, deterministic=b.deterministic)
    with b.flags(enabled=b.enabled, allow_tf32=False, **same):
        yield


@dataclass(frozen=True)
class PreparedPortrait:
    """What one portrait contributes to every frame.

    image: [1, 3, H, W] float32; stem: first hourglass layer, instance-normalised [1, 32, H, W];
    stem_raw: the same before the norm; first: the portrait's half of the editing network's
    first convolution with its bias [1, 64, H, W].
    """

    image: Tensor
    stem: Tensor
    stem_raw: Tensor
    first: Tensor


class PortraitRenderer(nn.Module):
    """What the fast forms share: a portrait is prepared once, then its frames are made from motion.

    Weights are copied at construction: build it again after loading others. A form has `prepare`, `flow` and `edit`.
    """

    def __init__(self, renderer: FlowRenderer) -> None:
        super().__init__()
        sites = {n: m for n, m in renderer.named_modules() if isinstance(m, Modulation) and not n.endswith("norm1")}
        self.modulations = StackedModulations(sites)
        self.mapping: nn.Module = copy.deepcopy(renderer.mapping_net)

    def prepare(self, portrait: Tensor) -> PreparedPortrait:
        """Portrait [1, 3, H, W] in [-1, 1] -> what all of its frames share."""
        raise NotImplementedError

    def flow(self, prepared: PreparedPortrait, scales: Scales) -> Tensor:
        """The flow field [B, 2, H/4, W/4], float32."""
        raise NotImplementedError

    def edit(self, prepared: PreparedPortrait, warped: Tensor, scales: Scales) -> Tensor:
        """The finished picture [B, 3, H, W] in [-1, 1], float32."""
        raise NotImplementedError

    @torch.no_grad()
    def forward(self, portrait: Tensor | PreparedPortrait, motion: Tensor) -> Rendered:
        """Portrait (prepared, or [1, 3, H, W]) and motion [B, 73, 27] -> `Rendered` of B frames, float32."""
        prepared = portrait if isinstance(portrait, PreparedPortrait) else self.prepare(portrait)
        check_inputs(prepared.image.expand(len(motion), -1, -1, -1), motion)
        if motion.device.type == "cuda" or len(motion) < 2:
            return self.render(prepared, self.describe(motion))
        parts = [self.render(prepared, self.describe(one)) for one in motion.split(1)]
        return Rendered(*(torch.cat([getattr(p, f) for p in parts]) for f in ("image", "warped", "flow")))

    @torch.no_grad()
    def describe(self, motion: Tensor) -> Tensor:
        """Motion [B, 73, 27] -> descriptors [B, 256], all that frames depend on besides the portrait."""
        with without_tf32(motion.device):
            return self.mapping(motion)

    @torch.no_grad()
    def render(self, prepared: PreparedPortrait, descriptor: Tensor) -> Rendered:
        """Descriptors [B, 256] -> `Rendered`; all frames in one batch."""
        with without_tf32(descriptor.device):
            scales = self.modulations(descriptor)
            flow = self.flow(prepared, scales)
            warped = warp(prepared.image.expand(len(descriptor), -1, -1, -1), flow)
            return Rendered(self.edit(prepared, warped, scales), warped, flow)


class FastFlowRenderer(PortraitRenderer):
    """Same weights and results as the `FlowRenderer` given (within 2e-5 in float32), in less time.

    dtype: of the convolutions; flow_dtype: of those that estimate the flow (default: `dtype`).
    """

    def __init__(
        self, renderer: FlowRenderer, dtype: torch.dtype = torch.float32, flow_dtype: torch.dtype | None = None
    ) -> None:
        super().__init__(renderer)
        self.dtype, self.flow_dtype = dtype, flow_dtype or dtype
        self.format, self.flow_format = _format(dtype), _format(self.flow_dtype)
        self.warping = _convolutions_only(renderer.warpping_net, self.flow_dtype, self.flow_format)
        self.editing = _convolutions_only(renderer.editing_net, dtype, self.format)
        self.phases = nn.ModuleDict()
        for index in (0, 1, 2):
            up: NormedConv = self.editing.decoder.get_submodule(f"up{index}")
            self.phases[str(index)] = PhaseConv(up.model[0], self.format)
        self.flow_out = RowwiseConv(self.warping.flow_out[2], self.flow_format)
        self.final = RowwiseConv(self.editing.decoder.final.model[0], self.format)
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def prepare(self, portrait: Tensor) -> PreparedPortrait:
        """Portrait [1, 3, H, W] in [-1, 1] -> what all of its frames share."""
        with without_tf32(portrait.device):
            image = portrait.to(self.flow_dtype).contiguous(memory_format=self.flow_format)
            stem = self.warping.hourglass.encoder.input_layer(image)
            first = self.editing.encoder.first.model[0]
            image = portrait.to(self.dtype).contiguous(memory_format=self.format)
            half = F.conv2d(image, first.weight[:, :3], first.bias, padding=3)
        return PreparedPortrait(portrait, F.instance_norm(stem, eps=1e-5), stem, half)

    def flow(self, prepared: PreparedPortrait, scales: Scales) -> Tensor:
        """The flow field [B, 2, H/4, W/4], float32."""
        net, prefix = self.warping.hourglass, "warpping_net.hourglass"
        gamma, beta = (s[..., None, None].to(self.flow_dtype) for s in scales[f"{prefix}.encoder.encoder0.norm_0"])
        x = F.leaky_relu_(prepared.stem * gamma + beta, SLOPE)
        skips = [prepared.stem_raw]
        for index in range(5):
            block = net.encoder.get_submodule(f"encoder{index}")
            name = f"{prefix}.encoder.encoder{index}"
            if index:
                x = modulate(skips[-1], scales[f"{name}.norm_0"])
            x = modulate(block.conv_0(x), scales[f"{name}.norm_1"])
            skips.append(block.conv_1(x))
        x = skips.pop()
        for index in (4, 3, 2):
            up: UpBlock = net.decoder.get_submodule(f"decoder{index}")
            name = f"{prefix}.decoder.decoder{index}"
            short = up.conv_s(modulate(x, scales[f"{name}.norm_s"]))
            x = up.conv_0(modulate(x, scales[f"{name}.norm_0"]))
            x = up.conv_1(modulate(x, scales[f"{name}.norm_1"])).add_(short)
            x = torch.cat([x, skips[index]], 1)
        return self.flow_out(normalise(x, self.warping.flow_out[0]))

    def edit(self, prepared: PreparedPortrait, warped: Tensor, scales: Scales) -> Tensor:
        """The finished picture [B, 3, H, W] in [-1, 1], float32."""
        net = self.editing
        conv, norm = net.encoder.first.model
        picture = warped.to(self.dtype).contiguous(memory_format=self.format)
        x = F.conv2d(picture, conv.weight[:, 3:], None, padding=3).add_(prepared.first)
        skips = [normalise(x, norm)]
        for index in range(3):
            conv, norm = net.encoder.get_submodule(f"down{index}").model
            skips.append(F.avg_pool2d(normalise(conv(skips[-1]), norm), 2))
        x = skips.pop()
        for index in (2, 1, 0):
            for res in ("res0", "res1"):
                block: ResidualBlock = net.decoder.get_submodule(f"res{index}.{res}")
                scale_shift = scales[f"editing_net.decoder.res{index}.{res}.norm2"]
                x = modulate(block.conv2(x), scale_shift, activate=False).add_(x)
            up = net.decoder.get_submodule(f"up{index}")
            jump = net.decoder.get_submodule(f"jump{index}")
            x = normalise(self.phases[str(index)](x), up.model[1])
            x = x.add_(normalise(jump.model[0](skips[index]), jump.model[1]))
        return torch.tanh_(self.final(x))


def _format(dtype: torch.dtype) -> torch.memory_format:
    return torch.contiguous_format if dtype == torch.float32 else torch.channels_last


def _convolutions_only(network: nn.Module, dtype: torch.dtype, memory_format: torch.memory_format) -> nn.Module:
    """A copy with convolutions in `dtype`, float32 norms, and neither dead branch nor modulations."""
    network = copy.deepcopy(network)
    for module in list(network.modules()):
        if isinstance(module, ResidualBlock):
            module.conv1 = nn.Identity()
        for name, child in list(module.named_children()):
            if isinstance(child, Modulation):
                setattr(module, name, nn.Identity())
            elif isinstance(child, (nn.Conv2d, nn.ConvTranspose2d)):
                child.to(dtype=dtype, memory_format=memory_format)
    return network

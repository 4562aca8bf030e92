"""ONNX files of the networks, for runtimes other than PyTorch.

Two graphs: one denoiser step (the whole network of one diffusion time; the sampler around it is a few lines, and
its constants travel in the file's metadata) and the learned renderer.
"""

from __future__ import annotations

import copy
import json
import logging
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .atomic import atomic
from .config import SpeechConfig
from .dreamtalk.denoiser import SPEECH_WIDTH, DreamTalkDenoiser
from .errors import InputError
from .model import MotionModel
from .rates import COEFFICIENTS, STYLE_FRAMES, WINDOW
from .renderer.flow import MOTION, STRIDE, FlowRenderer, warp
from .renderer.flow import WINDOW as MOTION_WINDOW
from .sparsity import DynamicThreshold

OPSET = 20
"""The first with bilinear GridSample under its present name."""


class FrozenThreshold(nn.Module):
    """A `DynamicThreshold` in evaluation, by plain operations: x where |x| > sigmoid(theta) mu (eq. 7), else 0.

    threshold: [time_buckets] or [time_buckets, D], fixed when this is built.
    """

    def __init__(self, site: DynamicThreshold) -> None:
        super().__init__()
        level = site.state[:, 0].double()
        theta = site.theta.detach().double()
        product = torch.sigmoid(theta) * (level[:, None] if theta.dim() else level)
        self.register_buffer("threshold", product.to(site.state.dtype))
        self.buckets, self.time_steps = site.buckets, site.time_steps

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """x [N, ..., D], t [N] where there is more than one time bucket."""
        limit = self.threshold[0]
        if self.buckets > 1:
            bucket = ((t - 1).clamp(min=0) * self.buckets // self.time_steps).clamp(max=self.buckets - 1)
            limit = self.threshold[bucket]  # [N] or [N, D]
            between = x.dim() - limit.dim() if limit.dim() > 1 else x.dim() - 1
            limit = limit.unflatten(0, (-1, *[1] * between))
        return torch.where(x.abs() > limit, x, torch.zeros((), dtype=x.dtype))

    def linear(self, x: Tensor, layer: nn.Linear, t: Tensor | None = None) -> Tensor:
        """layer(forward(x, t)), the name under which feed-forward blocks call it."""
        return self.product(x, layer.weight, layer.bias, t)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None, t: Tensor | None = None) -> Tensor:
        """The same with a layer's parameters, as attention calls it."""
        return nn.functional.linear(self(x, t), weight, bias)


def export_denoiser(model: MotionModel | DreamTalkDenoiser, target: str | Path) -> Path:
    """Write one denoiser step of `model` as ONNX to `target`.

    Inputs: x_t float32 [batch, frames, 64], t int64 [batch] in 1..1000, windows float32 [batch, frames, 11, D],
    style float32 [batch, 256, 64], padding bool [batch, 256], True where the clip has no frame. Output: x0 (or noise,
    where the model predicts that) float32 [batch, frames, 64]. batch and frames are free. Everything is in the
    network's own units: coefficients are (c - mean) / std; metadata `dmt` holds mean, std, prediction and the
    cumulative products of alpha as JSON. Raises InputError where the target cannot be written.
    """
    if isinstance(model, DreamTalkDenoiser):
        network, width = model.net, SPEECH_WIDTH
        facts = {"prediction": "x0", "mean": [0.0] * COEFFICIENTS, "std": [1.0] * COEFFICIENTS}
    else:
        network, width = model.denoiser, model.config.speech.width
        facts = {
            "prediction": model.config.diffusion.prediction,
            "mean": model.coefficient_mean.tolist(),
            "std": model.coefficient_std.tolist(),
            "speech": _speech(model.config.speech),
        }
    facts["alpha_bars"] = model.schedule.alpha_bars.tolist()  # float32, exact as JSON
    network = _frozen(network).cpu().eval()
    clips, frames = 2, 3
    example = (
        torch.zeros(clips, frames, COEFFICIENTS),
        torch.tensor([1, 1000]),
        torch.zeros(clips, frames, WINDOW, width),
        torch.zeros(clips, STYLE_FRAMES, COEFFICIENTS),
        torch.zeros(clips, STYLE_FRAMES, dtype=torch.bool),
    )
    batch, length = torch.export.Dim("batch"), torch.export.Dim("frames")
    free = ({0: batch, 1: length}, {0: batch}, {0: batch, 1: length}, {0: batch}, {0: batch})
    names = ["x_t", "t", "windows", "style", "padding"]
    return _write(network, example, free, names, ["x0"], facts, target)


class _Renderer(nn.Module):
    """`FlowRenderer` with a tuple instead of a dataclass, and no look at the shapes."""

    def __init__(self, renderer: FlowRenderer) -> None:
        super().__init__()
        self.renderer = renderer

    def forward(self, portrait: Tensor, motion: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        net = self.renderer
        descriptor = net.mapping_net(motion)
        flow = net.warpping_net(portrait, descriptor)
        warped = warp(portrait, flow)
        return net.editing_net(portrait, warped, descriptor), warped, flow


def export_renderer(renderer: FlowRenderer, target: str | Path, *, size: int = 256) -> Path:
    """Write the learned renderer as ONNX to `target`, for pictures of `size` x `size` pixels.

    size: a multiple of 32 from 64 on; at 32 its smallest map is one pixel, which has no variance to normalise by.

    Inputs: portrait float32 [batch, 3, size, size] in [-1, 1], motion float32 [batch, 73, 27]. Outputs: image and
    warped [batch, 3, size, size] in [-1, 1], flow [batch, 2, size / 4, size / 4]. batch is free.
    Raises InputError for another size, or where the target cannot be written.
    """
    if size < 2 * STRIDE or size % STRIDE:
        raise InputError(
            f"the renderer takes pictures whose side is a multiple of {STRIDE} from {2 * STRIDE} on, got {size}"
        )
    batch = torch.export.Dim("batch")
    example = (torch.zeros(2, 3, size, size), torch.zeros(2, MOTION, MOTION_WINDOW))
    return _write(
        _Renderer(copy.deepcopy(renderer).cpu()).eval(),
        example,
        ({0: batch}, {0: batch}),
        ["portrait", "motion"],
        ["image", "warped", "flow"],
        {"size": size},
        target,
    )


def _speech(config: SpeechConfig) -> dict[str, object]:
    """What makes the windows: rows of this width at 50 per second."""
    return {"width": config.width, "pretrained": asdict(config)["pretrained"]}


def _frozen(network: nn.Module) -> nn.Module:
    """A copy whose thresholds are plain operations."""
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, DynamicThreshold):
                setattr(parent, name, FrozenThreshold(child))
    return network


def _write(
    network: nn.Module,
    example: tuple[Tensor, ...],
    free: tuple[dict[int, object], ...],
    inputs: list[str],
    outputs: list[str],
    facts: Mapping[str, object],
    target: str | Path,
) -> Path:
    try:
        import onnx  # noqa: F401  (what torch's exporter needs)
        import onnxscript  # noqa: F401
    except ImportError as missing:
        raise InputError(
            f'writing ONNX needs the package {missing.name}, which is absent: pip install "dreamtalk-dmt[onnx]"'
        ) from None
    if Path(target).suffix != ".onnx":
        raise InputError(f"an ONNX file ends in .onnx, got {target}")
    with atomic(target) as part:
        program = _translate(network, example, free, inputs, outputs)
        program.model.metadata_props["dmt"] = json.dumps(facts)
        program.save(part, external_data=False)
    return Path(target)


def _translate(
    network: nn.Module, example: tuple[Tensor, ...], free: Any, inputs: list[str], outputs: list[str]
) -> torch.onnx.ONNXProgram:
    """torch's own exporter, without its remarks on packages that are not needed here."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.onnx.export(
                network,
                example,
                dynamo=True,
                dynamic_shapes=free,
                input_names=inputs,
                output_names=outputs,
                opset_version=OPSET,
                verbose=False,
            )
    finally:
        logger.setLevel(level)

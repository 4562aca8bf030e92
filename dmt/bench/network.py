"""Whole networks: one decoder feed-forward block and one denoiser step of the `dmt` preset, against the same network
with dense feed-forwards (the same weights, no thresholds).

Weights are random. Shares of zeros are set, not learned: biases before each ReLU are moved until that share of the
hidden layer is zero, and theta until the input's threshold masks the same share, or INPUT_AT_MOST, as theta' mu cannot
exceed the mean of |x|. In the paper's decoder ("dynamic") a frame's acoustic feature mixes eight matrices into linear1,
which stays dense (its input is masked by `threshold_ema`): eight ninths of the block. linear2 is the masked product. In
the "plain" decoder both are.

A step is also measured with thresholds at every product of the decoders (`SparsityConfig.reach`): the same share of
zeros at each, INPUT_AT_MOST where no ReLU makes them. An element near its threshold then falls to either side of it as
rounding has it, in so many places that results are compared less closely.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from dmt_kernels import Masked
from dmt_kernels.masked import MU, UPDATES
from dmt_kernels.ops.masked_linear import reference as fused
from dmt_kernels.ops.threshold_ema import reference as thresholding

from ..config import SparsityConfig, preset
from ..decoder import Mixed, region
from ..denoiser import Denoiser, prepared
from ..rates import COEFFICIENTS, STYLE_FRAMES, WINDOW
from ..sparsity import DynamicThreshold, ThresholdedFeedForward
from .case import Candidate, Case, Work
from .products import onednn

FRAMES = 64
"""Frames at once, as the pipeline sends them."""
INPUT_AT_MOST = 0.5
LIVE = importlib.import_module("dmt.decoder.live_product")  # the package's name for it is the function


class _Threshold(torch.autograd.Function):
    """`threshold_ema` by its reference, both ways."""

    @staticmethod
    def forward(ctx, x, theta, state, alpha, update, information):
        made = thresholding.forward(x, theta, state, None, alpha, update, information, True)
        ctx.save_for_backward(x, theta, made.state, made.statistics)
        return made.values, made.bits, made.live, made.information

    @staticmethod
    def backward(ctx, grad, _bits, _live, grad_information):
        return *thresholding.backward(grad, grad_information, *ctx.saved_tensors), None, None, None, None


class _Product(torch.autograd.Function):
    """`masked_linear` by its reference, both ways."""

    @staticmethod
    def forward(ctx, x, theta, state, weight, bias, alpha, update, information):
        y, ctx.made = fused.forward(x, theta, state, weight, bias, alpha, update, information)
        ctx.save_for_backward(x, theta, weight)
        return y, ctx.made.bits, ctx.made.live, ctx.made.information

    @staticmethod
    def backward(ctx, grad, _bits, _live, grad_information):
        x, theta, weight = ctx.saved_tensors
        grad_x, grad_theta, *rest = fused.backward(grad, grad_information, x, theta, weight, ctx.made)
        return grad_x, grad_theta, None, *rest, None, None, None


@contextmanager
def plainly() -> Iterator[None]:
    """Thresholds by the reference in plain PyTorch: the meaning of the network."""
    from ..sparsity import threshold

    def masked(x, theta, state, *, alpha, update, information):
        return Masked(*_Threshold.apply(x, theta, state, alpha, update, information))

    def product(x, theta, state, weight, bias, *, alpha, update, information):
        y, *rest = _Product.apply(x, theta, state, weight, bias, alpha, update, information)
        return y, Masked(None, *rest)

    with (
        mock.patch.multiple(threshold, threshold_ema=masked, masked_linear=product),
        mock.patch.object(prepared, "sparse_linear", lambda x, bits, weight: F.linear(x, weight)),
        mock.patch.object(LIVE, "sparse_bmm", torch.bmm),
    ):
        yield


class OneDnnLinear(nn.Module):
    """`nn.Linear` by oneDNN, both ways, with the parameters of another."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias, self.in_features = linear.weight, linear.bias, linear.in_features

    def forward(self, x: Tensor) -> Tensor:
        return _OneDnn.apply(x.flatten(0, -2), self.weight, self.bias).unflatten(0, x.shape[:-1])


class _OneDnn(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias):
        ctx.save_for_backward(x, weight)
        return onednn(x, weight, bias)

    @staticmethod
    def backward(ctx, grad):
        x, weight = ctx.saved_tensors
        return onednn(grad, weight.t()), onednn(grad.t(), x.t()), grad.sum(0)


def calibrated(network: nn.Module, run: Callable[[], object], zeros: float) -> None:
    """Set biases of all thresholded blocks of `network`, and thetas of all thresholds, in the order in which `run`
    reaches them."""
    blocks = {m for m in _blocks(network) if m.hidden_threshold is not None}
    own = {each for block in blocks for each in (block.input_threshold, block.hidden_threshold)}
    others = {m for m in network.modules() if isinstance(m, DynamicThreshold)} - own
    original = DynamicThreshold._per_bucket

    def per_bucket(site, x: Tensor, t: Tensor | None, apply: Callable) -> Tensor:
        if site in others:
            others.discard(site)
            set_threshold(site, x, min(zeros, INPUT_AT_MOST))
        return original(site, x, t, apply)

    with (
        mock.patch.object(ThresholdedFeedForward, "feed_forward", _calibrating(blocks, zeros)),
        mock.patch.object(DynamicThreshold, "_per_bucket", per_bucket),
        torch.no_grad(),
    ):
        run()


def _calibrating(waiting: set[nn.Module], zeros: float) -> Callable:
    original = ThresholdedFeedForward.feed_forward

    def feed_forward(block, x: Tensor, t: Tensor | None = None, mixture: Tensor | Mixed | None = None) -> Tensor:
        if block in waiting:
            waiting.discard(block)
            set_threshold(block.input_threshold, x, min(zeros, INPUT_AT_MOST))
            hidden = block._first(x, t, mixture)
            linear = getattr(block.linear1, "dynamic_conv", block.linear1)
            shift = hidden.flatten(0, -2).quantile(zeros, dim=0) if zeros else hidden.flatten(0, -2).min(0).values - 1
            linear.bias.data -= shift  # every mixed matrix alike, as the shares sum to one
            if isinstance(mixture, Mixed):
                mixture = mixture._replace(bias=mixture.bias - shift)
            set_threshold(block.hidden_threshold, torch.relu(hidden - shift), 0.0)
        return original(block, x, t, mixture)

    return feed_forward


def set_threshold(site: DynamicThreshold, x: Tensor, zeros: float) -> None:
    """mu as the mean of |x|, and theta so that the threshold masks `zeros` of x (0: next to nothing but zeros)."""
    size = x.detach().abs().flatten()
    mean = size.mean()
    level = size[:: max(1, size.numel() // 2**20)].quantile(zeros) if zeros else mean * 1e-6
    site.theta.data.fill_(torch.logit((level / mean).clamp(1e-6, 1 - 1e-6)).item())
    site.state[:, MU], site.state[:, UPDATES] = mean, 1


def dense_forms(network: nn.Module) -> dict[str, nn.Module]:
    """The same network without thresholds; parameters are shared. On a CPU also with the ordinary linear layers of its
    feed-forwards by oneDNN, which is the faster dense product on some processors."""
    forms = {"dense network": _without_thresholds(network)}
    for module in forms["dense network"].modules():
        if hasattr(module, "forms"):  # without zeros to skip, a matrix for a single row does not pay
            module.forms = False
    if torch.backends.mkldnn.is_available() and next(network.parameters()).device.type == "cpu":
        forms["dense network, onednn"] = _without_thresholds(forms["dense network"])
        for module in _blocks(forms["dense network, onednn"]):
            module.linear2 = OneDnnLinear(module.linear2)
            if isinstance(module.linear1, nn.Linear):
                module.linear1 = OneDnnLinear(module.linear1)
    return forms


def _without_thresholds(network: nn.Module) -> nn.Module:
    dense = copy.deepcopy(network, {id(p): p for p in network.parameters()})
    for module in list(dense.modules()):
        for name, child in list(module.named_children()):
            thresholds = child if isinstance(child, nn.ModuleList) else [child]
            if len(thresholds) and all(isinstance(each, DynamicThreshold) for each in thresholds):
                setattr(module, name, None)
    return dense


def _blocks(network: nn.Module) -> list[ThresholdedFeedForward]:
    return [m for m in network.modules() if isinstance(m, ThresholdedFeedForward)]


@dataclass
class Skipped:
    """What the masked products of one pass leave out. flop: of y alone; live, elements: over all sites."""

    flop: float = 0.0
    live: float = 0.0
    elements: int = 0


def skipped(run: Callable[[], object]) -> Skipped:
    """Count the masked products while `run` runs."""
    found, original = Skipped(), DynamicThreshold.product

    def product(site, x: Tensor, weight: Tensor, bias: Tensor | None, t: Tensor | None = None) -> Tensor:
        y = original(site, x, weight, bias, t)
        kept = float(site.kept)
        found.flop += (1 - kept) * 2 * x.numel() * len(weight)
        found.live += kept * x.numel()
        found.elements += x.numel()
        return y

    def of_bits(x: Tensor, bits: Tensor, weight: Tensor) -> Tensor:
        found.flop += 2 * int((x == 0).sum()) * len(weight)
        return linear(x, bits, weight)

    def of_rows(x: Tensor, weight: Tensor) -> Tensor:
        found.flop += 2 * int((x == 0).sum()) * weight.shape[-1]
        return rows(x, weight)

    linear, rows = prepared.sparse_linear, LIVE.sparse_bmm
    with (
        mock.patch.object(DynamicThreshold, "product", product),
        mock.patch.object(prepared, "sparse_linear", of_bits),
        mock.patch.object(LIVE, "sparse_bmm", of_rows),
    ):
        run()
    return found


def feed_forward_cases(
    zeros: float, decoder: str = "dynamic", frames: int = FRAMES, width: int = 256, device: str = "cpu"
) -> Iterator[Case]:
    """One decoder layer's feed-forward over the 11 tokens of `frames` frames: forward (evaluation), then backward
    (training)."""
    torch.manual_seed(0)
    config = replace(preset("dmt").denoiser, dropout=0.0, decoder=decoder, width=width, feed_forward=4 * width)
    layer = region.DecoderLayer(config, SparsityConfig()).to(device).eval()
    x = torch.nn.functional.layer_norm(torch.randn(1, frames, WINDOW, config.width, device=device), [config.width])
    mixture = layer.mixture(torch.randn(1, frames, config.width, device=device))
    mixture = None if mixture is None else mixture.detach()
    t = torch.full((1,), 500, device=device)
    calibrated(layer, lambda: layer.feed_forward(x, t, mixture), zeros)
    forms = dense_forms(layer)
    run = torch.no_grad()(lambda: layer.feed_forward(x, t, mixture))
    plain = {n: torch.no_grad()(lambda f=f: f.feed_forward(x, t, mixture)) for n, f in forms.items()}
    with plainly():
        expected = run()
    left_out, shape = skipped(run), (frames * WINDOW, config.feed_forward)
    yield _case(f"feed-forward, {decoder}", "forward", run, plain, left_out, shape, zeros, (expected,), device)

    sparse = _gradients(layer.train(), x, t, mixture)
    plain = {n: _gradients(f.train(), x, t, mixture) for n, f in forms.items()}
    with plainly():
        wanted = _gradients(layer, x, t, mixture)()
    left_out = replace(left_out, flop=2 * left_out.flop)  # dX and dW
    case = _case(f"feed-forward, {decoder}", "backward", sparse, plain, left_out, shape, zeros, wanted, device)
    yield replace(case, rtol=2e-3, atol=1e-2)


def _gradients(layer, x: Tensor, t: Tensor, mixture: Tensor) -> Callable[[], tuple[Tensor, ...]]:
    """A function that takes the gradients to x and to every parameter of the block, through autograd."""
    x = x.clone().requires_grad_()
    y = layer.feed_forward(x, t, mixture)
    first = getattr(layer.linear1, "dynamic_conv", layer.linear1)
    leaves = [x, first.weight, layer.linear2.weight, layer.linear2.bias]
    if layer.hidden_threshold is not None:
        leaves += [layer.input_threshold.theta, layer.hidden_threshold.theta]
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.device)
    return lambda: torch.autograd.grad(y, leaves, grad, retain_graph=True)


def step_case(
    zeros: float,
    frames: int = FRAMES,
    width: int = 256,
    speech: int = 1024,
    device: str = "cpu",
    *,
    decoder: str = "dynamic",
    reach: str = "feed_forward",
) -> Case:
    """One step of the prepared denoiser over `frames` frames. speech: width of its features; decoder, reach: as
    `DenoiserConfig` and `SparsityConfig` have them."""
    torch.manual_seed(0)
    sizes = {"width": width, "feed_forward": 4 * width, "decoder": decoder}
    config = replace(preset("dmt").denoiser, dropout=0.0, **sizes)
    network = Denoiser(config, SparsityConfig(reach=reach), speech).to(device).eval()
    clip = (
        torch.randn(1, frames, WINDOW, speech, device=device),
        torch.randn(1, STYLE_FRAMES, COEFFICIENTS, device=device),
        torch.zeros(1, STYLE_FRAMES, dtype=torch.bool, device=device),
    )
    x, t = torch.randn(1, frames, COEFFICIENTS, device=device), torch.full((1,), 500, device=device)
    thresholded = network.decoder if reach == "feed_forward" else network
    calibrated(thresholded, lambda: network.step(network.prepare(*clip), x, t), zeros)
    ready = network.prepare(*clip)
    plain = {n: partial(f.step, f.prepare(*clip), x, t) for n, f in dense_forms(network).items()}
    run = partial(network.step, ready, x, t)
    with plainly():
        expected = run()
    shape = (frames, COEFFICIENTS)
    name = "denoiser step" if reach == "feed_forward" else f"denoiser step, {decoder}, thresholds at every product"
    case = _case(name, "forward", run, plain, skipped(run), shape, zeros, (expected,), device)
    return replace(case, rtol=1e-3, atol=1e-2 if reach == "feed_forward" else 0.1)


def _case(op, leg, run, plain, left_out: Skipped, shape, zeros, expected, device) -> Case:
    """FLOPs as torch counts them in the dense network; executed leaves out what masked products skip."""
    with FlopCounterMode(display=False) as counter:
        next(iter(plain.values()))()
    nominal = counter.get_total_flops()
    amount = Work(nominal, round(nominal - left_out.flop), None)
    candidates = [Candidate("ours", "ours", run)]
    candidates += [Candidate(name, "dense", other, None) for name, other in plain.items()]
    live = left_out.live / left_out.elements
    return Case(op, leg, shape, zeros, live, "float32", amount, tuple(candidates), expected, device=device)

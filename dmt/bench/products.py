"""`sparse_linear` and `masked_linear` against dense products, axpy kernels and torch.sparse.

Dense is the faster of PyTorch's product (F.linear, matmul; MKL or cuBLAS) and oneDNN's
(`mkldnn._linear_pointwise`), for each of y, dX and dW, on x masked beforehand: it is given the mask for nothing.
Training asks for dX and dW at once, which ours computes in one call: a leg of its own, where dense is two calls. These
legs call the operators; the leg "autograd" is what a program sees, the public function and its gradients, the bias's
among them, with all that Python and autograd take for themselves.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from dmt_kernels import ema_state, masked_linear, pack_mask, sparse_linear
from dmt_kernels.masked import MU, UPDATES
from dmt_kernels.ops.masked_linear import reference as fused
from dmt_kernels.ops.sparse_linear import reference
from dmt_kernels.ops.sparse_linear.op import ROUTES
from dmt_kernels.ops.sparse_linear.operators import operators
from dmt_kernels.structure import ELEMENT

from . import axpy, threshold
from .case import Candidate, Case, Work
from .threshold import DTYPES

LEGS = ("y", "dX", "dW")
BOTH = "dX, dW"
AUTOGRAD = "autograd"
AUTO, SPARSE = 0, 2  # route numbers of the compiled operators
ELEMENTS = operators(ELEMENT)


@dataclass(frozen=True)
class Operands:
    """x [M, K] and x masked, bits of the mask, weight [N, K], bias [N], grad [M, N]; K = N. further: bits of more masks
    of the same share of zeros."""

    x: Tensor
    masked: Tensor
    bits: Tensor
    weight: Tensor
    bias: Tensor
    grad: Tensor
    live: float
    further: tuple[Tensor, ...] = ()


WORDS_IN_TURN = 1 << 14
"""So many words of masks a processor's predictor of branches has not learned by heart, as it does one small mask that
every call is given: with one, y, dX and dW together take a fifth less at 64 x 256 and 95 % zeros."""


def operands(rows: int, width: int, zeros: float, dtype: str = "float32", device: str = "cpu") -> Operands:
    """Drawn at random; each element is masked by itself with probability `zeros`. On a CPU with as many masks as hold
    WORDS_IN_TURN words."""
    g = torch.Generator().manual_seed(0)
    mask = torch.rand(rows, width, generator=g) >= zeros
    x, weight = torch.randn(rows, width, generator=g), torch.randn(width, width, generator=g)
    bias, grad = torch.randn(width, generator=g), torch.randn(rows, width, generator=g)
    values = [t.to(DTYPES[dtype]).to(device) for t in (x, torch.where(mask, x, 0), weight, bias, grad)]
    x, masked, weight, bias, grad = values
    live = float(mask.double().mean())
    bits = pack_mask(mask).to(device)
    count = WORDS_IN_TURN // max(bits.numel(), 1) if device == "cpu" else 0
    further = tuple(pack_mask(torch.rand(rows, width, generator=g) >= zeros) for _ in range(1, count))
    return Operands(x, masked, bits, weight, bias, grad, live, further)


def work(rows: int, width: int, live: float, leg: str, element: int = 4) -> Work:
    """Of one product with K = N = width, or of several, `element` bytes a number."""
    if leg in (BOTH, AUTOGRAD):
        parts = [work(rows, width, live, one, element) for one in (LEGS if leg == AUTOGRAD else LEGS[1:])]
        return Work(*(sum(getattr(part, name) for part in parts) for name in ("nominal", "executed", "moved")))
    nominal = 2 * rows * width * width
    bits = 8 * rows * -(-width // 64)
    tall, square = rows * width * element, width * width * element
    moved = bits + square + 2 * tall  # two operands of M rows and one of N, one of the three being the result
    return Work(nominal, round(nominal * live), moved + (width * element if leg == "y" else 0))


def onednn(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    """left [M, K] @ right [N, K].T + bias."""
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")


def dense(p: Operands, leg: str) -> list[Candidate]:
    """On x masked beforehand. dX is not masked afterwards, which costs a dense network nothing either."""
    if leg == BOTH:
        return _dense_both(p)
    if leg == AUTOGRAD:
        masked = _masked_by(p)
        run = _through_autograd(F.linear, (p.masked, p.weight, p.bias), p.grad)
        return [Candidate("torch", "dense", run, lambda out: (*masked(out[0]), *out[1:]))]
    ways: dict[str, tuple[Callable, Callable]] = {
        "y": (lambda: F.linear(p.masked, p.weight, p.bias), lambda: onednn(p.masked, p.weight, p.bias)),
        "dX": (lambda: p.grad @ p.weight, lambda: onednn(p.grad, p.weight.t())),
        "dW": (lambda: p.grad.t() @ p.masked, lambda: onednn(p.grad.t(), p.masked.t())),
    }
    masks = None if leg != "dX" else _masked_by(p)
    found = [Candidate("torch", "dense", ways[leg][0], masks or _single)]
    if _has_onednn(p.x):
        found.append(Candidate("onednn", "dense", ways[leg][1], masks or _single))
    return found


def _dense_both(p: Operands) -> list[Candidate]:
    """dX and then dW, each library with each."""
    masked = _masked_by(p)

    def pair(first: Candidate, second: Candidate) -> Candidate:
        name = first.name if first.name == second.name else f"{first.name}, {second.name}"
        run = lambda: (first.run(), second.run())  # noqa: E731
        return Candidate(name, "dense", run, lambda out: (*masked(out[0]), out[1]))

    return list(itertools.starmap(pair, itertools.product(dense(p, "dX"), dense(p, "dW"))))


def _through_autograd(function: Callable, leaves: tuple[Tensor, ...], grad: Tensor) -> Callable[[], object]:
    """The function and the gradients of all leaves."""
    leaves = tuple(leaf.clone().requires_grad_() for leaf in leaves)
    return lambda: torch.autograd.grad(function(*leaves), leaves, grad)


def _single(out: Tensor) -> tuple[Tensor, ...]:
    return (out,)


def _masked_by(p: Operands) -> Callable[[Tensor], tuple[Tensor, ...]]:
    return lambda out: (reference.masked(out, p.bits),)


def ours(p: Operands, leg: str, route: int) -> Callable[[], object]:
    """One of the legs by our kernels, ready to be called; with another mask each time, p.bits first.

    The order is this candidate's own: the processor recognises what another one has just been given.
    """
    masks = _turns(f"{leg} {route}", [p.bits, *p.further])
    if leg == AUTOGRAD:
        product = lambda x, weight, bias: sparse_linear(x, next(masks), weight, bias, impl=ROUTES[route])  # noqa: E731
        return _through_autograd(product, (p.x, p.weight, p.bias), p.grad)
    return {
        "y": lambda: ELEMENTS.forward(p.x, next(masks), p.weight, p.bias, ELEMENT, route),
        "dX": lambda: ELEMENTS.grad_input(p.grad, next(masks), p.weight, ELEMENT, route),
        "dW": lambda: ELEMENTS.grad_weight(p.grad, p.x, next(masks), ELEMENT, route),
        BOTH: lambda: ELEMENTS.gradients(p.grad, p.x, next(masks), p.weight, True, True, ELEMENT, route),
    }[leg]


def others(p: Operands, leg: str) -> list[Candidate]:
    """Axpy kernels and torch.sparse, one CPU thread, float32; on the first mask alone, in their favour."""
    if leg not in LEGS:
        return []  # they have no such call
    csr = axpy.Csr.of(p.masked, p.weight, p.bias, p.grad)
    name = {"y": "y", "dX": "grad_input", "dW": "grad_weight"}[leg]
    strided = lambda out: (out.to_dense() if out.layout == torch.sparse_csr else out,)  # noqa: E731
    found = [
        Candidate("torch.sparse", "other", getattr(csr, name), strided),
        Candidate("torch.sparse, converted", "other", getattr(csr, f"{name}_converted"), strided),
    ]
    if (code := axpy.library()) is not None:
        kernels = axpy.Axpy.of(code, p.masked, p.weight, p.bias, p.grad)
        found.append(Candidate("axpy", "other", getattr(kernels, name)))
    return found


def expected(p: Operands, leg: str) -> tuple[Tensor, ...]:
    """The same by the plain reference."""
    if leg == BOTH:
        return *expected(p, "dX"), *expected(p, "dW")
    if leg == AUTOGRAD:
        return *expected(p, BOTH), p.grad.sum(0)
    ways = {
        "y": lambda: reference.sparse_linear(p.x, p.bits, p.weight, p.bias),
        "dX": lambda: reference.grad_input(p.grad, p.bits, p.weight),
        "dW": lambda: reference.grad_weight(p.grad, p.x, p.bits),
    }
    return (ways[leg](),)


def sparse_linear_cases(
    rows: int,
    width: int,
    zeros: float,
    dtype: str = "float32",
    device: str = "cpu",
    *,
    elsewhere: bool = False,
    autograd: bool = False,
) -> Iterator[Case]:
    """y, dX, dW, and dX with dW. elsewhere: against axpy kernels and torch.sparse too (one CPU thread, float32).
    autograd: that leg as well."""
    p = operands(rows, width, zeros, dtype, device)
    for leg in (*LEGS, BOTH, *((AUTOGRAD,) if autograd else ())):
        candidates = [
            Candidate("ours", "ours", ours(p, leg, SPARSE)),
            Candidate("auto", "auto", ours(p, leg, AUTO)),
            *dense(p, leg),
            *(others(p, leg) if elsewhere else []),
        ]
        # bfloat16 results are rounded to 8 bits, and the sums behind them grow with the root of their length
        rtol, atol = (1e-4, 2e-3) if dtype == "float32" else (2e-2, 0.05 * max(rows, width) ** 0.5)
        yield Case(
            "sparse_linear",
            leg,
            (rows, width),
            zeros,
            p.live,
            dtype,
            work(rows, width, p.live, leg, p.x.element_size()),
            tuple(candidates),
            expected(p, leg),
            rtol,
            atol,
            device,
        )


def masked_linear_cases(
    rows: int, width: int, zeros: float, device: str = "cpu", dtype: str = "float32"
) -> Iterator[Case]:
    """Threshold and product as one, forward, and backward through autograd (dX, dtheta, dW and the bias).

    Dense is the product alone: a network that masks nothing. "eager threshold" is what a dense network pays for the
    same function. Every candidate is given other rows each time, whose mask it has not learned by heart.
    """
    p = operands(rows, width, 0.0, dtype, device)
    inputs = _rows_in_turn(rows, width, zeros, device, dtype)
    x = inputs[0]
    weight, bias = p.weight.clone().requires_grad_(), p.bias.clone().requires_grad_()
    theta = torch.logit(torch.tensor(threshold.SHARE, device=device)).requires_grad_()
    state = ema_state(device)
    state[MU], state[UPDATES] = x.detach().abs().double().mean().float(), 1
    leaves = (x.detach(), theta.detach(), state.clone(), weight.detach(), bias.detach())
    y, masked = fused.forward(*leaves, threshold.ALPHA, True, False)
    live = float(masked.live)

    def function(impl: str) -> Callable[[Tensor], Tensor]:
        return lambda x: masked_linear(x, theta, state, weight, bias, alpha=threshold.ALPHA, impl=impl)[0]

    def forward(name: str, role: str, f: Callable[[Tensor], Tensor]) -> Candidate:
        turns = _turns(f"forward {name}", inputs)
        return _checked_unless_dense(name, role, torch.no_grad()(lambda: f(next(turns))))

    def backward(name: str, role: str, f: Callable[[Tensor], Tensor], leaves: tuple[Tensor, ...]) -> Candidate:
        """Of graphs that are kept."""
        graphs = _turns(f"backward {name}", [(f(x), x) for x in inputs])

        def run() -> tuple[Tensor, ...]:
            y, x = next(graphs)
            return torch.autograd.grad(y, (x, *leaves), p.grad, retain_graph=True)

        return _checked_unless_dense(name, role, run)

    mu = state[MU].clone()
    linear = lambda x: F.linear(x, weight, bias)  # noqa: E731
    candidates = [
        forward("ours", "ours", function("sparse")),
        forward("auto", "auto", function("auto")),
        forward("torch", "dense", linear),
        *([forward("onednn", "dense", lambda x: onednn(x, weight, bias))] if _has_onednn(x) else []),
        forward("eager threshold", "eager", lambda x: F.linear(threshold.eager(x, theta, mu)[0], weight, bias)),
    ]
    yield _masked_case("forward", candidates, (y,), rows, width, zeros, live, 1, device, dtype)
    wanted = fused.backward(p.grad, None, leaves[0], leaves[1], leaves[3], masked)
    candidates = [
        backward("ours", "ours", function("sparse"), (theta, weight, bias)),
        backward("auto", "auto", function("auto"), (theta, weight, bias)),
        backward("torch", "dense", linear, (weight, bias)),
        *([_onednn_backward(inputs, weight.detach(), p.grad)] if _has_onednn(x) else []),
    ]
    yield _masked_case("backward", candidates, wanted, rows, width, zeros, live, 2, device, dtype)


def _rows_in_turn(rows: int, width: int, zeros: float, device: str, dtype: str) -> list[Tensor]:
    """Inputs [rows, width] that need gradients, of one mean |x|. On a CPU up to sixteen: more would leave its
    caches."""
    count = 1 if device != "cpu" else max(1, min(16, WORDS_IN_TURN // max(rows * -(-width // 64), 1)))
    inputs = threshold.values(count * rows, width, zeros, device, "float32").split(rows)
    mean = inputs[0].abs().mean()
    return [(x * (mean / x.abs().mean())).to(DTYPES[dtype]).requires_grad_() for x in inputs]


def _turns(name: str, items: list) -> Iterator:
    """The first, and then the others in an order of this name's own, over and over."""
    return itertools.cycle((items[0], *random.Random(name).sample(items[1:], len(items) - 1)))


def _checked_unless_dense(name: str, role: str, run: Callable[[], object]) -> Candidate:
    """What masks nothing has other results."""
    return Candidate(name, role, run, None) if role == "dense" else Candidate(name, role, run)


def _has_onednn(x: Tensor) -> bool:
    return x.device.type == "cpu" and torch.backends.mkldnn.is_available()


def _onednn_backward(inputs: list[Tensor], weight: Tensor, grad: Tensor) -> Candidate:
    turns = _turns("backward onednn", [x.detach() for x in inputs])
    run = lambda: (onednn(grad, weight.t()), onednn(grad.t(), next(turns).t()), grad.sum(0))  # noqa: E731
    return _checked_unless_dense("onednn", "dense", run)


def _masked_case(leg, candidates, wanted, rows, width, zeros, live, products, device, dtype) -> Case:
    """`products` of y, dX and dW besides the threshold's own passes."""
    element = DTYPES[dtype].itemsize
    one, mask = work(rows, width, live, "y", element), threshold.work(rows, width, False, leg, element)
    amount = Work(products * one.nominal, products * one.executed + mask.executed, products * one.moved + mask.moved)
    shape = (rows, width)
    # theta's gradient is one sum over all elements, so its rounding is relative to them all
    rtol, atol = (1e-4, 2e-3) if leg == "forward" else (2e-3, 1e-2 * (rows / 64) ** 0.5)
    if dtype == "bfloat16":
        rtol, atol = 2e-2, 0.05 * max(rows, width) ** 0.5
    return Case("masked_linear", leg, shape, zeros, live, dtype, amount, tuple(candidates), wanted, rtol, atol, device)

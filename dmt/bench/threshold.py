"""`threshold_ema` against eager PyTorch and against torch.compile, which may return no mask.

The forms that are compiled all mean eq. 5-7 (with eq. 10 where asked for); they differ in how the mean is taken and in
what is changed in place, which decides what the compiler makes of them. Their mask is neither returned nor packed: a
compiled function that returns a bool mask is far slower on a CPU, and the comparison would flatter us.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dmt_kernels import ema_state, threshold_ema
from dmt_kernels.masked import MU, UPDATES
from dmt_kernels.ops.threshold_ema import reference

from .case import Candidate, Case, Work

ALPHA = 0.9
EPSILON = reference.EPSILON
SHARE = 0.1
"""theta' = sigmoid(theta): a tenth of mu."""


# ---- eq. 5-7: the same function, written in ways that compilers treat differently ----


def eager(x: Tensor, theta: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """As one writes it without a compiler: the mask is made, as the backward pass will want it."""
    mu.mul_(ALPHA).add_(x.abs().mean(), alpha=1 - ALPHA)
    mask = x.abs() > torch.sigmoid(theta) * mu
    return torch.where(mask, x, 0.0), mask


def by_mean(x: Tensor, theta: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 5-7 as the paper writes them."""
    new = ALPHA * mu + (1 - ALPHA) * x.abs().mean()
    return torch.where(x.abs() > torch.sigmoid(theta) * new, x, 0.0), new


def by_product(x: Tensor, theta: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """The mask as a factor."""
    new = ALPHA * mu + (1 - ALPHA) * x.abs().mean()
    return x * (x.abs() > torch.sigmoid(theta) * new).to(x.dtype), new


def by_rows(x: Tensor, theta: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """The mean in two levels, each row first: the inner sum vectorises."""
    new = ALPHA * mu + (1 - ALPHA) * (x.abs().sum(-1).sum() / x.numel())
    return torch.where(x.abs() > torch.sigmoid(theta) * new, x, 0.0), new


def by_columns(x: Tensor, theta: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """The mean in two levels, each column first."""
    new = ALPHA * mu + (1 - ALPHA) * (x.abs().sum(0).sum() / x.numel())
    return torch.where(x.abs() > torch.sigmoid(theta) * new, x, 0.0), new


def in_place(x: Tensor, theta: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """The running mean changed where it stands."""
    mu.mul_(ALPHA).add_(x.abs().sum(-1).sum() / x.numel(), alpha=1 - ALPHA)
    return torch.where(x.abs() > torch.sigmoid(theta) * mu, x, 0.0), mu


FORMS = {f.__name__: f for f in (by_mean, by_product, by_rows, by_columns, in_place)}


# ---- with eq. 10 finished ----


def divergence(mean_q: Tensor, var_q: Tensor, mean_p: Tensor, var_p: Tensor) -> Tensor:
    """Eq. 10: closed-form KL(masked || unmasked), mean over features."""
    return reference.gaussian_divergence(torch.stack([mean_q, var_q, mean_p, var_p]))


def variances(x: Tensor, theta: Tensor, mu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 10 by torch's own variances."""
    y, new = by_rows(x, theta, mu)
    var_q, mean_q = torch.var_mean(x, 0, correction=0)
    var_p, mean_p = torch.var_mean(y, 0, correction=0)
    return y, new, divergence(mean_q, var_q, mean_p, var_p)


def two_passes(x: Tensor, theta: Tensor, mu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eq. 10 by means, then squares about them."""
    y, new = by_rows(x, theta, mu)
    mean_q, mean_p = x.mean(0), y.mean(0)
    var_q, var_p = (x - mean_q).square().mean(0), (y - mean_p).square().mean(0)
    return y, new, divergence(mean_q, var_q, mean_p, var_p)


def shifted_squares(x: Tensor, theta: Tensor, mu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One pass for all four statistics: sums and squares of what is left after the first row is taken away."""
    y, new = by_rows(x, theta, mu)
    a, b, n = x - x[0], y - x[0], x.shape[0]
    mean_q, mean_p = a.sum(0) / n, b.sum(0) / n
    var_q, var_p = a.square().sum(0) / n - mean_q.square(), b.square().sum(0) / n - mean_p.square()
    return y, new, divergence(mean_q, var_q, mean_p, var_p)


def joined_squares(x: Tensor, theta: Tensor, mu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The same for the mean |x| too: one reduction over rows gives it and the unmasked statistics."""
    n = x.shape[0]
    a = x - x[0]
    new = ALPHA * mu + (1 - ALPHA) * (x.abs().sum(0).sum() / x.numel())
    mean_q = a.sum(0) / n
    var_q = a.square().sum(0) / n - mean_q.square()
    y = torch.where(x.abs() > torch.sigmoid(theta) * new, x, 0.0)
    b = y - x[0]
    mean_p = b.sum(0) / n
    return y, new, divergence(mean_q, var_q, mean_p, b.square().sum(0) / n - mean_p.square())


INFORMATION_FORMS = {f.__name__: f for f in (variances, two_passes, shifted_squares, joined_squares)}


# ---- gradients, in float32 throughout ----


def gradients(grad: Tensor, x: Tensor, theta: Tensor, mu: Tensor) -> tuple[Tensor, Tensor]:
    """To x where it is live, and to theta through the biweight window (the meaning: reference.backward)."""
    s = torch.sigmoid(theta)
    t = s * mu
    size = x.abs()
    grad_x = torch.where(size > t, grad, 0.0)
    v = (size - t) / t
    window = torch.where(v.abs() < 1, 15 / 16 * (1 - v * v) * (1 - v * v) / t, 0.0)
    return grad_x, (-grad * x * window).sum(-1).sum() * s * (1 - s) * mu


def gradients_information(
    grad: Tensor, upstream: Tensor, x: Tensor, theta: Tensor, mu: Tensor, statistics: Tensor
) -> tuple[Tensor, Tensor]:
    """The same with eq. 10's share, from the four statistics [4, D] that the forward pass kept."""
    mean_q, var_q, mean_p, var_p = statistics
    var_q, var_p = var_q + EPSILON, var_p + EPSILON
    shift, scale = mean_p - mean_q, upstream / x.numel()
    slope_q = (1 / var_q - (var_p + shift * shift) / (var_q * var_q)) * scale
    slope_p, push = (1 / var_q - 1 / var_p) * scale, shift / var_q * scale
    y = torch.where(x.abs() > torch.sigmoid(theta) * mu, x, 0.0)
    full = grad + push + slope_p * (y - mean_p)
    grad_x, grad_theta = gradients(full, x, theta, mu)
    return grad_x + slope_q * (x - mean_q) - push, grad_theta


# ---- cases ----


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_TOLERANCE = {"float32": (1e-4, 1e-5), "bfloat16": (2e-2, 2e-2)}  # eager forms take the mean in the dtype of x
_GRADIENT_TOLERANCE = {"float32": (1e-3, 5e-3), "bfloat16": (2e-2, 5e-2)}


def values(rows: int, width: int, zeros: float, device: str = "cpu", dtype: str = "float32") -> Tensor:
    """x of which a share `zeros`, here and there, is far below theta' mu and the rest far above, so that every way to
    sum mean |x| makes the same mask."""
    g = torch.Generator().manual_seed(0)
    dead = torch.rand(rows, width, generator=g) < zeros
    noise = torch.randn(rows, width, generator=g)
    strong = noise + noise.sign()
    return torch.where(dead, 1e-3 * noise.clamp(-4, 4), strong).to(device, DTYPES[dtype])


def work(rows: int, width: int, information: bool, leg: str, element: int = 4) -> Work:
    """Reads x, writes y and the bits; backwards reads x and the gradient, writes the gradient to x."""
    n = rows * width
    words = rows * -(-width // 64)
    flop = (3 if leg == "forward" else 10) * n + (8 if information else 0) * n
    moved = 2 * element * n + 8 * words if leg == "forward" else 3 * element * n
    return Work(flop, flop, moved, 2 * element * n)


def forward_case(
    rows: int, width: int, zeros: float, *, information: bool = False, device: str = "cpu", dtype: str = "float32"
) -> Case:
    """values, mu (and eq. 10)."""
    x = values(rows, width, zeros, device, dtype)
    theta = torch.logit(torch.tensor(SHARE, device=device))
    mu = x.abs().double().mean().float()
    state = ema_state(device)
    state[MU], state[UPDATES] = mu, 1  # at rest: a step with the same x leaves mu where it is
    wanted = reference.forward(x, theta, state, None, ALPHA, True, information, True)
    expected = (wanted.values, wanted.state[MU], *([wanted.information] if information else []))

    def ours() -> object:
        return threshold_ema(x, theta, state, alpha=ALPHA, information=information)

    def read(masked) -> tuple[Tensor, ...]:
        return (masked.values, state[MU], *([masked.information] if information else []))

    forms = INFORMATION_FORMS if information else FORMS
    candidates = [Candidate("ours", "ours", ours, read)]
    candidates += [_eager(x, theta, mu, information)]
    candidates += [_compiled(name, form, x, theta, mu) for name, form in forms.items()]
    candidates += [_copy(x)]
    leg = "forward, eq. 10" if information else "forward"
    live = float(wanted.live)
    return Case(
        "threshold_ema",
        leg,
        (rows, width),
        zeros,
        live,
        dtype,
        work(rows, width, information, "forward", x.element_size()),
        tuple(candidates),
        expected,
        *_TOLERANCE[dtype],
        device,
    )


def _eager(x: Tensor, theta: Tensor, mu: Tensor, information: bool) -> Candidate:
    own = mu.clone()

    def run() -> tuple[Tensor, ...]:
        y, _ = eager(x, theta, own)
        if not information:
            return y, own
        var_q, mean_q = torch.var_mean(x, 0, correction=0)
        var_p, mean_p = torch.var_mean(y, 0, correction=0)
        return y, own, divergence(mean_q, var_q, mean_p, var_p)

    return Candidate("eager", "eager", run)


def _compiled(name: str, form: Callable, *operands: Tensor) -> Candidate:
    function = torch.compile(form, dynamic=False, fullgraph=True)  # for these very shapes: the guards cost least
    own = [t.clone() if t.dim() == 0 else t for t in operands]  # a form may change mu in place
    return Candidate(f"compiled {name}", "dense", lambda: function(*own))


def _copy(x: Tensor) -> Candidate:
    target = torch.empty_like(x)
    return Candidate("copy", "limit", lambda: target.copy_(x), None)


def backward_case(
    rows: int, width: int, zeros: float, *, information: bool = False, device: str = "cpu", dtype: str = "float32"
) -> Case:
    """Gradients to x and theta."""
    x = values(rows, width, zeros, device, dtype)
    theta = torch.logit(torch.tensor(SHARE, device=device))
    state = ema_state(device)
    state[MU], state[UPDATES] = x.abs().double().mean().float(), 1
    done = reference.forward(x, theta, state, None, ALPHA, False, information, True)
    grad = torch.randn(rows, width, generator=torch.Generator().manual_seed(1)).to(device, x.dtype)
    upstream = torch.tensor(0.7, device=device) if information else None
    arguments = (grad, upstream, x, theta, done.state, done.statistics)
    expected = reference.backward(*arguments)
    mu = done.state[MU].clone()
    if information:
        form, operands = gradients_information, (grad, upstream, x, theta, mu, done.statistics)
    else:
        form, operands = gradients, (grad, x, theta, mu)
    candidates = (
        Candidate("ours", "ours", lambda: torch.ops.dmt_kernels.threshold_ema_backward(*arguments)),
        Candidate("eager", "eager", lambda: form(*operands)),
        _compiled(form.__name__, form, *operands),
        _copy(x),
    )
    leg = "backward, eq. 10" if information else "backward"
    amount = work(rows, width, information, "backward", x.element_size())
    shape, live, limits = (rows, width), float(done.live), _GRADIENT_TOLERANCE[dtype]
    return Case("threshold_ema", leg, shape, zeros, live, dtype, amount, candidates, expected, *limits, device)


def cases(rows: int, width: int, zeros: float, device: str = "cpu", dtype: str = "float32") -> Iterator[Case]:
    """Forward and backward, without eq. 10 and with it. Call `torch._dynamo.reset()` before another shape: the
    compiled forms are made for one."""
    for make in (forward_case, backward_case):
        for information in (False, True):
            yield make(rows, width, zeros, information=information, device=device, dtype=dtype)

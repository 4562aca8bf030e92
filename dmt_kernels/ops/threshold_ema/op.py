"""`threshold_ema`: public function, schemas, fake kernels, autograd. The meaning is in reference.py."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.distributed import ProcessGroup

from ...masked import STATE_SIZE, Masked
from ...registry import LIBRARY, NAMESPACE, define
from ...structure import structure_of
from ..batching import one_by_one
from ..mask_bits import words
from ..threshold_groups.op import masked_by_groups
from . import reference
from .eager import TransformedThreshold, masked_in_place, tracing

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def threshold_ema(
    x: Tensor,
    theta: Tensor,
    state: Tensor,
    *,
    alpha: float = 0.9,
    update: bool = True,
    information: bool = False,
    structure: str = "element",
    group: ProcessGroup | None = None,
) -> Masked:
    """Zero the weak elements of x by the dynamic threshold of eq. 5-7; with `information`, finish eq. 10 as well.

    theta' = sigmoid(theta) (eq. 5); mu = alpha mu + (1 - alpha) mean |x| (eq. 6), before the mask and in the same step;
    an element is live where |x| > theta' mu (eq. 7).

    x: [..., D], float32, bfloat16, float16 or (CPU) float64, any strides, may be empty.
    theta: float, no dimensions or [D], before the sigmoid. Usually float32, whatever the dtype of x.
    state: float32 [4] from `ema_state`, on the device of x; changed in place when `update` is true.
    alpha: share of the old mu in the new, in [0, 1].
    update: False freezes mu (evaluation).
    information: compute eq. 10, KL(masked || unmasked) of Gaussians fitted per feature over all other axes, with
        variances + EPSILON, averaged over features.
    structure: what lives or dies together, by its mean |x| against its mean threshold: "element" (the paper), "column",
        "row", or "tile" (64 x 64). Rows are those of x flattened to [rows, D], of this rank alone. The meaning is in
        `threshold_groups/reference.py`; the packed bits are the same kind as ever.
    group: ranks that share one mu; mean |x| is taken over all of them (one all-reduce of two numbers).

    Gradients: to x where it is live (and everywhere through the statistics of eq. 10); to theta through a smooth window
    around the threshold (reference.py); none to or through mu. Differentiable once. Under `torch.func.vmap` freeze mu:
    each element of the batch has its own mask, live share and information, but there is one state.

    Not a number and infinities never enter mu, nor does an x of which eight |x| together overflow float32. A NaN is
    never live and comes out as 0; an infinity is live. Either makes `information` NaN. If no element is finite, mu
    stays as it is.

    Raises TypeError for a dtype and ValueError for a shape, device or alpha that does not fit.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie in [0, 1], got {alpha}")
    if structure != "element":
        check(x, theta, state)
        return masked_by_groups(x, theta, state, alpha, update, information, structure_of(structure), group)
    if group is None and not tracing():
        try:
            values, bits, live, divergence = masked_in_place(x, theta, state, alpha, update, information)
        except (RuntimeError, TypeError):
            # The kernels check for themselves; only a failure pays for a second look, which words it as Python does.
            check(x, theta, state)
            raise
        return Masked(values, bits, live, divergence if information else None)
    check(x, theta, state)
    sums = None
    if group is not None and update:
        sums = torch.ops.dmt_kernels.abs_sums(x.detach())
        torch.distributed.all_reduce(sums, group=group)
    transformed = torch._C._are_functorch_transforms_active()
    call = TransformedThreshold.apply if transformed else torch.ops.dmt_kernels.threshold_ema
    values, bits, live, divergence, moved, _ = call(x, theta, state, sums, alpha, update, information, True)
    if update:
        state.copy_(moved)
    return Masked(values, bits, live, divergence if information else None)


def check(x: Tensor, theta: Tensor, state: Tensor) -> None:
    """One clear error for tensors that do not fit one another."""
    if x.dtype not in DTYPES:
        raise TypeError(f"threshold_ema expects x in float32, bfloat16, float16 or float64, got {x.dtype}")
    if not theta.is_floating_point():
        raise TypeError(f"threshold_ema expects a floating-point theta, got {theta.dtype}")
    if x.dim() == 0:
        raise ValueError("threshold_ema expects x [..., D], got a tensor without dimensions")
    if theta.dim() > 1 or (theta.dim() == 1 and theta.shape[0] != x.shape[-1]):
        raise ValueError(f"theta must have no dimensions or [{x.shape[-1]}] as x has, got {tuple(theta.shape)}")
    if state.dtype != torch.float32 or state.dim() != 1 or state.shape[0] != STATE_SIZE:
        raise ValueError(
            f"state must be float32 [{STATE_SIZE}] from ema_state(), got {state.dtype} {tuple(state.shape)}"
        )
    if x.device != theta.device or x.device != state.device:
        raise ValueError(f"x, theta and state must share a device, got {x.device}, {theta.device}, {state.device}")


def _forward(x, theta, state, sums, alpha, update, information, store):
    check(x, theta, state)
    return tuple(reference.forward(x, theta, state, sums, alpha, update, information, store))


def _fake_forward(x, theta, state, sums, alpha, update, information, store):
    check(x, theta, state)
    dtype, width = reference.work_dtype(x), x.shape[-1]
    return (
        x.new_empty(x.shape if store else (0,)),
        x.new_empty((*x.shape[:-1], words(width)), dtype=torch.int64),
        state.new_empty(()),
        x.new_empty((), dtype=dtype),
        state.new_empty(STATE_SIZE),
        x.new_empty((4, width if information else 0), dtype=dtype),
    )


def _fake_backward(grad, grad_information, x, theta, state, statistics):
    return x.new_empty(x.shape), theta.new_empty(theta.shape)


def _backward_live(*arguments):
    """Where no kernel does it all: masks by PyTorch, the rest by whatever serves the device."""
    return reference.backward_live(*arguments, backward=torch.ops.dmt_kernels.threshold_ema_backward)


def _fake_backward_live(grad, grad_information, x, theta, state, statistics, store):
    return x.new_empty(x.shape), theta.new_empty(theta.shape), x.new_empty(x.shape if store else (0,))


def _save(ctx, inputs, output):
    x, theta, *_ = inputs
    _, bits, live, _, state, statistics = output
    ctx.mark_non_differentiable(bits, live, state, statistics)
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, theta, state, statistics)


def _differentiate(ctx, grad, _bits, _live, grad_information, _state, _statistics):
    x, theta, state, statistics = ctx.saved_tensors
    grad_x = grad_theta = None
    if grad is not None or grad_information is not None:
        grad_x, grad_theta = torch.ops.dmt_kernels.threshold_ema_backward(
            grad, grad_information, x, theta, state, statistics
        )
    return grad_x, grad_theta, None, None, None, None, None, None


define("abs_sums(Tensor x) -> Tensor", reference.abs_sums, lambda x: x.new_empty(2, dtype=torch.float64))
define(
    "threshold_ema(Tensor x, Tensor theta, Tensor state, Tensor? sums, float alpha, bool update, bool information,"
    " bool store) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
    _forward,
    _fake_forward,
)
define(
    "threshold_ema_backward(Tensor? grad, Tensor? grad_information, Tensor x, Tensor theta, Tensor state,"
    " Tensor statistics) -> (Tensor, Tensor)",
    reference.backward,
    _fake_backward,
)
define(
    "threshold_ema_backward_live(Tensor grad, Tensor? grad_information, Tensor x, Tensor theta, Tensor state,"
    " Tensor statistics, bool store) -> (Tensor, Tensor, Tensor)",
    _backward_live,
    _fake_backward_live,
)
torch.library.register_autograd(f"{NAMESPACE}::threshold_ema", _differentiate, setup_context=_save, lib=LIBRARY)
for _name in ("abs_sums", "threshold_ema", "threshold_ema_backward"):
    one_by_one(_name)

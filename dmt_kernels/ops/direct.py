"""What autograd costs in eager code, left out where it is not needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, is_grad_enabled
from torch.autograd import Function, forward_ad


def recorded(*tensors: Tensor | None) -> bool:
    """Whether a derivative may be asked for: a graph is recorded from one of these, or tangents may go forward with
    them, which our autograd functions refuse; an operator alone would drop them."""
    if forward_ad._current_level >= 0:
        return True
    if is_grad_enabled():
        for tensor in tensors:
            if tensor is not None and tensor.requires_grad:
                return True
    return False


def direct(function: type[Function]) -> Callable[..., Any]:
    """`function.apply`, for eager code that has found no function transform active.

    The layer left out looks for transforms and for wrappers that they left behind, which takes as long as the call of
    an operator. Below it is the method of the C++ class; should torch move that, `apply` it is.
    """
    return getattr(super(Function, function), "apply", function.apply)

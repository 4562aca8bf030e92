"""Autograd functions called without the layer of Python that is there for function transforms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch.autograd import Function


def direct(function: type[Function]) -> Callable[..., Any]:
    """`function.apply`, for eager code that has found no function transform active.

    The layer left out looks for transforms and for wrappers that they left behind, which takes as long as the call of
    an operator. Below it is the method of the C++ class; should torch move that, `apply` it is.
    """
    return getattr(super(Function, function), "apply", function.apply)

"""Rules by which `torch.func.vmap` takes the operators: at once where a batch is one more leading dimension, else one
by one. Values are those of a loop over the batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..registry import LIBRARY, NAMESPACE


def one_by_one(name: str) -> None:
    """vmap of operator `name`: a call for each, results stacked."""
    operator = _operator(name)
    _register(name, lambda info, dims, *given: _loop(operator, info.batch_size, dims, given))


def leading(name: str, rowwise: int) -> None:
    """vmap of operator `name`, whose first `rowwise` arguments and whose result have any leading dimensions.

    One call where only those are batched; a batch of weights is taken one by one.
    """
    operator = _operator(name)

    def rule(info: Any, dims: tuple, *given: Any):
        if any(d is not None for d in dims[rowwise:]):
            return _loop(operator, info.batch_size, dims, given)
        rows = [
            t.movedim(d, 0) if d is not None else t.expand(info.batch_size, *t.shape)
            for t, d in zip(given[:rowwise], dims, strict=False)
        ]
        return operator(*rows, *given[rowwise:]), 0

    _register(name, rule)


def _loop(operator: Callable, size: int, dims: tuple, given: tuple) -> tuple[Any, Any]:
    results = []
    for i in range(size):
        results.append(operator(*(a if d is None else a.select(d, i) for a, d in zip(given, dims, strict=True))))
    if isinstance(results[0], torch.Tensor):
        return torch.stack(results), 0
    return tuple(torch.stack(parts) for parts in zip(*results, strict=True)), (0,) * len(results[0])


def _operator(name: str) -> Callable:
    return getattr(getattr(torch.ops, NAMESPACE), name).default


def _register(name: str, rule: Callable) -> None:
    torch.library.register_vmap(f"{NAMESPACE}::{name}", rule, lib=LIBRARY)

"""What stands in the way of a CUDA graph, found without a GPU: the function is traced on tensors without values."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.fx.experimental.proxy_tensor import make_fx

HOST = tuple(
    f"aten.{name}" for name in ("lift_fresh", "_local_scalar_dense", "item", "nonzero", "unique", "masked_select")
)
"""Operators in which the host writes to a device, reads from it, or waits to learn a size."""


def host_work(function: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> list[str]:
    """The operators of `function` that need the host while it runs, in order; empty for what a graph can hold.

    Python that depends on a tensor's values raises on the way: values do not exist while tracing.
    """
    graph = make_fx(function, tracing_mode="fake", _allow_non_fake_inputs=True)(*inputs).graph
    called = [str(node.target) for node in graph.nodes if node.op == "call_function"]
    assert len(called) > 10, "the trace is empty"
    return [name for name in called if name.startswith(HOST)]

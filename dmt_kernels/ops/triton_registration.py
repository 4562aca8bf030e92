"""Triton kernels under the dispatcher's CUDA key, for the operators that have no compiled kernel there."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch
from torch import Tensor

from ..registry import LIBRARY, NAMESPACE

_PRODUCT, _THRESHOLD = f"{__package__}.sparse_linear.gpu", f"{__package__}.threshold_ema.triton_kernels"
_WHERE = {
    "sparse_linear": _PRODUCT,
    "sparse_linear_grad_input": _PRODUCT,
    "sparse_linear_grad_weight": _PRODUCT,
    "structured_linear": _PRODUCT,
    "structured_linear_grad_input": _PRODUCT,
    "structured_linear_grad_weight": _PRODUCT,
    "abs_sums": _THRESHOLD,
    "threshold_ema": _THRESHOLD,
    "threshold_ema_backward": _THRESHOLD,
    "group_sums": f"{__package__}.threshold_groups.triton_kernels",
}
"""Operator -> the module whose IMPLEMENTATIONS has it; triton is imported when the first of them is called."""


def register() -> None:
    """Called once, by `backends.load`, where triton is installed beside a torch with CUDA."""
    for name, module in _WHERE.items():
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"{NAMESPACE}::{name}", "CUDA"):
            LIBRARY.impl(name, _when_called(module, name), "CUDA")


def _when_called(module: str, name: str) -> Callable[..., Tensor | tuple[Tensor, ...]]:
    def run(*arguments):
        # Triton launches on the current device, which need not be that of the tensors.
        with torch.cuda.device_of(next(a for a in arguments if isinstance(a, Tensor))):
            return import_module(module).IMPLEMENTATIONS[name](*arguments)

    return run

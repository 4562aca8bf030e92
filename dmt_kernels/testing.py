"""Helpers for the tests of this package; needs nothing but torch, and triton where Triton is tested."""

from __future__ import annotations

import torch
from torch import Tensor


def repair_interpreter() -> None:
    """Let Triton's interpreter (TRITON_INTERPRET=1) run `range` over kernel values under numpy >= 2.4.

    It calls int() on arrays of one element, which numpy no longer allows. Call it before a kernel runs.
    """
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patched(tensor: type, scope: object) -> None:
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched


def unwritten(tensor: Tensor) -> Tensor:
    """`tensor` filled with what a kernel must not leave behind: NaN, or the most negative integer."""
    if tensor.is_floating_point():
        return tensor.fill_(float("nan"))
    return tensor.fill_(torch.iinfo(tensor.dtype).min) if tensor.dtype != torch.bool else tensor.fill_(True)

"""Helpers for the tests of this package; needs nothing but torch, and triton where Triton is tested."""

from __future__ import annotations

import torch
from torch import Tensor


def repair_interpreter() -> None:
    """Let Triton's interpreter (TRITON_INTERPRET=1) run what it gets wrong; call it before a kernel runs.

    `range` over kernel values calls int() on arrays of one element, which numpy >= 2.4 no longer allows. Products of
    bfloat16 multiply the integers in which the interpreter keeps that type.
    """
    import triton.language as tl
    from triton.runtime import interpreter

    np = interpreter.np  # this package itself does without numpy
    dot = interpreter.InterpreterBuilder.create_dot

    def wide(handle: interpreter.TensorHandle) -> interpreter.TensorHandle:
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        bits = handle.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), tl.float32)

    def create_dot(self, a, b, *rest):
        return dot(self, wide(a), wide(b), *rest)

    interpreter.InterpreterBuilder.create_dot = create_dot

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

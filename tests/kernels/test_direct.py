"""Autograd functions called without the layer for function transforms."""

from types import BuiltinMethodType

import torch
from torch.autograd import Function

from dmt_kernels.ops.direct import direct


class Triple(Function):
    @staticmethod
    def forward(ctx, x, factor):
        ctx.factor = factor
        return x * factor

    @staticmethod
    def backward(ctx, grad):
        return grad * ctx.factor, None


def test_values_and_gradients_are_those_of_apply():
    x = torch.randn(3, requires_grad=True)
    found, expected = direct(Triple)(x, 3), Triple.apply(x, 3)
    assert torch.equal(found, expected) and type(found.grad_fn) is type(expected.grad_fn)
    grad = torch.randn(3)
    for y in (found, expected):
        assert torch.equal(torch.autograd.grad(y, x, grad)[0], grad * 3)


def test_the_method_is_that_of_the_c_class():
    """Or nothing is saved: torch has moved it, and `direct` has to look elsewhere."""
    assert isinstance(direct(Triple), BuiltinMethodType)
    assert not isinstance(Triple.apply, BuiltinMethodType)

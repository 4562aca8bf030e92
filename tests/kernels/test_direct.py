"""Autograd functions called without the layer for function transforms."""

from types import BuiltinMethodType

import pytest
import torch
from torch.autograd import Function, forward_ad

from dmt_kernels import ema_state, masked_linear, pack_mask, sparse_bmm, sparse_linear, threshold_ema
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


X, WEIGHT, THETA = torch.randn(5, 70), torch.randn(4, 70), torch.tensor(0.0)
REFUSING = {
    "threshold_ema": lambda x, weight: threshold_ema(x, THETA, ema_state()).values,
    "masked_linear": lambda x, weight: masked_linear(x, THETA, ema_state(), weight)[0],
    "sparse_linear": lambda x, weight: sparse_linear(x, pack_mask(X > 0), weight),
}


@pytest.mark.parametrize("function", REFUSING)
@pytest.mark.parametrize("recording", [True, False])
def test_tangents_are_refused_and_not_dropped(function, recording):
    with forward_ad.dual_level(), torch.set_grad_enabled(recording):
        with pytest.raises(NotImplementedError, match="jvp"):
            REFUSING[function](forward_ad.make_dual(X, torch.ones_like(X)), WEIGHT)
        assert torch.equal(REFUSING[function](X, WEIGHT), REFUSING[function](X.clone(), WEIGHT))


@pytest.mark.parametrize("recording", [True, False])
def test_tangents_through_batched_products(recording):
    x, weight = torch.randn(3, 2, 7), torch.randn(3, 7, 4)
    with forward_ad.dual_level(), torch.set_grad_enabled(recording):
        y = sparse_bmm(forward_ad.make_dual(x, torch.ones_like(x)), weight)
        torch.testing.assert_close(forward_ad.unpack_dual(y).tangent, torch.bmm(torch.ones_like(x), weight))

"""`torch.func.vmap` of the operators against a loop over the batch, with gradients taken within and without."""

import pytest
import torch
from torch.func import grad, vmap

from dmt_kernels import ema_state, masked_linear, pack_mask, sparse_linear, threshold_ema, unpack_mask


def problem(batch=3, rows=5, columns=70, outputs=6):
    g = torch.Generator().manual_seed(0)
    x = torch.randn(batch, rows, columns, generator=g, dtype=torch.float64)
    mask = torch.rand(batch, rows, columns, generator=g) < 0.4
    weight = torch.randn(batch, outputs, columns, generator=g, dtype=torch.float64)
    return x, pack_mask(mask), weight, mask


def loop(function, dims, *given):
    size = next(a.shape[d] for a, d in zip(given, dims, strict=True) if d is not None)
    return torch.stack(
        [function(*(a if d is None else a.select(d, i) for a, d in zip(given, dims, strict=True))) for i in range(size)]
    )


@pytest.mark.parametrize("dim", [0, 1])
def test_masks(dim):
    _, _, _, mask = problem()
    bits = vmap(pack_mask, dim)(mask)
    assert torch.equal(bits, loop(pack_mask, (dim,), mask))
    assert torch.equal(vmap(lambda b: unpack_mask(b, 70))(bits), mask.movedim(dim, 0))


@pytest.mark.parametrize("dims", [(0, 0, None), (0, 0, 0), (1, 1, None), (None, None, 0), (0, None, None)])
def test_sparse_linear(dims):
    x, bits, weight, _ = problem()
    given = [t if d is not None else t[0] for t, d in zip((x, bits, weight), dims, strict=True)]
    if dims == (0, None, None):
        given[1] = bits[0]
    torch.testing.assert_close(vmap(sparse_linear, dims)(*given), loop(sparse_linear, dims, *given))


@pytest.mark.parametrize("argument", [0, 2])
def test_gradients_for_each_of_a_batch(argument):
    x, bits, weight, _ = problem()

    def loss(x, bits, weight):
        return sparse_linear(x, bits, weight).square().sum()

    each = grad(loss, argument)
    torch.testing.assert_close(
        vmap(each, (0, 0, None))(x, bits, weight[0]), loop(each, (0, 0, None), x, bits, weight[0])
    )
    leaf = [x, bits, weight[0]]
    leaf[argument] = leaf[argument].clone().requires_grad_()
    vmap(loss, (0, 0, None))(*leaf).sum().backward()
    expected = loop(each, (0, 0, None), x, bits, weight[0])
    torch.testing.assert_close(leaf[argument].grad, expected if argument == 0 else expected.sum(0))


@pytest.mark.parametrize("information", [False, True])
def test_threshold_with_a_frozen_average(information):
    x, *_ = problem()
    theta, state = torch.tensor(0.3), ema_state()
    state[0], state[1] = 0.7, 1

    def outcome(x):
        masked = threshold_ema(x, theta, state, update=False, information=information)
        total = masked.values.sum() + masked.live
        return total + masked.information if information else total

    torch.testing.assert_close(vmap(outcome)(x), loop(outcome, (0,), x))
    torch.testing.assert_close(vmap(grad(outcome))(x), loop(grad(outcome), (0,), x))


def test_masked_linear_with_a_frozen_average():
    x, _, weight, _ = problem()
    theta, state = torch.tensor(0.3, dtype=torch.float64, requires_grad=True), ema_state()
    state[0], state[1] = 0.7, 1

    def loss(x, theta, weight):
        y, masked = masked_linear(x, theta, state, weight, update=False, information=True)
        return y.square().sum() + masked.information

    given = x, theta.detach(), weight[0]
    for argument in range(3):
        each, leaves = grad(loss, argument), [t.clone().requires_grad_() for t in (x[0], theta, weight[0])]
        got = vmap(each, (0, None, None))(*given)
        torch.testing.assert_close(got, loop(each, (0, None, None), *given))
        (expected,) = torch.autograd.grad(loss(*leaves), leaves[argument])  # the fused path
        torch.testing.assert_close(got[0], expected)

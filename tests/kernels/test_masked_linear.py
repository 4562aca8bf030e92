"""`masked_linear` against the threshold and the product it joins."""

import pytest
import torch

from dmt_kernels import Masked, advance, ema_state, masked_linear, sparse_linear, threshold_ema
from dmt_kernels.ops.masked_linear import reference


def problem(rows=50, columns=130, outputs=70, dtype=torch.float64, per_feature=False):
    g = torch.Generator().manual_seed(1)
    x = torch.randn(2, rows, columns, generator=g, dtype=torch.float64).to(dtype).requires_grad_()
    theta = (0.3 * torch.randn((columns,) if per_feature else (), generator=g, dtype=torch.float64)).requires_grad_()
    weight = torch.randn(outputs, columns, generator=g, dtype=torch.float64).to(dtype).requires_grad_()
    bias = torch.randn(outputs, generator=g, dtype=torch.float64).to(dtype).requires_grad_()
    grad = torch.randn(2, rows, outputs, generator=g, dtype=torch.float64).to(dtype)
    return x, theta, ema_state(), weight, bias, grad


@pytest.mark.parametrize("per_feature", [False, True])
@pytest.mark.parametrize("information", [False, True])
@pytest.mark.parametrize("impl", ["auto", "dense", "sparse"])
def test_values_and_gradients(impl, information, per_feature):
    x, theta, state, weight, bias, grad = problem(per_feature=per_feature)
    before = state.clone()
    y, masked = masked_linear(x, theta, state, weight, bias, information=information, impl=impl)
    loss = (y * grad).sum() + (3 * masked.information if information else 0)
    got = torch.autograd.grad(loss, (x, theta, weight, bias))

    expected_y, inner = reference.forward(x, theta, before, weight, bias, 0.9, True, information)
    torch.testing.assert_close(y, expected_y)
    assert torch.equal(masked.bits, inner.bits) and masked.values is None
    torch.testing.assert_close(masked.live, inner.live)
    torch.testing.assert_close(state, inner.state)
    if information:
        torch.testing.assert_close(masked.information, inner.information)
    with torch.no_grad():
        outer = torch.tensor(3.0, dtype=torch.float64) if information else None
        expected = reference.backward(grad, outer, x, theta, weight, inner)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b.to(a.dtype), rtol=1e-6, atol=1e-8)


def test_equals_threshold_then_product():
    x, theta, state, weight, bias, grad = problem(dtype=torch.float32)
    other = state.clone()
    y, masked = masked_linear(x, theta, state, weight, bias, impl="sparse")
    apart = threshold_ema(x, theta, other)
    assert isinstance(masked, Masked) and torch.equal(masked.bits, apart.bits) and torch.equal(state, other)
    again = sparse_linear(apart.values, apart.bits, weight, bias, impl="sparse")
    assert torch.equal(y, again)
    for a, b in zip(
        torch.autograd.grad(y, (x, theta, weight, bias), grad),
        torch.autograd.grad(again, (x, theta, weight, bias), grad),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_the_masked_tensor_is_not_kept():
    x, theta, state, weight, bias, _ = problem(dtype=torch.float32)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        masked_linear(x, theta, state, weight, bias)
    assert sum(t.shape == x.shape for t in kept) == 1
    assert any(t.data_ptr() == x.data_ptr() for t in kept)


def test_information_alone_has_a_gradient():
    x, theta, state, weight, bias, _ = problem()
    _, masked = masked_linear(x, theta, state, weight, bias, information=True)
    gx, gw = torch.autograd.grad(masked.information, (x, weight), allow_unused=True)
    assert gx.abs().sum() > 0 and gw is None


def test_frozen_state_and_repeated_steps():
    x, theta, state, weight, bias, _ = problem(dtype=torch.float32)
    masked_linear(x, theta, state, weight, bias)
    before = state.clone()
    masked_linear(2 * x, theta, state, weight, bias, update=False)
    assert torch.equal(state, before)
    advance(state)
    first = masked_linear(3 * x, theta, state, weight, bias)[0]
    after = state.clone()
    assert torch.equal(masked_linear(3 * x, theta, state, weight, bias)[0], first) and torch.equal(state, after)
    assert after[0] > before[0]


def test_second_derivative_is_refused():
    x, theta, state, weight, bias, _ = problem()
    y, _ = masked_linear(x, theta, state, weight, bias)
    with pytest.raises(RuntimeError, match="differentiable once"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


def test_compile_without_graph_breaks():
    x, theta, state, weight, bias, grad = problem(dtype=torch.float32)
    other = state.clone()

    def f(x, theta, state, weight, bias):
        y, masked = masked_linear(x, theta, state, weight, bias, information=True)
        return y, masked.information

    expected = f(x, theta, state, weight, bias)
    got = torch.compile(f, fullgraph=True, backend="aot_eager")(x, theta, other, weight, bias)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(other, state)
    inputs = (x, theta, weight, bias)
    for a, b in zip(
        torch.autograd.grad((got[0] * grad).sum() + got[1], inputs),
        torch.autograd.grad((expected[0] * grad).sum() + expected[1], inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_autocast():
    x, theta, state, weight, bias, _ = problem(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = masked_linear(x, theta, state, weight, bias)
    y.sum().backward()
    assert y.dtype == torch.bfloat16 and x.grad.dtype == weight.grad.dtype == torch.float32


@pytest.mark.parametrize("shape", [(0, 5, 7), (2, 3, 0)])
def test_empty(shape):
    x, weight = torch.randn(shape, requires_grad=True), torch.randn(4, shape[-1], requires_grad=True)
    y, masked = masked_linear(x, torch.tensor(0.0), ema_state(), weight)
    assert y.shape == (*shape[:-1], 4) and (y == 0).all() and masked.live == 0
    y.sum().backward()
    assert (weight.grad == 0).all() and x.grad.shape == x.shape


def test_errors():
    x, theta, state, weight, bias, _ = problem(dtype=torch.float32)
    with pytest.raises(ValueError, match=r"\[N, 130\]"):
        masked_linear(x, theta, state, weight[:, :5])
    with pytest.raises(ValueError, match="alpha"):
        masked_linear(x, theta, state, weight, bias, alpha=2.0)
    with pytest.raises(TypeError, match="share a dtype"):
        masked_linear(x, theta, state, weight.double())
    with pytest.raises(ValueError, match="impl must be one of"):
        masked_linear(x, theta, state, weight, impl="none")


@pytest.mark.parametrize("information", [False, True])
def test_gradients_around_a_dense_product(information):
    """The way of a GPU, which any device can go: the products in full, the mask in the threshold's backward pass."""
    from dmt_kernels.ops.masked_linear import op

    g = torch.Generator().manual_seed(0)
    x, weight, grad = (torch.randn(s, generator=g, dtype=torch.float64) for s in ((3, 20, 70), (9, 70), (3, 20, 9)))
    theta, state = torch.tensor(0.3), torch.tensor([0.7, 1, 0, 0])
    _, masked = reference.forward(x, theta, state, weight, None, 0.9, True, information)
    upstream = torch.tensor(0.7, dtype=torch.float64) if information else None
    expected = reference.backward(grad, upstream, x, theta, weight, masked)
    kept = (masked.state, masked.statistics if information else None)
    got = op._backward_dense(grad, upstream, x, theta, weight, kept, need_weight=True, need_bias=True)
    torch.testing.assert_close(got, expected)
    assert op._backward_dense(grad, upstream, x, theta, weight, kept, need_weight=False, need_bias=False)[2:] == (
        None,
        None,
    )

"""Properties of `sparse_linear` over random shapes, strides, dtypes and sparsities."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dmt_kernels import pack_mask, sparse_linear
from dmt_kernels.ops.sparse_linear import reference

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-11, torch.bfloat16: 2e-2, torch.float16: 3e-3}
SIZES = st.sampled_from([0, 1, 2, 33, 63, 64, 65, 128, 130, 257])


@st.composite
def problems(draw):
    rows, columns, outputs = draw(SIZES), draw(SIZES), draw(SIZES)
    dtype = draw(st.sampled_from(list(TOLERANCE)))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    live = draw(st.sampled_from([0.0, 0.01, 0.1, 0.5, 0.9, 1.0]))
    step = draw(st.sampled_from([1, 2]))

    def random(*shape):
        full = torch.randn(shape[0] * step, shape[1] + step - 1, generator=generator).to(dtype)
        return full[::step, step - 1 :]

    mask = torch.rand(rows, columns, generator=generator) < live
    x = torch.where(mask, random(rows, columns), float("nan"))
    if draw(st.booleans()):
        x = x.t().contiguous().t()
    return x, mask, random(outputs, columns), random(rows, outputs), draw(st.sampled_from(["auto", "dense", "sparse"]))


@settings(max_examples=80, deadline=None)
@given(problems())
def test_value_and_gradients(problem):
    x, mask, weight, grad, impl = problem
    bits = pack_mask(mask)
    inputs = [x.clone().requires_grad_(), weight.clone().requires_grad_()]
    y = sparse_linear(inputs[0], bits, inputs[1], impl=impl)
    dx, dw = torch.autograd.grad(y, inputs, grad)
    wide = [t.double() for t in (x, weight, grad)]
    expected = (
        reference.sparse_linear(wide[0], bits, wide[1]),
        reference.grad_input(wide[2], bits, wide[1]),
        reference.grad_weight(wide[2], wide[0], bits),
    )
    tolerance = TOLERANCE[x.dtype]
    for got, right in zip((y, dx, dw), expected, strict=True):
        assert got.dtype == x.dtype
        torch.testing.assert_close(got.double(), right, rtol=tolerance, atol=tolerance * 10)
    assert (dx[~mask] == 0).all()


@settings(max_examples=30, deadline=None)
@given(problems(), st.sampled_from([-2.0, 0.5, 4.0]))
def test_linear_in_x(problem, scale):
    """A power of two passes through every sum without rounding."""
    x, mask, weight, _, impl = problem
    bits = pack_mask(mask)
    if x.dtype == torch.float16:
        x, weight = x / 64, weight / 64
        x, weight = x.float(), weight.float()
    assert torch.equal(
        sparse_linear(x * scale, bits, weight, impl=impl), sparse_linear(x, bits, weight, impl=impl) * scale
    )

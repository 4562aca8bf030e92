"""sparse_bmm: every layout, odd and empty shapes, what is skipped, gradients, errors."""

from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dmt.bench.case import peak_allocated
from dmt_kernels import backends
from dmt_kernels import sparse_bmm as by_any_way
from dmt_kernels.backends import calls

sparse_bmm = partial(by_any_way, impl="sparse")
compiled = pytest.mark.skipif(backends().on_cpu != "compiled", reason="no compiled CPU kernels")


def operands(items, rows, depth, outputs, zeros=0.5, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(items, rows, depth, generator=g).to(dtype)
    x = torch.where(torch.rand(x.shape, generator=g) < zeros, 0, x)
    return x, torch.randn(items, depth, outputs, generator=g).to(dtype)


def close(y, x, weight):
    exact = torch.bmm(x.double(), weight.double())
    bound = 1e-6 if y.dtype == torch.float32 else 1e-14
    assert y.dtype == x.dtype and y.is_contiguous() and y.shape == exact.shape
    sizes = torch.bmm(x.double().abs(), weight.double().abs())  # of what was added
    assert ((y.double() - exact).abs() <= bound * sizes).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("outputs", [1, 3, 4, 8, 15, 16, 17, 31, 48, 64, 100, 128, 129, 256, 300])
def test_widths(isa, outputs, dtype):
    x, weight = operands(3, 5, 70, outputs, dtype=dtype)
    before = calls("sparse_bmm")
    close(sparse_bmm(x, weight), x, weight)
    columns = x.transpose(1, 2).contiguous().transpose(1, 2)  # the same, contiguous along P
    close(sparse_bmm(columns, weight), x, weight)
    assert calls("sparse_bmm") == before + 2


@given(
    st.integers(0, 4),
    st.integers(0, 70),
    st.integers(0, 130),
    st.integers(0, 40),
    st.sampled_from([0.0, 0.5, 0.97, 1.0]),
)
@settings(deadline=None, max_examples=60)
def test_shapes_and_shares(items, rows, depth, outputs, zeros):
    x, weight = operands(items, rows, depth, outputs, zeros)
    close(sparse_bmm(x, weight), x, weight)
    close(sparse_bmm(x.transpose(1, 2).contiguous().transpose(1, 2), weight), x, weight)


def test_strides(isa):
    x, weight = operands(4, 6, 66, 20)
    close(sparse_bmm(x[:, ::2, ::3], weight[:, ::3]), x[:, ::2, ::3], weight[:, ::3])
    close(sparse_bmm(x[::2, 1:], weight[::2, :, ::2]), x[::2, 1:], weight[::2, :, ::2])
    close(sparse_bmm(x[:1].expand(4, -1, -1), weight), x[:1].expand(4, -1, -1), weight)
    close(sparse_bmm(x, weight[:1].expand(4, -1, -1)), x, weight[:1].expand(4, -1, -1))
    turned = weight.transpose(1, 2).contiguous().transpose(1, 2)
    close(sparse_bmm(x, turned), x, turned)


def test_threads_change_nothing():
    x, weight = operands(300, 3, 64, 40)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = sparse_bmm(x, weight)
        torch.set_num_threads(2)
        assert torch.equal(sparse_bmm(x, weight), alone)
    finally:
        torch.set_num_threads(threads)


@compiled
def test_only_a_weight_that_needs_it_is_copied(isa):
    x, weight = operands(1, 2, 256, 512)
    assert peak_allocated(lambda: sparse_bmm(x, weight)) < weight.nbytes / 8
    turned = weight.transpose(1, 2).contiguous().transpose(1, 2)
    for copied in (turned, weight[..., :-1]):
        assert peak_allocated(lambda weight=copied: sparse_bmm(x, weight)) >= copied.nbytes


@compiled
def test_rows_that_meet_no_live_element_are_not_read(isa):
    x, weight = operands(2, 3, 70, 20)
    x[:, :, 5] = 0
    weight[:, 5] = torch.nan
    assert sparse_bmm(x, weight).isfinite().all()
    columns = x.transpose(1, 2).contiguous().transpose(1, 2)
    assert sparse_bmm(columns, weight).isfinite().all()


def test_what_is_not_a_number_comes_through(isa):
    for turned in (False, True):
        x, weight = operands(1, 3, 70, 20)
        x[0, 1, 69] = torch.nan
        x = x.transpose(1, 2).contiguous().transpose(1, 2) if turned else x
        y = sparse_bmm(x, weight)
        assert y[0, 1].isnan().all() and y[0, [0, 2]].isfinite().all()


def test_gradients_are_those_of_the_dense_product():
    x, weight = (t.requires_grad_() for t in operands(2, 3, 5, 4, dtype=torch.float64))
    assert torch.autograd.gradcheck(sparse_bmm, (x, weight))
    with torch.no_grad():
        assert not sparse_bmm(x, weight).requires_grad


def test_opcheck_vmap_and_compile():
    x, weight = operands(2, 3, 5, 4)
    torch.library.opcheck(torch.ops.dmt_kernels.sparse_bmm, (x, weight, 2))
    many = torch.stack([x, 2 * x])
    close(torch.func.vmap(sparse_bmm, in_dims=(0, None))(many, weight)[1], 2 * x, weight)
    traced = torch.compile(sparse_bmm, fullgraph=True, backend="aot_eager")
    assert torch.equal(traced(x, weight), sparse_bmm(x, weight))


def test_misfits_are_said_clearly():
    x, weight = operands(2, 3, 5, 4)
    with pytest.raises(TypeError, match=r"float32 or both in float64, got torch\.float16"):
        sparse_bmm(x.half(), weight.half())
    with pytest.raises(TypeError, match=r"got torch\.float32, torch\.float64"):
        sparse_bmm(x, weight.double())
    with pytest.raises(ValueError, match=r"got \(2, 3, 5\) and \(2, 4, 4\)"):
        sparse_bmm(x, weight[:, 1:])
    with pytest.raises(ValueError, match="share a device"):
        sparse_bmm(x, weight.to("meta"))


@compiled
def test_the_compiled_operator_checks_too():
    x, weight = operands(2, 3, 5, 4)
    op = torch.ops.dmt_kernels.sparse_bmm
    with pytest.raises(RuntimeError, match="float32 or float64"):
        op(x.bfloat16(), weight.bfloat16(), 0)
    with pytest.raises(RuntimeError, match="dtype and the device"):
        op(x, weight.double(), 0)
    with pytest.raises(RuntimeError, match="do not fit"):
        op(x, weight[:1], 0)
    with pytest.raises(RuntimeError, match="got 2 and 3 dimensions"):
        op(x[0], weight, 0)


@compiled
@pytest.mark.parametrize(
    ("rows", "outputs", "zeros", "dense"),
    [(1, 64, 0.3, 0), (1, 4, 0.99, 1), (11, 64, 0.3, 1), (11, 64, 0.9, 0), (3, 64, 0.1, 1), (3, 64, 0.6, 0)],
)
def test_auto_goes_by_rows_outputs_and_zeros(rows, outputs, zeros, dense):
    x, weight = operands(8, rows, 96, outputs, zeros)
    before = calls("sparse_bmm_dense")
    close(by_any_way(x, weight), x, weight)
    assert calls("sparse_bmm_dense") - before == dense
    with pytest.raises(ValueError, match="impl"):
        by_any_way(x, weight, impl="quick")

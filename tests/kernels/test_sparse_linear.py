"""`sparse_linear` against its reference in float64: values, gradients, tracing, errors."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import forward_ad

import dmt_kernels
from dmt_kernels import pack_mask, sparse_linear
from dmt_kernels.ops.sparse_linear import reference

OPS = torch.ops.dmt_kernels
TOLERANCE = {
    torch.float32: dict(rtol=2e-5, atol=1e-4),
    torch.float64: dict(rtol=1e-12, atol=1e-11),
    torch.bfloat16: dict(rtol=1e-2, atol=1e-2),
    torch.float16: dict(rtol=2e-3, atol=2e-3),
}
SHAPES = [(1, 1, 1), (33, 65, 63), (64, 256, 256), (130, 130, 130), (300, 320, 200), (513, 64, 257)]
EMPTY = [(0, 5, 6), (5, 0, 6), (5, 6, 0), (0, 0, 0)]


def compiled():
    from dmt_kernels import _C

    return _C


def problem(rows, columns, outputs, live=0.4, dtype=torch.float32, seed=0, poison=True):
    """x (NaN where masked), bits, weight, bias, grad, mask."""
    g = torch.Generator().manual_seed(seed)
    mask = torch.rand(rows, columns, generator=g) < live
    x = torch.randn(rows, columns, generator=g, dtype=torch.float64).to(dtype)
    weight = torch.randn(outputs, columns, generator=g, dtype=torch.float64).to(dtype)
    bias = torch.randn(outputs, generator=g, dtype=torch.float64).to(dtype)
    grad = torch.randn(rows, outputs, generator=g, dtype=torch.float64).to(dtype)
    if poison:
        x = torch.where(mask, x, float("nan"))
    return x, pack_mask(mask), weight, bias, grad, mask


def close(actual, expected, dtype):
    torch.testing.assert_close(actual.double(), expected.to(dtype).double(), **TOLERANCE[dtype])


def check_products(x, bits, weight, bias, grad, structure=0, route=2):
    """The three compiled products against the reference in float64."""
    dtype = x.dtype
    wide = [t.double() for t in (x, weight, bias, grad)]
    close(
        OPS.sparse_linear(x, bits, weight, bias, structure, route),
        reference.sparse_linear(wide[0], bits, wide[1], wide[2]),
        dtype,
    )
    close(
        OPS.sparse_linear_grad_input(grad, bits, weight, structure, route),
        reference.grad_input(wide[3], bits, wide[1]),
        dtype,
    )
    close(
        OPS.sparse_linear_grad_weight(grad, x, bits, structure, route),
        reference.grad_weight(wide[3], wide[0], bits),
        dtype,
    )
    both = OPS.sparse_linear_backward(grad, x, bits, weight, structure, route)
    close(both[0], reference.grad_input(wide[3], bits, wide[1]), dtype)
    close(both[1], reference.grad_weight(wide[3], wide[0], bits), dtype)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("rows,columns,outputs", SHAPES + EMPTY)
def test_products_match_the_reference(isa, rows, columns, outputs, dtype):
    for live in (0.0, 0.03, 0.5, 1.0):
        x, bits, weight, bias, grad, _ = problem(rows, columns, outputs, live, dtype)
        for route in (0, 1, 2):
            check_products(x, bits, weight, bias, grad, route=route)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("live", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("shape", [(1030, 700, 300), (300, 600, 520), (200, 900, 70)])
def test_several_tiles_of_rows(isa, shape, live, dtype):
    """Weights that stay near and those that do not (past a megabyte), one chunk of rows for dW and several."""
    x, bits, weight, bias, grad, _ = problem(*shape, live, dtype)
    check_products(x, bits, weight, bias, grad)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("shape", [(7, 90, 256), (70, 90, 512), (300, 97, 256), (90, 33, 768)])
def test_many_live_elements_for_whole_broad_blocks(isa, shape, dtype):
    for live in (0.45, 0.6, 0.95):
        check_products(*problem(*shape, live, dtype)[:5])


@pytest.mark.parametrize("shape", [(64, 64, 64), (200, 130, 70), (257, 200, 130), (600, 100, 40)])
def test_rows_and_columns_of_very_different_counts(isa, shape):
    """Sparse products go through rows, and dW through columns, by how many of their elements are live."""
    rows, columns, _ = shape
    x, _, weight, bias, grad, _ = problem(*shape, 1.0)
    by_row, by_column = torch.linspace(0, 1, rows)[:, None] ** 4, torch.linspace(1, 0, columns) ** 4
    for share in (by_row * torch.ones(columns), by_column * torch.ones(rows, 1), by_row.flip(0) * by_column):
        mask = torch.rand(rows, columns, generator=torch.Generator().manual_seed(1)) < share
        check_products(x, pack_mask(mask), weight, bias, grad)


@pytest.mark.parametrize("rows", [191, 192, 300])
def test_dense_weight_gradient_in_bands_of_rows(rows):
    x, bits, weight, bias, grad, _ = problem(rows, 600, 5, 0.5, torch.float64)
    check_products(x, bits, weight, bias, grad, route=1)


def test_masked_input_gradient_is_exactly_zero():
    _, bits, weight, _, grad, mask = problem(70, 130, 65)
    for route in (1, 2):
        dx = OPS.sparse_linear_grad_input(grad * float("inf"), bits, weight, 0, route)
        assert (dx[~mask] == 0).all()
        assert not torch.isfinite(dx[mask]).any()


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("impl", ["auto", "dense", "sparse"])
def test_poison_under_the_mask_reaches_nothing(poison, impl):
    x, bits, weight, bias, grad, mask = problem(40, 100, 30, live=0.5)
    x = torch.where(mask, x, poison).requires_grad_()
    weight.requires_grad_()
    y = sparse_linear(x, bits, weight, bias, impl=impl)
    y.backward(grad)
    assert y.isfinite().all() and x.grad.isfinite().all() and weight.grad.isfinite().all()


def test_live_nan_is_passed_on():
    x, bits, weight, _, _, mask = problem(10, 100, 30, live=0.5)
    row, column = mask.nonzero()[3].tolist()
    x[row, column] = float("nan")
    y = sparse_linear(x, bits, weight, impl="sparse")
    assert y[row].isnan().all() and y[torch.arange(10) != row].isfinite().all()


@pytest.mark.parametrize("impl", ["auto", "dense", "sparse"])
def test_gradients_equal_those_of_the_masked_dense_product(impl):
    x, bits, weight, bias, grad, mask = problem(2 * 37, 130, 66, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (x.reshape(2, 37, 130), weight, bias)]
    y = sparse_linear(inputs[0], bits.reshape(2, 37, 3), *inputs[1:], impl=impl)
    got = torch.autograd.grad(y, inputs, grad.reshape(2, 37, 66))
    dense = F.linear(torch.where(mask.reshape(2, 37, 130), inputs[0], 0), *inputs[1:])
    expected = torch.autograd.grad(dense, inputs, grad.reshape(2, 37, 66))
    torch.testing.assert_close(y, dense)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("shape", [(7,), (2, 3, 4, 7), (0, 7), (3, 0, 7)])
def test_any_leading_dimensions(shape):
    mask = torch.rand(shape) < 0.5
    x, weight = torch.randn(shape), torch.randn(5, 7)
    y = sparse_linear(x, pack_mask(mask), weight, impl="sparse")
    torch.testing.assert_close(y, torch.where(mask, x, 0) @ weight.t())


@pytest.mark.parametrize("impl", ["dense", "sparse"])
def test_strided_operands(impl):
    x, bits, weight, bias, grad, _ = problem(50, 130, 70, poison=False)
    wide_x = torch.full((100, 300), float("nan"))
    strided_x = wide_x[::2, 10:140].copy_(x).requires_grad_()
    strided_bits = bits.t().contiguous().t()
    strided_weight = weight.t().contiguous().t().detach().requires_grad_()
    strided_bias = torch.stack([bias, bias], 1)[:, 0]
    y = sparse_linear(strided_x, strided_bits, strided_weight, strided_bias, impl=impl)
    torch.testing.assert_close(y, reference.sparse_linear(x, bits, weight, bias), rtol=2e-5, atol=1e-4)
    dx, dw = torch.autograd.grad(y, (strided_x, strided_weight), grad.t().contiguous().t())
    torch.testing.assert_close(dx, reference.grad_input(grad, bits, weight), rtol=2e-5, atol=1e-4)
    torch.testing.assert_close(dw, reference.grad_weight(grad, x, bits), rtol=2e-5, atol=1e-4)


def test_expanded_gradient():
    x, bits, weight, _, _, mask = problem(50, 130, 70)
    x.requires_grad_()
    sparse_linear(x, bits, weight, impl="sparse").sum().backward()
    expected = torch.where(mask, weight.sum(0).expand(50, 130), 0)
    torch.testing.assert_close(x.grad, expected, rtol=2e-5, atol=1e-4)


def test_bits_past_the_last_column_are_ignored():
    x, bits, weight, bias, grad, _ = problem(20, 70, 30)
    dirty = bits.clone()
    dirty[:, 1] |= -1 << 6
    for route in (0, 1, 2):
        for op, args in (
            (OPS.sparse_linear, (x, dirty, weight, bias)),
            (OPS.sparse_linear_grad_weight, (grad, x, dirty)),
        ):
            clean = [bits if a is dirty else a for a in args]
            assert torch.equal(op(*args, 0, route), op(*clean, 0, route))
        dx = OPS.sparse_linear_grad_input(grad, dirty, weight, 0, route)
        assert torch.equal(dx, OPS.sparse_linear_grad_input(grad, bits, weight, 0, route))
        both = OPS.sparse_linear_backward(grad, x, dirty, weight, 0, route)
        assert torch.equal(both[0], dx)
        assert torch.equal(both[1], OPS.sparse_linear_grad_weight(grad, x, bits, 0, route))


@pytest.mark.parametrize("structure", ["element", "tile"])
def test_both_gradients_in_one_call_and_each_alone_are_the_same(structure):
    """One call where both are wanted and masks are by element; two when a derivative of theirs may follow."""
    x, bits, weight, _, grad, _ = problem(30, 70, 40, poison=False)
    inputs = [x.requires_grad_(), weight.requires_grad_()]
    before = compiled().calls()["sparse_linear_backward"]
    found = torch.autograd.grad(sparse_linear(x, bits, weight, structure=structure), inputs, grad)
    assert compiled().calls()["sparse_linear_backward"] - before == (structure == "element")
    y = sparse_linear(x, bits, weight, structure=structure)
    for a, b in zip(found, torch.autograd.grad(y, inputs, grad, create_graph=True), strict=True):
        torch.testing.assert_close(a, b, rtol=2e-5, atol=1e-4)
    assert compiled().calls()["sparse_linear_backward"] - before == (structure == "element")


@pytest.mark.parametrize("need", ["x", "weight", "bias"])
def test_no_work_for_an_input_without_gradient(need):
    x, bits, weight, bias, grad, _ = problem(30, 70, 40, poison=False)
    inputs = dict(x=x, weight=weight, bias=bias)
    inputs[need].requires_grad_()
    before = {n: compiled().calls()[n] for n in ("sparse_linear_grad_input", "sparse_linear_grad_weight")}
    sparse_linear(x, bits, weight, bias, impl="sparse").backward(grad)
    ran = {n: compiled().calls()[n] - c for n, c in before.items()}
    assert ran == {"sparse_linear_grad_input": need == "x", "sparse_linear_grad_weight": need == "weight"}
    assert [n for n, t in inputs.items() if t.grad is not None] == [need]


def test_input_is_not_kept_where_the_weight_is_frozen():
    x, bits, weight, _, _, _ = problem(30, 70, 40)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.data_ptr()) or t, lambda t: t):
        sparse_linear(x.requires_grad_(), bits, weight)
    assert x.data_ptr() not in kept and weight.data_ptr() in kept


def test_forward_mode_is_refused_and_not_dropped():
    x, bits, weight, _, _, _ = problem(3, 70, 4, poison=False)
    with forward_ad.dual_level(), torch.no_grad(), pytest.raises(NotImplementedError, match="jvp"):
        sparse_linear(forward_ad.make_dual(x, torch.ones_like(x)), bits, weight)


@pytest.mark.parametrize("recording", [True, False])
def test_nothing_is_recorded_where_nothing_asks_for_a_gradient(recording):
    x, bits, weight, bias, _, _ = problem(30, 70, 40, poison=False)
    expected = sparse_linear(x, bits, weight, bias, impl="sparse")
    weight.requires_grad_(not recording)
    with torch.set_grad_enabled(recording):
        y = sparse_linear(x, bits, weight, bias, impl="sparse")
    assert torch.equal(y, expected) and not y.requires_grad
    assert sparse_linear(x, bits, weight.requires_grad_(), bias).grad_fn is not None
    assert sparse_linear(x, bits, weight.detach(), bias.requires_grad_()).grad_fn is not None


def test_gradcheck_and_gradgradcheck():
    x, bits, weight, bias, _, _ = problem(5, 67, 4, dtype=torch.float64, poison=False)
    inputs = [t.requires_grad_() for t in (x, weight, bias)]

    def f(x, weight, bias):
        return sparse_linear(x, bits, weight, bias, impl="sparse")

    assert torch.autograd.gradcheck(f, inputs)
    assert torch.autograd.gradgradcheck(f, inputs)


@pytest.mark.parametrize("structure,route", [(0, 0), (0, 2)])
def test_opcheck(structure, route):
    x, bits, weight, bias, grad, _ = problem(20, 70, 30, poison=False)
    torch.library.opcheck(OPS.sparse_linear.default, (x, bits, weight, bias, structure, route))
    torch.library.opcheck(OPS.sparse_linear.default, (x, bits, weight, None, structure, route))
    torch.library.opcheck(OPS.sparse_linear_grad_input.default, (grad, bits, weight, structure, route))
    torch.library.opcheck(OPS.sparse_linear_grad_weight.default, (grad, x, bits, structure, route))
    torch.library.opcheck(OPS.sparse_linear_backward.default, (grad, x, bits, weight, structure, route))


def test_compile_without_graph_breaks():
    x, bits, weight, bias, grad, _ = problem(33, 130, 70, poison=False)
    inputs = [t.requires_grad_() for t in (x, weight, bias)]

    def f(x, weight, bias):
        return sparse_linear(x * 2, bits, weight, bias).relu()

    expected = f(*inputs)
    got = torch.compile(f, fullgraph=True, backend="aot_eager")(*inputs)
    torch.testing.assert_close(got, expected)
    for a, b in zip(torch.autograd.grad(got, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("impl", ["dense", "sparse"])
def test_autocast(dtype, impl):
    x, bits, weight, bias, _, _ = problem(80, 130, 70, poison=False)
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    with torch.autocast("cpu", dtype):
        y = sparse_linear(inputs[0], bits, *inputs[1:], impl=impl)
        assert y.dtype == dtype
        y.sum().backward()
    assert all(t.grad.dtype == torch.float32 for t in inputs)
    low = [t.detach().to(dtype).double() for t in (x, weight, bias)]
    close(y.detach(), reference.sparse_linear(low[0], bits, *low[1:]), dtype)


def test_float32_backward_inside_autocast_stays_float32():
    x, bits, weight, _, grad, _ = problem(80, 130, 70, poison=False)
    x.requires_grad_(), weight.requires_grad_()
    y = sparse_linear(x, bits, weight, impl="dense")
    with torch.autocast("cpu", torch.bfloat16):
        y.backward(grad)
    torch.testing.assert_close(weight.grad, reference.grad_weight(grad, x.detach(), bits), rtol=2e-5, atol=1e-4)


@pytest.mark.parametrize("rows", [70, 700])
def test_deterministic_and_equal_for_any_number_of_threads(rows):
    x, bits, weight, bias, grad, _ = problem(rows, 300, 500, live=0.3)
    threads = torch.get_num_threads()
    results = []
    try:
        for count in (1, 1, 2, 3, 16):
            torch.set_num_threads(count)
            results.append(
                (
                    OPS.sparse_linear(x, bits, weight, bias, 0, 2),
                    OPS.sparse_linear_grad_input(grad, bits, weight, 0, 2),
                    OPS.sparse_linear_grad_weight(grad, x, bits, 0, 2),
                    *OPS.sparse_linear_backward(grad, x, bits, weight, 0, 2),
                )
            )
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_a_changed_weight_is_seen():
    """Also where no version counter tells: nothing of the weight is kept between calls."""
    x, bits, weight, _, _, _ = problem(64, 128, 128)
    before = sparse_linear(x, bits, weight, impl="sparse")
    weight.data.mul_(2)
    torch.testing.assert_close(sparse_linear(x, bits, weight, impl="sparse"), 2 * before)


def test_called_from_several_threads():
    from concurrent.futures import ThreadPoolExecutor

    problems = [problem(100, 200, 150, seed=s) for s in range(8)]
    expected = [sparse_linear(x, bits, w, b, impl="sparse") for x, bits, w, b, *_ in problems]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            got = list(pool.map(lambda p: sparse_linear(*p[:4], impl="sparse"), problems))
            assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_the_compiled_kernel_is_what_runs():
    if dmt_kernels.backends().on_cpu != "compiled":
        pytest.skip("the CPU kernels are not built")
    x, bits, weight, _, _, _ = problem(64, 128, 128)
    before = compiled().calls()["sparse_linear"]
    sparse_linear(x, bits, weight)
    assert compiled().calls()["sparse_linear"] == before + 1


def test_auto_is_dense_for_full_masks_and_sparse_for_empty_ones():
    module = pytest.importorskip("dmt_kernels._C", reason="the CPU kernels are not built")
    for live, dense in ((0.95, 1), (0.05, 0)):
        x, bits, weight, *_ = problem(512, 512, 512, live)
        before = module.calls()["sparse_linear_dense"]
        sparse_linear(x, bits, weight)
        assert module.calls()["sparse_linear_dense"] == before + dense


def changed(**changes):
    x, bits, weight, bias, _, _ = problem(4, 70, 3)
    given = dict(x=x, bits=bits, weight=weight, bias=bias)
    return given | {name: change(given[name]) for name, change in changes.items()}


BAD = {
    "dtype": (changed(x=lambda t: t.int()), TypeError, "float32, bfloat16"),
    "mixed dtypes": (changed(weight=lambda t: t.double()), TypeError, "share a dtype"),
    "bits dtype": (changed(bits=lambda t: t.int()), TypeError, "int64"),
    "no dimensions": (changed(x=lambda t: t[0, 0]), ValueError, "without dimensions"),
    "width": (changed(weight=lambda t: t[:, :69]), ValueError, r"\[N, 70\]"),
    "weight dimensions": (changed(weight=lambda t: t[0]), ValueError, r"\[N, 70\]"),
    "bias": (changed(bias=lambda t: t[:2]), ValueError, r"bias must be \[3\]"),
    "bits width": (changed(bits=lambda t: t[:, :1]), ValueError, r"\[4, 2\]"),
    "bits rows": (changed(bits=lambda t: t[:3]), ValueError, r"\[4, 2\]"),
    "device": (changed(weight=lambda t: t.to("meta")), ValueError, "share a device"),
}


@pytest.mark.parametrize("name", BAD)
def test_one_clear_error(name):
    given, error, message = BAD[name]
    with pytest.raises(error, match=message):
        sparse_linear(**given)


@pytest.mark.parametrize("name", [n for n in BAD if n != "device"])
def test_one_clear_error_from_the_operator(name):
    given, *_ = BAD[name]
    with pytest.raises((RuntimeError, TypeError, ValueError), match=r"sparse_linear: |must|expected"):
        OPS.sparse_linear(given["x"], given["bits"], given["weight"], given["bias"], 0, 2)


BAD_GRADIENTS = {
    "rows": lambda g, x, b, w: (g[:3], x, b, w),
    "width": lambda g, x, b, w: (g[:, :2], x, b, w),
    "x wider than weight": lambda g, x, b, w: (g, torch.cat((x, x[:, :1]), 1), b, w),
    "bits": lambda g, x, b, w: (g, x, b[:, :1], w),
    "dtypes": lambda g, x, b, w: (g, x.double(), b, w),
}


@pytest.mark.parametrize("name", BAD_GRADIENTS)
def test_one_clear_error_from_both_gradients_in_one_call(name):
    compiled()
    x, bits, weight, _, grad, _ = problem(4, 70, 3)
    with pytest.raises(RuntimeError, match=r"sparse_linear: .*must"):
        OPS.sparse_linear_backward(*BAD_GRADIENTS[name](grad, x, bits, weight), 0, 2)


@pytest.mark.parametrize("name", ["impl", "structure"])
def test_unknown_names(name):
    x, bits, weight, *_ = problem(4, 70, 3)
    with pytest.raises(ValueError, match=f"{name} must be one of"):
        sparse_linear(x, bits, weight, **{name: "fast"})

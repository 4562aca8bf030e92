"""`sparse_linear` under masks by column, row and tile: the reference's results, and less work for them."""

import pytest
import torch

from dmt_kernels import backends, pack_mask, sparse_linear
from dmt_kernels.backends import calls
from dmt_kernels.ops.sparse_linear import reference
from dmt_kernels.structure import COLUMN, ROW, STRUCTURES, TILE, cell

OPS = torch.ops.dmt_kernels
STRUCTURED = STRUCTURES[1:]
SHAPES = [(1, 1, 1), (33, 65, 63), (130, 200, 70), (300, 320, 200), (0, 5, 6), (5, 0, 6), (5, 6, 0), (0, 0, 0)]
TOLERANCE = {
    torch.float32: dict(rtol=2e-5, atol=1e-4),
    torch.float64: dict(rtol=1e-12, atol=1e-11),
    torch.bfloat16: dict(rtol=1e-2, atol=2e-2),
    torch.float16: dict(rtol=2e-3, atol=4e-3),
}
needs_compiled = pytest.mark.skipif(backends().on_cpu != "compiled", reason="the CPU kernels are not built")


def mask_of(structure, rows, columns, live, generator):
    """Whole groups are live with probability `live`."""
    size = cell(STRUCTURES.index(structure), rows, columns)
    groups = torch.rand(size.grid(rows, columns), generator=generator) < live
    tall = groups.repeat_interleave(size.height, 0)[:rows]
    return tall.repeat_interleave(size.width, 1)[:, :columns]


def problem(structure, rows, columns, outputs, live=0.5, dtype=torch.float32, seed=0):
    """x (NaN where masked), bits, weight, bias, grad, mask."""
    g = torch.Generator().manual_seed(seed)
    mask = mask_of(structure, rows, columns, live, g)
    shapes = (rows, columns), (outputs, columns), (outputs,), (rows, outputs)
    x, weight, bias, grad = (torch.randn(s, generator=g, dtype=torch.float64).to(dtype) for s in shapes)
    return torch.where(mask, x, float("nan")), pack_mask(mask), weight, bias, grad, mask


def check(x, bits, weight, bias, grad, structure, route):
    wide = [t.double() for t in (x, weight, bias, grad)]
    how = STRUCTURES.index(structure), route
    pairs = (
        (OPS.structured_linear(x, bits, weight, bias, *how), reference.sparse_linear(wide[0], bits, wide[1], wide[2])),
        (OPS.structured_linear_grad_input(grad, bits, weight, *how), reference.grad_input(wide[3], bits, wide[1])),
        (OPS.structured_linear_grad_weight(grad, x, bits, *how), reference.grad_weight(wide[3], wide[0], bits)),
    )
    for got, expected in pairs:
        assert got.dtype == x.dtype and got.shape == expected.shape
        torch.testing.assert_close(got.double(), expected.to(x.dtype).double(), **TOLERANCE[x.dtype])
    dead = reference.unpack_mask(bits, x.shape[1]).logical_not()
    assert (pairs[1][0][dead] == 0).all()


@pytest.fixture(autouse=True)
def unwritten_is_nan():
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("structure", STRUCTURED)
@pytest.mark.parametrize("rows,columns,outputs", SHAPES)
def test_products_match_the_reference(rows, columns, outputs, structure, dtype):
    for live in (0.0, 0.3, 0.9, 1.0):
        x, bits, weight, bias, grad, _ = problem(structure, rows, columns, outputs, live, dtype)
        for route in (0, 1, 2):
            check(x, bits, weight, bias, grad, structure, route)


@pytest.mark.parametrize("structure", STRUCTURED)
@pytest.mark.parametrize("live", [0.01, 0.5])
def test_a_mask_without_the_structure_is_still_right(structure, live):
    g = torch.Generator().manual_seed(0)
    mask = torch.rand(150, 200, generator=g) < live
    x, _, weight, bias, grad, _ = problem("row", 150, 200, 70, 1.0)
    for route in (0, 2):
        check(torch.where(mask, x, float("nan")), pack_mask(mask), weight, bias, grad, structure, route)


@pytest.mark.parametrize("structure", STRUCTURED)
def test_bits_past_the_last_column_are_ignored(structure):
    x, bits, weight, bias, grad, _ = problem(structure, 140, 70, 30)
    dirty = bits.clone()
    dirty[:, 1] |= -1 << 6
    how = STRUCTURES.index(structure), 2
    assert torch.equal(
        OPS.structured_linear(x, dirty, weight, bias, *how), OPS.structured_linear(x, bits, weight, bias, *how)
    )
    assert torch.equal(
        OPS.structured_linear_grad_weight(grad, x, dirty, *how), OPS.structured_linear_grad_weight(grad, x, bits, *how)
    )


def executed(run):
    before = calls("structured_linear_multiplications")
    run()
    return calls("structured_linear_multiplications") - before


@needs_compiled
@pytest.mark.parametrize("structure", STRUCTURED)
def test_only_live_work_is_executed(structure):
    rows, columns, outputs = 300, 330, 96
    x, bits, weight, bias, grad, mask = problem(structure, rows, columns, outputs, 0.4)
    live = int(mask.sum())
    assert 0 < live < 0.8 * mask.numel()
    how = STRUCTURES.index(structure), 0
    assert executed(lambda: OPS.structured_linear(x, bits, weight, bias, *how)) == live * outputs
    assert executed(lambda: OPS.structured_linear_grad_input(grad, bits, weight, *how)) == live * outputs
    assert executed(lambda: OPS.structured_linear_grad_weight(grad, x, bits, *how)) == live * outputs


@needs_compiled
def test_a_full_mask_is_one_dense_product_and_an_empty_one_none():
    for structure in (COLUMN, ROW, TILE):
        for live, work in ((1.0, 100 * 130 * 50), (0.0, 0)):
            x, bits, weight, bias, *_ = problem(STRUCTURES[structure], 100, 130, 50, live)
            assert executed(lambda: OPS.structured_linear(x, bits, weight, bias, structure, 0)) == work  # noqa: B023


@pytest.mark.parametrize("structure", STRUCTURED)
@pytest.mark.parametrize("impl", ["auto", "dense", "sparse"])
def test_public_function_and_its_gradients(structure, impl):
    x, bits, weight, bias, grad, mask = problem(structure, 2 * 70, 130, 66, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (x.reshape(2, 70, 130), weight, bias)]
    y = sparse_linear(inputs[0], bits.reshape(2, 70, 3), *inputs[1:], structure=structure, impl=impl)
    got = torch.autograd.grad(y, inputs, grad.reshape(2, 70, 66))
    clean = torch.where(mask.reshape(2, 70, 130), inputs[0].detach(), 0).requires_grad_()
    dense = clean @ weight.t() + bias
    expected = torch.autograd.grad(dense, (clean, weight, bias), grad.reshape(2, 70, 66))
    torch.testing.assert_close(y, dense)
    torch.testing.assert_close(got[0], torch.where(mask.reshape(2, 70, 130), expected[0], 0))
    torch.testing.assert_close(got[1:], expected[1:])


@pytest.mark.parametrize("structure", STRUCTURED)
def test_gradcheck_and_gradgradcheck(structure):
    _, bits, weight, bias, _, _ = problem(structure, 5, 67, 4, 0.6, torch.float64)
    x = torch.randn(5, 67, dtype=torch.float64)
    inputs = [t.requires_grad_() for t in (x, weight, bias)]

    def f(x, weight, bias):
        return sparse_linear(x, bits, weight, bias, structure=structure, impl="sparse")

    assert torch.autograd.gradcheck(f, inputs)
    assert torch.autograd.gradgradcheck(f, inputs)


@pytest.mark.parametrize("structure", STRUCTURED)
def test_strided_operands(structure):
    x, bits, weight, bias, grad, mask = problem(structure, 150, 130, 70)
    x = torch.where(mask, x, 0)
    strided_x = torch.full((300, 300), float("nan"))[::2, 10:140].copy_(x)
    turned = [t.t().contiguous().t() for t in (bits, weight, grad)]
    check(strided_x, turned[0], turned[1], torch.stack([bias, bias], 1)[:, 0], turned[2], structure, 2)


def test_opcheck_and_compile():
    x, bits, weight, bias, grad, mask = problem("column", 40, 70, 30)
    x = torch.where(mask, x, 0)
    torch.library.opcheck(OPS.structured_linear.default, (x, bits, weight, bias, COLUMN, 2))
    torch.library.opcheck(OPS.structured_linear_grad_input.default, (grad, bits, weight, ROW, 2))
    torch.library.opcheck(OPS.structured_linear_grad_weight.default, (grad, x, bits, TILE, 2))

    def f(x, weight):
        return sparse_linear(x, bits, weight, bias, structure="column").relu()

    inputs = x.requires_grad_(), weight.requires_grad_()
    got, expected = torch.compile(f, fullgraph=True, backend="aot_eager")(*inputs), f(*inputs)
    torch.testing.assert_close(got, expected)
    pairs = zip(torch.autograd.grad(got, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True)
    for a, b in pairs:
        torch.testing.assert_close(a, b)


def test_one_clear_error():
    x, bits, weight, *_ = problem("row", 4, 70, 3)
    with pytest.raises(ValueError, match="structure must be one of element, column, row, tile"):
        sparse_linear(x, bits, weight, structure="block")
    with pytest.raises(ValueError, match=r"\[4, 2\]"):
        sparse_linear(x, bits[:, :1], weight, structure="row")
    with pytest.raises((RuntimeError, ValueError), match="words"):
        OPS.structured_linear(x, bits[:, :1], weight, None, ROW, 0)

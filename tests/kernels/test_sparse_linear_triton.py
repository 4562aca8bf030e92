"""The Triton kernels without a GPU: numbers in the interpreter, machine code for each architecture ahead of time."""

import pytest
import torch
from interpreter import interpret

pytest.importorskip("triton")

INTERPRETED = """
import sys
import torch
from dmt_kernels.testing import repair_interpreter, unwritten
repair_interpreter()
from dmt_kernels.ops.mask_bits.reference import pack_mask
from dmt_kernels.ops.sparse_linear import gpu, reference
from dmt_kernels.ops.threshold_groups.reference import spread
from dmt_kernels.structure import cell

new_empty = torch.Tensor.new_empty
torch.Tensor.new_empty = lambda self, *sizes, **how: unwritten(new_empty(self, *sizes, **how))
tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
checked = 0

def check(x, bits, weight, bias, grad, mask, *how):
    global checked
    wide = [t.double() for t in (x, weight, bias, grad)]
    dx = gpu.grad_input(grad, bits, weight, *how)
    pairs = (
        (gpu.forward(x, bits, weight, bias, *how), reference.sparse_linear(wide[0], bits, wide[1], wide[2])),
        (dx, reference.grad_input(wide[3], bits, wide[1])),
        (gpu.grad_weight(grad, x, bits, *how), reference.grad_weight(wide[3], wide[0], bits)),
    )
    for got, expected in pairs:
        assert got.dtype == x.dtype and got.shape == expected.shape
        limit = tolerance[x.dtype]
        torch.testing.assert_close(got.double(), expected, rtol=limit, atol=10 * limit)
    assert (dx[~mask] == 0).all()
    checked += 1

def problem(structure, rows, columns, outputs, dtype, live=0.5):
    g = torch.Generator().manual_seed(rows)
    size = cell(structure, rows, columns)
    alive = torch.rand(size.grid(rows, columns), generator=g) < live
    mask = spread(alive, size, rows, columns).expand(rows, columns)
    shapes = (rows, columns), (outputs, columns), (outputs,), (rows, outputs)
    x, weight, bias, grad = (torch.randn(s, generator=g).to(dtype) for s in shapes)
    return torch.where(mask, x, float("nan")), pack_mask(mask), weight, bias, grad, mask

DENSE, SPARSE = 1, 2
for structure in range(4):
    for dtype in tolerance:
        check(*problem(structure, 33, 65, 63, dtype), structure, SPARSE)
    for shape in [(1, 1, 1), (0, 5, 6), (5, 0, 6), (5, 6, 0)]:
        check(*problem(structure, *shape, torch.float32), structure, SPARSE)
    for live in (0.0, 1.0):
        check(*problem(structure, 33, 65, 63, torch.float32, live), structure, SPARSE)
    # more live rows than one part of the sum of dW takes
    check(*problem(structure, 530, 70, 33, torch.float32), structure, SPARSE)
    # a mask without the structure it is said to have; strided operands
    x, bits, weight, bias, grad, mask = problem(0, 70, 70, 33, torch.float32, 0.05)
    wide = torch.full((70, 200), float("nan"))[:, 10:80].copy_(x)
    turned = [t.t().contiguous().t() for t in (bits, weight, grad)]
    check(wide, turned[0], turned[1], torch.stack([bias, bias], 1)[:, 0], turned[2], mask, structure, SPARSE)
for route in (0, DENSE):
    check(*problem(3, 70, 70, 33, torch.float32), 3, route)
print("checked", checked)
"""


def test_numbers_in_the_interpreter():
    """Every kind of mask and dtype; odd, empty and strided shapes; what is not written is NaN."""
    done = interpret(INTERPRETED, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == f"checked {4 * (3 + 4 + 2 + 1 + 1) + 2}"


LISTS = """
import torch
from dmt_kernels.testing import repair_interpreter
repair_interpreter()
from dmt_kernels.ops.mask_bits.reference import pack_mask
from dmt_kernels.ops.sparse_linear import triton_lists as lists

def is_sorted(order, count, flags):
    live, dead = flags.nonzero().flatten(), flags.logical_not().nonzero().flatten()
    assert count == len(live) and order.tolist() == live.tolist() + dead.tolist()[::-1]

g = torch.Generator().manual_seed(0)
lists.BLOCK = 16  # several blocks for small lists
for rows, columns in ((1, 1), (70, 130), (64, 64)):
    mask = torch.rand(rows, columns, generator=g) < 0.02
    mask[:, ::3] = False
    mask[rows // 3 :: 2] = False
    bits = pack_mask(mask)
    bits[:, -1] |= 0 if columns % 64 == 0 else -1 << columns % 64  # bits past the last column are ignored
    halves = bits.view(torch.int32)
    live = lists.live_rows(halves, columns)
    is_sorted(live.order, live.counts, mask.any(1))
    live = lists.live_columns(halves, columns)
    is_sorted(live.order, live.counts, mask.any(0))
    assert [live.rank[c] for c in live.order[: live.counts]] == list(range(live.counts))
    assert (live.rank[~mask.any(0)] == -1).all()
    down, across = -(-rows // 64), -(-columns // 64)
    tiles = torch.zeros(down * 64, across * 64, dtype=torch.bool)
    tiles[:rows, :columns] = mask
    tiles = tiles.reshape(down, 64, across, 64).any(3).any(1)
    by_row = lists.live_tiles(halves, columns, "row")
    by_column = lists.live_tiles(halves, columns, "column")
    everything = lists.live_tiles(halves, columns, "all")
    is_sorted(everything.order, everything.counts, tiles.flatten())
    for i in range(down):
        is_sorted(by_row.order.view(down, across)[i], by_row.counts[i], tiles[i])
    for j in range(across):
        is_sorted(by_column.order.view(across, down)[j], by_column.counts[j], tiles[:, j])
print("lists are right")
"""


def test_lists_of_what_is_live():
    done = interpret(LISTS)
    assert done.stdout.strip() == "lists are right", done.stderr[-3000:]


def forms(architecture):
    """The largest tile of each product by element and by tile, float32 and the lists once. The others, and every tile
    of the tuning table, are in benchmarks/results/gpu_resources.md."""
    from dmt_kernels import ahead

    for form in ahead.product_forms(architecture, torch.bfloat16, every=False):
        if form.label.startswith(("by element", "by tile")):
            yield form
    if architecture == 90:
        for form in ahead.product_forms(architecture, torch.float32, every=False):
            if form.label.startswith("by element"):
                yield form
        yield from ahead.list_forms(torch.bfloat16)


@pytest.mark.parametrize("architecture", [80, 89, 90])
def test_ahead_of_time_without_spills(architecture):
    """No spills; operands arrive by wide asynchronous copies, and the products run on tensor cores (wgmma on sm_90)."""
    from dmt_kernels import ahead

    for form in forms(architecture):
        made, name = ahead.compile_triton(form, architecture), f"{form.name} {form.label} on sm_{architecture}"
        assert made.spills == 0, f"{name} spills {made.spills} bytes"
        assert made.shared <= ahead.SHARED_LIMIT[architecture], f"{name} takes {made.shared} bytes of shared memory"
        if "bfloat16" in form.label:
            assert ("wgmma.mma_async" if architecture == 90 else "mma.sync") in made.ptx, name
            assert "cp.async.cg.shared.global" in made.ptx and made.ptx.count("ld.global.b16") <= 1, name


def test_choices_by_shape_and_structure():
    from dmt_kernels.ops.sparse_linear import tuning
    from dmt_kernels.structure import COLUMN, ELEMENT, ROW, TILE

    x = torch.empty(0)  # not on a GPU: as sm_80
    auto, dense, sparse = 0, 1, 2
    assert tuning.way(auto, ELEMENT, 4096, 512, 512, x) == ELEMENT
    assert tuning.way(auto, ELEMENT, 4096, 1024, 512, x) == tuning.DENSE
    assert tuning.way(sparse, ELEMENT, 4096, 1024, 512, x) == ELEMENT
    for structure in (COLUMN, ROW, TILE):
        assert tuning.way(auto, structure, 4096, 1024, 1024, x) == structure
        assert tuning.way(auto, structure, 64, 256, 256, x) == tuning.DENSE
        assert tuning.way(auto, structure, 64, 1024, 1024, x) == tuning.DENSE
        assert tuning.way(sparse, structure, 64, 256, 256, x) == structure
        assert tuning.way(sparse, structure, 0, 256, 256, x) == ELEMENT
        assert tuning.way(dense, structure, 4096, 1024, 1024, x) == tuning.DENSE


def test_on_hopper_nothing_is_gathered_unasked(monkeypatch):
    from dmt_kernels.ops.sparse_linear import tuning
    from dmt_kernels.structure import TILE

    monkeypatch.setattr(tuning, "_architecture", lambda device: 90)
    x = torch.empty(0)
    assert tuning.way(0, TILE, 65536, 4096, 4096, x) == tuning.DENSE
    assert tuning.way(2, TILE, 65536, 4096, 4096, x) == TILE


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("architecture", [80, 89, 90])
def test_tiles_fit_words_and_lists(architecture, dtype):
    from dmt_kernels.ops.sparse_linear import tuning
    from dmt_kernels.structure import ELEMENT, ROW, TILE

    for product in ("y", "dX", "dW"):
        for size in ((64, 512), (1024, 512), (8192, 1024)):
            for how in (tuning.DENSE, ELEMENT, ROW, TILE):
                tile = tuning.tile_on(architecture, product, how, dtype, *size)
                assert tile.k in (32, 64), "a step of columns is a word, or half of one"
                if how == TILE:
                    assert 64 % tile.m == 0 and (product == "y" or tile.k == 64)
                if how == TILE and product == "dX":
                    assert tile.m == tile.k == 64

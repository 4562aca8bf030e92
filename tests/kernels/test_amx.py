"""Products on matrix tiles (AMX). Where there are none, their steps run with loops in place of the tiles."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dmt_kernels import masked_linear, pack_mask, sparse_linear
from dmt_kernels.ops.sparse_linear import reference

from . import test_structured_linear as structured
from .conftest import instruction_set
from .test_sparse_linear import OPS, check_products, problem

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("c++")
AUTO, DENSE = 0, 1
both_types = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)


@pytest.fixture
def tiles():
    """How many products have been made on tiles so far; skipped where there are none."""
    with instruction_set("amx") as module:
        yield lambda: module.calls()["sparse_linear_on_tiles"]


@pytest.mark.parametrize("name", ["product", "convolution"])
def test_steps_with_loops_in_place_of_tiles(tmp_path, name):
    """Odd sizes, masks in and out, bias, sums in two goes; NaN wherever nothing may be read."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if COMPILER is None or not (ROOT / "csrc" / "amx").exists() or "avx512bw" not in flags:
        pytest.skip("needs a C++ compiler, the source tree and a processor with AVX-512")
    vectors = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
    program, source = tmp_path / "program", Path(__file__).parent / "amx_on_host" / f"{name}.cpp"
    command = [COMPILER, "-std=c++17", "-O1", *vectors, f"-I{ROOT / 'csrc'}", str(source), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0 and done.stdout.startswith("checked "), done.stdout + done.stderr


# Few rows and many; panels in several strips; more depth than is multiplied at a time; the first for bfloat16 alone.
SHAPES = [(1, 300, 70), (97, 256, 256), (40, 1100, 130), (300, 4096, 300), (2500, 70, 600), (1300, 64, 64)]


@both_types
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("live", [0.3, 1.0])
def test_products(tiles, shape, live, dtype):
    x, bits, weight, bias, grad, _ = problem(*shape, live, dtype)
    before = tiles()
    check_products(x, bits, weight, bias, grad, route=DENSE)
    assert tiles() - before == (0 if dtype == torch.float32 and shape[0] < 32 else 5)


@both_types
@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("shape", [(64, 256, 256), (300, 512, 512)])
def test_auto_takes_tiles_for_bfloat16_alone(tiles, shape, zeros, dtype):
    x, bits, weight, bias, grad, _ = problem(*shape, 1 - zeros, dtype)
    before = tiles()
    check_products(x, bits, weight, bias, grad, route=AUTO)
    assert tiles() - before == (5 if dtype == torch.bfloat16 else 0)


def test_float32_is_multiplied_on_tiles_by_who_asks_for_dense_products(tiles):
    x, bits, weight, bias, grad, _ = problem(64, 256, 256, 0.5, poison=False)
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    before = tiles()
    torch.autograd.grad(sparse_linear(inputs[0], bits, *inputs[1:], impl="dense"), inputs, grad)
    assert tiles() - before == 3
    torch.autograd.grad(sparse_linear(inputs[0], bits, *inputs[1:]), inputs, grad)
    assert tiles() - before == 3


def test_what_is_best_done_elsewhere(tiles):
    """Hardly anything live, a few rows of a large weight, too little to multiply, other dtypes."""
    before = tiles()
    for shape, live, dtype in (
        ((600, 512, 512), 0.002, torch.bfloat16),
        ((1, 1024, 1024), 0.5, torch.bfloat16),
        ((16, 1024, 1024), 1.0, torch.float32),
        ((64, 128, 128), 1.0, torch.float32),
        ((64, 256, 256), 1.0, torch.float64),
        ((64, 256, 256), 1.0, torch.float16),
    ):
        x, bits, weight, bias, _, _ = problem(*shape, live, dtype)
        wide = [t.double() for t in (x, weight, bias)]
        expected = reference.sparse_linear(wide[0], bits, *wide[1:])
        route = DENSE if dtype == torch.float32 else AUTO
        found = OPS.sparse_linear(x, bits, weight, bias, 0, route).double()
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    assert tiles() == before


def products(x, bits, weight, bias, grad):
    both = OPS.sparse_linear_backward(grad, x, bits, weight, 0, DENSE)
    return (OPS.sparse_linear(x, bits, weight, bias, 0, DENSE), *both)


@both_types
@pytest.mark.parametrize("shape", [(70, 300, 200), (300, 96, 700), (700, 260, 520), (1200, 96, 64)])
def test_any_number_of_threads(tiles, shape, dtype):
    x, bits, weight, bias, grad, _ = problem(*shape, 0.4, dtype)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 16):
            torch.set_num_threads(count)
            results.append(products(x, bits, weight, bias, grad))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("spread", [0.0, 3.0], ids=["alike", "over six decades"])
@pytest.mark.parametrize("shape", [(64, 256, 256), (300, 4096, 100), (4096, 64, 64)])
def test_float32_is_as_exact_as_the_library(tiles, shape, spread):
    """Errors, of the size of what is summed, are no larger than those of plain products of float32."""
    x, bits, weight, bias, grad, mask = problem(*shape, 0.7, poison=False)
    g = torch.Generator().manual_seed(1)
    x, weight, bias, grad = (t * torch.exp(spread * torch.randn(t.shape, generator=g)) for t in (x, weight, bias, grad))
    masked = torch.where(mask, x, 0)
    before = tiles()
    ours = products(x, bits, weight, bias, grad)
    assert tiles() - before == 3
    library = (F.linear(masked, weight, bias), torch.where(mask, grad @ weight, 0), grad.t() @ masked)
    wide = [t.double() for t in (masked, weight, bias, grad)]
    exact = (F.linear(*wide[:3]), torch.where(mask, wide[3] @ wide[1], 0), wide[3].t() @ wide[0])
    wide = [t.abs() for t in wide]
    sizes = (F.linear(*wide[:3]), wide[3] @ wide[1], wide[3].t() @ wide[0])

    def errors(found):
        return [((f - e) / s).square().mean().sqrt().item() for f, e, s in zip(found, exact, sizes, strict=True)]

    for mine, theirs in zip(errors(ours), errors(library), strict=True):
        assert mine < max(2 * theirs, 2**-24)


@pytest.mark.parametrize("odd", [float("inf"), float("-inf"), float("nan"), 3.4e38])
def test_what_is_not_finite_is_what_the_library_says(tiles, odd):
    """Parts of an infinite number are no numbers: the library tells which of inf and NaN a result is."""
    x, bits, weight, bias, grad, mask = problem(64, 256, 256, 0.7, poison=False)
    for number in (x, weight, grad):
        kept, number[5, 7] = number[5, 7].item(), odd
        masked = torch.where(mask, x, 0)
        expected = (F.linear(masked, weight, bias), torch.where(mask, grad @ weight, 0), grad.t() @ masked)
        for found, right in zip(products(x, bits, weight, bias, grad), expected, strict=True):
            torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-4, equal_nan=True)
            assert torch.equal(found.isfinite(), right.isfinite())
        number[5, 7] = kept


def test_the_smallest_numbers(tiles):
    """Denormal numbers count as 0, and what is near them has fewer parts."""
    x, bits, weight, _, _, _ = problem(64, 256, 256, 0.7, poison=False)
    x = x * 1e-35
    found = OPS.sparse_linear(x, bits, weight, None, 0, DENSE).double()
    expected = reference.sparse_linear(x.double(), bits, weight.double())
    torch.testing.assert_close(found, expected, rtol=0, atol=256 * 2.0**-126)


@both_types
def test_operands_that_lie_anywhere(tiles, dtype):
    """Whole rows are read where they lie if they begin with a line of memory; others give the same."""
    x, bits, weight, _, grad, _ = problem(256, 256, 256, 1.0, dtype)

    def moved(t):
        return torch.full((t.shape[0], 2 * t.shape[1]), float("nan"), dtype=t.dtype)[:, 3 : 3 + t.shape[1]].copy_(t)

    for one, other in ((x, moved(x)), (x, x.t().contiguous().t())):
        assert torch.equal(*(OPS.sparse_linear(t, bits, weight, None, 0, DENSE) for t in (one, other)))
    for args in ((moved(grad), weight), (grad, moved(weight)), (grad, weight.t().contiguous().t())):
        found = OPS.sparse_linear_grad_input(args[0], bits, args[1], 0, DENSE)
        assert torch.equal(found, OPS.sparse_linear_grad_input(grad, bits, weight, 0, DENSE))
    assert torch.equal(
        OPS.sparse_linear_grad_weight(moved(grad), moved(x), bits, 0, DENSE),
        OPS.sparse_linear_grad_weight(grad, x, bits, 0, DENSE),
    )


@pytest.mark.parametrize("structure", structured.STRUCTURED)
@pytest.mark.parametrize("shape", [(70, 200, 130), (300, 520, 96), (513, 190, 64)])
@pytest.mark.parametrize("live", [0.1, 0.5, 0.9])
@both_types
def test_structured_masks(tiles, structure, shape, live, dtype):
    """What is gathered is multiplied on tiles; dead tiles are skipped where they lie."""
    before = tiles()
    for route in (0, 1, 2):
        structured.check(*structured.problem(structure, *shape, live, dtype)[:5], structure, route)
    if dtype == torch.bfloat16:  # of float32, the products that remain may be too small
        assert tiles() - before >= (6 if structure == "tile" and live < 0.9 else 3)


@both_types
@pytest.mark.parametrize("structure", structured.STRUCTURED)
def test_masks_without_the_structure_they_are_said_to_have(tiles, structure, dtype):
    x, bits, weight, bias, grad, _ = problem(150, 300, 100, 0.02, dtype)
    for route in (0, 1, 2):
        structured.check(x, bits, weight, bias, grad, structure, route)


def test_the_tiles_of_libraries_are_put_back(tiles):
    """oneDNN remembers how it has configured a thread's tiles: its products are the same with ours in between."""
    x, bits, weight, _, _, _ = problem(200, 320, 192, 1.0, torch.bfloat16)
    alone = [F.linear(x[:rows], weight) for rows in (200, 33, 7)]
    for rows, expected in zip((200, 33, 7), alone, strict=True):
        for _ in range(3):
            OPS.sparse_linear(x, bits, weight, None, 0, DENSE)
            assert torch.equal(F.linear(x[:rows], weight), expected)


def test_layers_under_autocast(tiles):
    x, bits, weight, bias, grad, _ = problem(80, 128, 96, 0.5, torch.float32, poison=False)
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    before = tiles()
    with torch.autocast("cpu", torch.bfloat16):
        y = sparse_linear(inputs[0], bits, *inputs[1:])
    found = torch.autograd.grad(y, inputs, grad.bfloat16())
    assert tiles() - before == 3
    low = [t.detach().bfloat16().double() for t in (x, weight, grad)]
    torch.testing.assert_close(found[0].double(), reference.grad_input(low[2], bits, low[1]), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(found[1].double(), reference.grad_weight(low[2], low[0], bits), rtol=1e-2, atol=1e-1)


def test_masked_linear(tiles):
    x, _, weight, bias, _, _ = problem(80, 128, 96, 1.0, torch.bfloat16)
    before = tiles()
    y, masked = masked_linear(x, torch.tensor(0.0), torch.zeros(4), weight, bias)
    assert tiles() - before == 1
    wide = [t.double() for t in (x, weight, bias)]
    assert torch.equal(masked.bits, pack_mask(x.abs().double() > x.abs().double().mean() / 2))
    torch.testing.assert_close(
        y.double(), reference.sparse_linear(wide[0], masked.bits, *wide[1:]), rtol=1e-2, atol=1e-2
    )

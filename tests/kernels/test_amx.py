"""bfloat16 products on matrix tiles (AMX). Where there are none, their steps run with loops in place of the tiles."""

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from dmt_kernels import masked_linear, pack_mask, sparse_linear
from dmt_kernels.ops.sparse_linear import reference

from . import test_structured_linear as structured
from .test_sparse_linear import OPS, check_products, problem

ROOT = Path(__file__).parents[2]
COMPILER = shutil.which("c++")
AUTO, DENSE = 0, 1


@pytest.fixture
def tiles():
    """How many products have been made on tiles so far; skipped where there are none."""
    module = pytest.importorskip("dmt_kernels._C", reason="the CPU kernels are not built")
    before = module.isa()
    try:
        module.force_isa("amx")
    except ValueError as error:
        pytest.skip(str(error))
    yield lambda: module.calls()["sparse_linear_on_tiles"]
    module.force_isa(before)


def test_steps_with_loops_in_place_of_tiles(tmp_path):
    """Odd sizes, masks in and out, bias, sums in two goes; NaN wherever nothing may be read."""
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    if COMPILER is None or not (ROOT / "csrc" / "amx").exists() or "avx512bw" not in flags:
        pytest.skip("needs a C++ compiler, the source tree and a processor with AVX-512")
    vectors = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl"]
    program, source = tmp_path / "program", Path(__file__).parent / "amx_on_host" / "product.cpp"
    command = [COMPILER, "-std=c++17", "-O1", *vectors, f"-I{ROOT / 'csrc'}", str(source), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr[-3000:]
    done = subprocess.run([str(program)], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0 and done.stdout.startswith("checked "), done.stdout + done.stderr


# Few rows and many; weights in several strips; more rows for dW than are summed at a time.
@pytest.mark.parametrize("shape", [(1, 300, 70), (97, 256, 256), (130, 64, 33), (300, 4096, 300), (2500, 70, 600)])
@pytest.mark.parametrize("live", [0.3, 1.0])
def test_products(tiles, shape, live):
    x, bits, weight, bias, grad, _ = problem(*shape, live, torch.bfloat16)
    before = tiles()
    check_products(x, bits, weight, bias, grad, route=DENSE)
    assert tiles() - before == 5


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.95])
@pytest.mark.parametrize("shape", [(64, 256, 256), (300, 512, 512)])
def test_auto_takes_tiles(tiles, shape, zeros):
    x, bits, weight, bias, grad, _ = problem(*shape, 1 - zeros, torch.bfloat16)
    before = tiles()
    check_products(x, bits, weight, bias, grad, route=AUTO)
    assert tiles() - before == 5


def test_what_is_best_done_elsewhere(tiles):
    """Hardly anything live, a few rows of a large weight, another dtype."""
    before = tiles()
    for shape, live, dtype in (
        ((600, 512, 512), 0.002, torch.bfloat16),
        ((1, 1024, 1024), 0.5, torch.bfloat16),
        ((64, 256, 256), 1.0, torch.float32),
    ):
        x, bits, weight, bias, _, _ = problem(*shape, live, dtype)
        wide = [t.double() for t in (x, weight, bias)]
        expected = reference.sparse_linear(wide[0], bits, *wide[1:])
        found = OPS.sparse_linear(x, bits, weight, bias, 0, AUTO).double()
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
    assert tiles() == before


@pytest.mark.parametrize("shape", [(70, 300, 200), (300, 96, 700), (700, 260, 520), (1200, 96, 64)])
def test_any_number_of_threads(tiles, shape):
    x, bits, weight, bias, grad, _ = problem(*shape, 0.4, torch.bfloat16)
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 16):
            torch.set_num_threads(count)
            both = OPS.sparse_linear_backward(grad, x, bits, weight, 0, DENSE)
            results.append((OPS.sparse_linear(x, bits, weight, bias, 0, DENSE), *both))
    finally:
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_operands_that_lie_anywhere(tiles):
    """Whole rows are read where they lie if they begin with a line of memory; others give the same."""
    x, bits, weight, _, grad, _ = problem(256, 256, 256, 1.0, torch.bfloat16)

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
def test_structured_masks(tiles, structure, shape, live):
    """What is gathered is multiplied on tiles; dead tiles are skipped where they lie."""
    before = tiles()
    for route in (0, 1, 2):
        structured.check(*structured.problem(structure, *shape, live, torch.bfloat16)[:5], structure, route)
    assert tiles() - before >= (6 if structure == "tile" and live < 0.9 else 3)


@pytest.mark.parametrize("structure", structured.STRUCTURED)
def test_masks_without_the_structure_they_are_said_to_have(tiles, structure):
    x, bits, weight, bias, grad, _ = problem(150, 300, 90, 0.02, torch.bfloat16)
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

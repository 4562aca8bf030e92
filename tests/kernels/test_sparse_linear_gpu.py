"""`sparse_linear` and `masked_linear` on a CUDA device, compiled and in Triton, against the reference in float64."""

import pytest
import torch

from dmt_kernels import advance, backends, ema_state, masked_linear, pack_mask, sparse_linear
from dmt_kernels.backends import calls
from dmt_kernels.ops.sparse_linear import reference
from dmt_kernels.ops.threshold_groups.reference import spread
from dmt_kernels.structure import STRUCTURES, cell

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 3e-3}
SHAPES = [(1, 1, 1), (33, 65, 63), (130, 130, 130), (1000, 320, 200), (5000, 520, 264), (0, 5, 6), (5, 0, 6), (5, 6, 0)]
OPS = torch.ops.dmt_kernels


@pytest.fixture(autouse=True)
def unwritten_is_nan():
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def problem(structure, rows, columns, outputs, dtype, live=0.4):
    """On the device: x (NaN where masked), bits, weight, bias, grad, mask."""
    g = torch.Generator().manual_seed(0)
    size = cell(structure, rows, columns)
    alive = torch.rand(size.grid(rows, columns), generator=g) < live
    mask = spread(alive, size, rows, columns).expand(rows, columns)
    shapes = (rows, columns), (outputs, columns), (outputs,), (rows, outputs)
    x, weight, bias, grad = (torch.randn(s, generator=g).to(dtype) for s in shapes)
    x = torch.where(mask, x, float("nan"))
    return [t.cuda() for t in (x, pack_mask(mask), weight, bias, grad, mask)]


def products(kind, structure):
    if kind == "triton":
        if not backends().triton.loaded:
            pytest.skip(backends().triton.reason)
        from dmt_kernels.ops.sparse_linear import gpu

        return gpu.forward, gpu.grad_input, gpu.grad_weight
    if structure == 0:
        return OPS.sparse_linear, OPS.sparse_linear_grad_input, OPS.sparse_linear_grad_weight
    return OPS.structured_linear, OPS.structured_linear_grad_input, OPS.structured_linear_grad_weight


@pytest.mark.parametrize("kind", ["registered", "triton"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("structure", range(4), ids=STRUCTURES)
@pytest.mark.parametrize("rows,columns,outputs", SHAPES)
def test_products_match_the_reference(kind, dtype, structure, rows, columns, outputs):
    forward, grad_input, grad_weight = products(kind, structure)
    for live in (0.0, 0.1, 0.4, 1.0):
        x, bits, weight, bias, grad, mask = problem(structure, rows, columns, outputs, dtype, live)
        wide = [t.double() for t in (x, weight, bias, grad)]
        for route in (0, 1, 2):
            how = structure, route
            dx = grad_input(grad, bits, weight, *how)
            pairs = (
                (forward(x, bits, weight, bias, *how), reference.sparse_linear(wide[0], bits, wide[1], wide[2])),
                (dx, reference.grad_input(wide[3], bits, wide[1])),
                (grad_weight(grad, x, bits, *how), reference.grad_weight(wide[3], wide[0], bits)),
            )
            for got, expected in pairs:
                limit = TOLERANCE[dtype]
                scale = max(1.0, float(max(rows, columns, outputs)) ** 0.5)
                torch.testing.assert_close(got.double(), expected, rtol=limit, atol=limit * scale)
            assert (dx[~mask] == 0).all()


HOPPER = [(4096, 1024, 1024), (20000, 512, 512), (4097, 1000, 264), (700, 3000, 136), (129, 4160, 264), (1, 64, 8)]
HOPPER.append((4100, 4160, 264))  # large enough for its tiles to be listed, but these are too many


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("rows,columns,outputs", HOPPER)
def test_products_of_hopper(dtype, rows, columns, outputs):
    """Many rounds of the ring, tiles that are dead, whole and neither, and sums of more tiles than can be listed."""
    if torch.cuda.get_device_capability()[0] != 9 or backends().on_cuda != "compiled":
        pytest.skip("needs a Hopper GPU and the compiled kernels")
    _, _, weight, bias, grad, tiles = problem(3, rows, columns, outputs, dtype, 0.5)
    some = torch.rand(rows, columns, device="cuda") < 0.5
    some |= torch.rand(-(-rows // 64), 1, device="cuda").repeat_interleave(64, 0)[:rows] < 0.5
    for mask, structures in ((tiles, (0, 3)), (tiles & some, (0, 3)), (some, (0, 1, 2, 3))):
        x = torch.where(mask, torch.randn(rows, columns, device="cuda").to(dtype), float("nan"))
        bits, before = pack_mask(mask), calls("sparse_linear_hopper")
        wide = torch.where(mask, x, 0).double()
        y_wanted = wide @ weight.double().t() + bias.double()
        dx_wanted = torch.where(mask, grad.double() @ weight.double(), 0)
        for structure in structures:
            forward, grad_input, _ = products("registered", structure)
            for got, wanted in (
                (forward(x, bits, weight, bias, structure, 0), y_wanted),
                (grad_input(grad, bits, weight, structure, 0), dx_wanted),
            ):
                limit = TOLERANCE[dtype] * max(columns, outputs) ** 0.5
                torch.testing.assert_close(got.double(), wanted, rtol=TOLERANCE[dtype], atol=limit)
        assert calls("sparse_linear_hopper") == before + 2 * len(structures)


@pytest.mark.parametrize("structure", range(4), ids=STRUCTURES)
def test_runs_repeat_to_the_bit(structure):
    x, bits, weight, bias, grad, _ = problem(structure, 5000, 600, 264, torch.bfloat16)
    for kind in ("registered", "triton"):
        forward, grad_input, grad_weight = products(kind, structure)
        how = structure, 2
        runs = [
            (
                forward(x, bits, weight, bias, *how),
                grad_input(grad, bits, weight, *how),
                grad_weight(grad, x, bits, *how),
            )
            for _ in range(3)
        ]
        for other in runs[1:]:
            assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


@pytest.mark.parametrize("structure", STRUCTURES)
def test_strided_operands_on_another_stream(structure):
    x, bits, weight, bias, *_ = problem(STRUCTURES.index(structure), 300, 130, 70, torch.float32)
    expected = reference.sparse_linear(x, bits, weight, bias)
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda.current_stream().wait_stream(torch.cuda.default_stream())
        odd = torch.full((600, 301), float("nan"), device="cuda")[::2, 11:141].copy_(x)
        turned = [t.t().contiguous().t() for t in (bits, weight)]
        for impl in ("auto", "sparse", "dense"):
            y = sparse_linear(odd, *turned, bias, structure=structure, impl=impl)
            torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-3)
        torch.cuda.current_stream().synchronize()


@pytest.mark.parametrize("impl", ["auto", "sparse"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_a_graph_follows_the_mask(structure, impl):
    """Captured with one mask, replayed with others: what is live is read on the device."""
    kind, state = STRUCTURES.index(structure), ema_state("cuda")
    x = torch.randn(600, 256, device="cuda")
    weight, theta = torch.randn(128, 256, device="cuda"), torch.zeros((), device="cuda")

    def run():
        advance(state)
        return masked_linear(x, theta, state, weight, structure=structure, impl=impl)[0]

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        run(), run()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        y = run()
    for seed in range(3):
        size = cell(kind, 600, 256)
        scale = torch.rand(size.grid(600, 256), generator=torch.Generator().manual_seed(seed)) * 2
        x.copy_(torch.randn(600, 256) * spread(scale, size, 600, 256))
        before = state.clone()
        graph.replay()
        after = state.clone()
        state.copy_(before)
        torch.testing.assert_close(y, run(), rtol=0, atol=0)
        assert torch.equal(state, after)


@pytest.mark.parametrize("impl", ["auto", "sparse"])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_nothing_waits_for_the_device(structure, impl):
    x = torch.randn(600, 256, device="cuda", requires_grad=True)
    weight = torch.randn(128, 256, device="cuda", requires_grad=True)
    theta, state = torch.zeros((), device="cuda", requires_grad=True), ema_state("cuda")
    masked_linear(x, theta, state, weight, structure=structure, impl=impl)[0].sum().backward()  # compiles
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        y, masked = masked_linear(x, theta, state, weight, structure=structure, information=True, impl=impl)
        (y.sum() + masked.information).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("structure", STRUCTURES)
def test_masked_linear_trains(structure):
    torch.manual_seed(0)
    x = (torch.randn(100, 256) * torch.rand(100, 1) * torch.rand(256)).cuda().requires_grad_()
    weight = torch.randn(128, 256, device="cuda", requires_grad=True)
    theta = torch.zeros((), device="cuda", requires_grad=True)
    y, masked = masked_linear(x, theta, ema_state("cuda"), weight, structure=structure)
    y.square().sum().backward()
    again = [t.detach().cpu().requires_grad_() for t in (x, theta, weight)]
    how = dict(structure=structure, impl="sparse")
    on_cpu, cpu_masked = masked_linear(again[0], again[1], ema_state(), again[2], **how)
    on_cpu.square().sum().backward()
    assert torch.equal(masked.bits.cpu(), cpu_masked.bits)
    for a, b in zip((x, theta, weight), again, strict=True):
        torch.testing.assert_close(a.grad.cpu(), b.grad, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("structure", STRUCTURES)
def test_tensors_that_are_not_on_the_current_device(structure):
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    x, bits, weight, bias, *_ = problem(STRUCTURES.index(structure), 300, 130, 70, torch.float32)
    there = [t.to("cuda:1") for t in (x, bits, weight, bias)]
    for impl in ("auto", "sparse", "dense"):
        y = sparse_linear(*there, structure=structure, impl=impl)
        expected = reference.sparse_linear(x, bits, weight, bias)
        torch.testing.assert_close(y.to("cuda:0"), expected, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_more_than_two_to_the_31_elements():
    rows, columns = 70_000, 32_768  # 2.3e9 elements of x, 4.6 GB
    if torch.cuda.get_device_properties(0).total_memory < 24e9:
        pytest.skip("needs a GPU with 24 GB")
    x = torch.zeros(rows, columns, dtype=torch.bfloat16, device="cuda")
    x[-1, -64:] = 1
    bits = torch.zeros(rows, columns // 64, dtype=torch.int64, device="cuda")
    bits[-1, -1] = -1
    weight = torch.ones(64, columns, dtype=torch.bfloat16, device="cuda")
    grad = torch.ones(rows, 64, dtype=torch.bfloat16, device="cuda")
    for structure in STRUCTURES:
        how = STRUCTURES.index(structure), 2
        forward, grad_input, grad_weight = products("registered", how[0])
        y = forward(x, bits, weight, None, *how)
        assert (y[-1] == 64).all() and (y[:-1] == 0).all()
        dx = grad_input(grad, bits, weight, *how)
        assert (dx[-1, -64:] == 64).all() and dx.count_nonzero() == 64
        dw = grad_weight(grad, x, bits, *how)
        assert (dw[:, -64:] == 1).all() and dw.count_nonzero() == 64 * 64


def test_float64_is_refused():
    x = torch.randn(4, 64, device="cuda", dtype=torch.float64)
    for structure in ("element", "row"):
        with pytest.raises((RuntimeError, TypeError), match="float64"):
            sparse_linear(x, pack_mask(x > 0), torch.randn(3, 64, device="cuda", dtype=x.dtype), structure=structure)

"""`sparse_linear` and `masked_linear` on a CUDA device, compiled and in Triton, against the reference in float64."""

import pytest
import torch

from dmt_kernels import ema_state, masked_linear, pack_mask, sparse_linear
from dmt_kernels.ops.sparse_linear import reference

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 3e-3}
SHAPES = [(1, 1, 1), (33, 65, 63), (130, 130, 130), (1000, 320, 200), (0, 5, 6), (5, 0, 6), (5, 6, 0)]


def products(kind):
    if kind == "triton":
        from dmt_kernels.ops.sparse_linear import triton_kernels

        return triton_kernels.forward, triton_kernels.grad_input, triton_kernels.grad_weight
    ops = torch.ops.dmt_kernels
    return ops.sparse_linear, ops.sparse_linear_grad_input, ops.sparse_linear_grad_weight


@pytest.mark.parametrize("kind", ["registered", "triton"])
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("rows,columns,outputs", SHAPES)
def test_products_match_the_reference(kind, dtype, rows, columns, outputs):
    forward, grad_input, grad_weight = products(kind)
    torch.manual_seed(0)
    for structure in (0, 3):
        mask = torch.rand(rows, columns) < 0.4
        if structure:
            mask[:, :64] = False
        x = torch.where(mask, torch.randn(rows, columns), float("nan")).to(dtype).cuda()
        bits, mask = pack_mask(mask).cuda(), mask.cuda()
        weight, bias = torch.randn(outputs, columns).to(dtype).cuda(), torch.randn(outputs).to(dtype).cuda()
        grad = torch.randn(rows, outputs).to(dtype).cuda()
        wide = [t.double() for t in (x, weight, bias, grad)]
        for route in (0, 1, 2):
            how = structure, route
            pairs = (
                (forward(x, bits, weight, bias, *how), reference.sparse_linear(wide[0], bits, wide[1], wide[2])),
                (grad_input(grad, bits, weight, *how), reference.grad_input(wide[3], bits, wide[1])),
                (grad_weight(grad, x, bits, *how), reference.grad_weight(wide[3], wide[0], bits)),
            )
            for got, expected in pairs:
                limit = TOLERANCE[dtype]
                torch.testing.assert_close(got.double(), expected, rtol=limit, atol=limit * 10)
            assert (pairs[1][0][~mask] == 0).all()


def test_cuda_graph():
    x, weight = torch.randn(64, 256, device="cuda"), torch.randn(128, 256, device="cuda")
    bits = pack_mask(torch.rand(64, 256, device="cuda") < 0.5)
    expected = sparse_linear(x, bits, weight)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = sparse_linear(x, bits, weight)
    graph.replay()
    assert torch.equal(y, expected)


def test_masked_linear_trains():
    torch.manual_seed(0)
    x = torch.randn(100, 256, device="cuda", requires_grad=True)
    weight = torch.randn(128, 256, device="cuda", requires_grad=True)
    theta = torch.zeros((), device="cuda", requires_grad=True)
    y, masked = masked_linear(x, theta, ema_state("cuda"), weight)
    y.square().sum().backward()
    again = [t.detach().cpu().requires_grad_() for t in (x, theta, weight)]
    on_cpu, _ = masked_linear(again[0], again[1], ema_state(), again[2], impl="sparse")
    on_cpu.square().sum().backward()
    assert 0 < masked.live < 1
    for a, b in zip((x, theta, weight), again, strict=True):
        torch.testing.assert_close(a.grad.cpu(), b.grad, rtol=1e-3, atol=1e-2)


def test_float64_is_refused():
    x = torch.randn(4, 64, device="cuda", dtype=torch.float64)
    with pytest.raises((RuntimeError, TypeError), match="float64"):
        sparse_linear(x, pack_mask(x > 0), torch.randn(3, 64, device="cuda", dtype=torch.float64))

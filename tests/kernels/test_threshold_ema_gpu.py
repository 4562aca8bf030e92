"""threshold_ema on a GPU: whatever is registered for CUDA against the reference; Triton too; CUDA graphs."""

import pytest
import torch

from dmt_kernels import advance, backends, ema_state, pack_mask, threshold_ema, unpack_mask
from dmt_kernels.ops.threshold_ema import reference

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU"),
]
SHAPES = [(64, 256), (3, 5, 70), (33, 63), (1, 1), (7,), (0, 64), (4, 0), (3000, 129), (4096, 1024)]
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
OPS = torch.ops.dmt_kernels


@pytest.fixture(autouse=True)
def unwritten_is_nan():
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(False)


def implementations():
    yield "registered", OPS.abs_sums, OPS.threshold_ema, OPS.threshold_ema_backward
    if backends().triton.loaded:
        from dmt_kernels.ops.threshold_ema import triton_kernels as kernels

        yield "triton", kernels.abs_sums, kernels.forward, kernels.backward


def make(shape, dtype, per_feature, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).cuda()
    theta = torch.randn(shape[-1:] if per_feature else (), generator=generator).cuda()
    return x, theta, torch.tensor([0.7, 3, 0, 0]).cuda()


@pytest.mark.parametrize("information", [False, True])
@pytest.mark.parametrize("per_feature", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_is_the_reference(shape, dtype, per_feature, information):
    x, theta, state = make(shape, dtype, per_feature)
    arguments = (x, theta, state, None, 0.9, True, information, True)
    want = reference.forward(*arguments)
    grad = make(shape, dtype, False, seed=1)[0]
    upstream = torch.tensor(0.7, dtype=want.information.dtype, device="cuda") if information else None
    backward_arguments = (grad, upstream, x, theta, want.state, want.statistics)
    gradients = reference.backward(*backward_arguments)
    loose = {torch.bfloat16: 1e-2, torch.float16: 2e-3}.get(dtype, 1e-4)
    for which, sums, forward, backward in implementations():
        torch.testing.assert_close(sums(x), reference.abs_sums(x), rtol=1e-12, atol=0)
        for name, ours, theirs in zip(want._fields, forward(*arguments), want, strict=True):
            exact = name in ("values", "bits", "live", "state")
            bound = {"rtol": 0 if exact else 2e-4, "atol": 0 if exact else 1e-5}
            torch.testing.assert_close(ours, theirs, **bound, msg=f"{which}: {name}")
        for ours, theirs in zip(backward(*backward_arguments), gradients, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=loose, atol=1e-3, msg=which)


@pytest.mark.parametrize("information", [False, True])
@pytest.mark.parametrize("shape", [(33, 63), (3000, 129), (0, 64)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_of_live_elements(dtype, shape, information):
    x, theta, state = make(shape, dtype, False)
    done = reference.forward(x, theta, state, None, 0.9, True, information, True)
    dead = ~unpack_mask(done.bits, shape[-1])
    grad = make(shape, dtype, False, seed=1)[0].masked_fill(dead, float("nan"))  # not to be looked at
    upstream = torch.tensor(0.7, device="cuda") if information else None
    arguments = (grad, upstream, x, theta, done.state, done.statistics, True)
    loose = 1e-2 if dtype == torch.bfloat16 else 1e-4
    for ours, theirs in zip(
        OPS.threshold_ema_backward_live(*arguments), reference.backward_live(*arguments), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=loose, atol=1e-3)
    assert OPS.threshold_ema_backward_live(*arguments[:-1], False)[2].numel() == 0


def test_runs_repeat_to_the_bit():
    x, theta, state = make((3000, 700), torch.float32, False)
    for _, _, forward, backward in implementations():
        runs = []
        for _ in range(3):
            results = forward(x, theta, state, None, 0.9, True, True, True)
            runs.append((*results, *backward(x, results[3], x, theta, results[4], results[5])))
        for other in runs[1:]:
            assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


def test_strided_and_other_streams():
    x, theta, _ = make((50, 300), torch.float32, False)
    with torch.cuda.stream(torch.cuda.Stream()):
        for view in (x[:, :200], x.t(), x[::2], x[:, ::3]):
            masked = threshold_ema(view, theta, ema_state("cuda"))
            again = threshold_ema(view.contiguous(), theta, ema_state("cuda"))
            assert torch.equal(masked.values, again.values) and torch.equal(masked.bits, again.bits)
        torch.cuda.current_stream().synchronize()


def test_graph_capture_moves_the_average_at_each_replay():
    x, theta, _ = make((128, 192), torch.float32, False)
    state, expected = ema_state("cuda"), ema_state("cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(2):
            advance(state)
            threshold_ema(x, theta, state, information=True)
    torch.cuda.synchronize()
    state.zero_()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        advance(state)
        masked = threshold_ema(x, theta, state, information=True)
    state.zero_()
    for step in range(3):
        x.copy_(make((128, 192), torch.float32, False, seed=step)[0])
        graph.replay()
        advance(expected)
        want = threshold_ema(x, theta, expected, information=True)
        assert torch.equal(state, expected)
        assert torch.equal(masked.bits, want.bits) and torch.equal(masked.information, want.information)


def test_nothing_waits_for_the_device():
    x, theta, _ = make((64, 256), torch.float32, False)
    state = ema_state("cuda")
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        leaf = x.requires_grad_()
        masked = threshold_ema(leaf, theta, state, information=True)
        (masked.values.sum() + masked.information).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("width", [0, 1, 63, 64, 65, 300])
def test_packing(width):
    mask = torch.rand(7, width, device="cuda") < 0.5
    assert torch.equal(unpack_mask(pack_mask(mask), width), mask)
    assert torch.equal(pack_mask(mask).cpu(), pack_mask(mask.cpu()))

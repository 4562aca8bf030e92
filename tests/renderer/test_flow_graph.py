"""The captured renderer equals the eager one; needs a CUDA device."""

from __future__ import annotations

import pytest
import torch
from capture import host_work

from dmt.errors import InputError
from dmt.renderer.flow import FlowRenderer
from dmt.renderer.flow_fast import FastFlowRenderer, without_tf32
from dmt.renderer.flow_graph import GraphedRenderer


def test_a_portrait_on_the_cpu_is_refused() -> None:
    fast = FastFlowRenderer(FlowRenderer())
    with pytest.raises(InputError, match="CUDA device"):
        GraphedRenderer(fast, fast.prepare(torch.zeros(1, 3, 32, 32)), 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_renderer_needs_nothing_of_the_host(dtype: torch.dtype) -> None:
    fast = FastFlowRenderer(FlowRenderer(), dtype)
    prepared = fast.prepare(torch.zeros(1, 3, 32, 32))
    assert host_work(lambda motion: fast.render(prepared, fast.describe(motion)).image, torch.zeros(2, 73, 27)) == []


@pytest.mark.parametrize(("device", "allowed"), [("cuda", False), ("cpu", True)])
def test_float32_is_not_tf32(device: str, allowed: bool) -> None:
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32, cudnn.enabled, cudnn.benchmark, cudnn.deterministic
    with cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
        with without_tf32(device):
            assert cudnn.allow_tf32 is allowed and cudnn.enabled and cudnn.benchmark
        assert cudnn.allow_tf32 and cudnn.benchmark
    assert before == (cudnn.allow_tf32, cudnn.enabled, cudnn.benchmark, cudnn.deterministic)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_float32_is_that_of_a_processor() -> None:
    torch.manual_seed(0)
    plain = FlowRenderer().eval()
    portrait, motion = torch.tanh(torch.randn(1, 3, 64, 64)), torch.randn(3, 73, 27)
    with torch.no_grad():
        expected = plain(portrait.expand(3, -1, -1, -1), motion).image
    fast = FastFlowRenderer(plain).cuda()
    assert (fast(portrait.cuda(), motion.cuda()).image.cpu() - expected).abs().max() < 1e-4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_graph_equals_eager(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    fast = FastFlowRenderer(FlowRenderer(), dtype).cuda()
    prepared = fast.prepare(torch.tanh(torch.randn(1, 3, 64, 64)).cuda())
    graphed = GraphedRenderer(fast, prepared, 4)
    for frames in (4, 1, 3):
        motion = torch.randn(frames, 73, 27, device="cuda")
        padded = torch.cat([motion, motion[-1:].expand(4 - frames, -1, -1)])
        expected = fast(prepared, padded).image[:frames]
        assert (graphed(motion).image - expected).abs().max() < 1e-4
    with pytest.raises(InputError, match="1 to 4"):
        graphed(torch.zeros(5, 73, 27, device="cuda"))

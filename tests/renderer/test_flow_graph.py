"""The captured renderer equals the eager one; needs a CUDA device."""

from __future__ import annotations

import pytest
import torch
from capture import host_work

from dmt.errors import InputError
from dmt.renderer.flow import FlowRenderer
from dmt.renderer.flow_fast import FastFlowRenderer
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

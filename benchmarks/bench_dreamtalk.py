"""The drop-in's exact paths against our own plain ones: denoiser (128 frames, 10 steps) and renderer (256 x 256).

pytest benchmarks/bench_dreamtalk.py -s
"""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dmt.dreamtalk import DreamTalkDenoiser
from dmt.renderer.flow import FlowRenderer
from dmt.renderer.flow_blocks import ResidualBlock
from dmt.renderer.flow_fast import FastFlowRenderer

FRAMES = 128


def gflop(run) -> float:
    """10^9 floating point operations of one call, as torch counts them (a product and a sum are two)."""
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops() / 1e9


@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_denoiser(compare, one_thread, guidance: float) -> None:
    torch.manual_seed(0)
    d = DreamTalkDenoiser()
    args = torch.randn(1, FRAMES, 11, 1024), torch.randn(1, 256, 64), torch.zeros(1, 256).bool()
    noise = torch.randn(1, FRAMES, 64)

    def sample(plain: bool) -> torch.Tensor:
        return d.sample(*args, guidance=guidance, noise=noise, exact_path=plain)

    assert (sample(True) - sample(False)).abs().max() < 2e-6
    compare(
        {"plain": lambda: sample(True), "exact": lambda: sample(False)},
        rounds=3,
        plain_gflop=round(gflop(lambda: sample(True)), 1),
        exact_gflop=round(gflop(lambda: sample(False)), 1),
    )


def test_renderer(compare, one_thread, monkeypatch) -> None:
    torch.manual_seed(0)
    renderer = FlowRenderer().eval()
    fast = FastFlowRenderer(renderer)
    half = FastFlowRenderer(renderer).to(memory_format=torch.channels_last)
    portrait, motion = torch.tanh(torch.randn(1, 3, 256, 256)), torch.randn(1, 73, 27)
    prepared = fast.prepare(portrait)
    alive = ResidualBlock.forward

    @torch.no_grad()
    def plain() -> torch.Tensor:
        monkeypatch.setattr(ResidualBlock, "forward", ResidualBlock.forward_with_dead_branch)
        try:
            return renderer(portrait, motion).image
        finally:
            monkeypatch.setattr(ResidualBlock, "forward", alive)

    def reduced() -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return half(prepared, motion).image

    assert (plain() - fast(prepared, motion).image).abs().max() < 2e-5
    compare(
        {"plain": plain, "exact": lambda: fast(prepared, motion), "fast (bfloat16)": reduced},
        rounds=3,
        plain_gflop=round(gflop(plain), 1),
        exact_gflop=round(gflop(lambda: fast(prepared, motion)), 1),
    )

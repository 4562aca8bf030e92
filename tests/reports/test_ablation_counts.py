"""What the ablation counts and compares with: FLOPs against torch's counter, masks against their definition."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from dmt.config import SparsityConfig, preset
from dmt.denoiser import Denoiser
from dmt.model import MotionModel
from reports.ablation.flops import decoder_count
from reports.ablation.masks import TopK, level, masks, replace_masks
from reports.ablation.variants import CURVE, MAIN, SEEDS, plan

DEMO = preset("demo")


def network(decoder: str, *, thresholds: bool = False) -> Denoiser:
    torch.manual_seed(0)
    config = replace(DEMO.denoiser, decoder=decoder)
    return Denoiser(config, replace(DEMO.sparsity, enabled=thresholds), DEMO.speech.width).eval()


def counted(run) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        run()
    return counter.get_total_flops()


def step_flops(net: Denoiser, frames: int) -> int:
    rows, style = torch.randn(1, frames, 11, DEMO.speech.width), torch.randn(1, 256, 64)
    prepared = net.prepare(rows, style, torch.zeros(1, 256, dtype=torch.bool))
    return counted(lambda: net.step(prepared, torch.randn(1, frames, 64), torch.tensor([5])))


@pytest.mark.parametrize("decoder", ["plain", "dynamic"])
def test_step_form_is_what_torch_counts(decoder):
    """Per frame (what a clip costs once falls out of the difference), without the input layers, which are shared."""
    net, width = network(decoder), DEMO.denoiser.width
    per_frame = (step_flops(net, 32) - step_flops(net, 16)) / 16
    inputs = 2 * (64 * width + 11 * width * width)
    mixing = 2 * net.config.shared_matrices * width * net.config.feed_forward / MotionModel.chunk_frames
    expected = decoder_count(net.config, {}, "step", thresholds=False).nominal - (mixing if decoder == "dynamic" else 0)
    assert per_frame - inputs == expected


@pytest.mark.parametrize("decoder", ["plain", "dynamic"])
def test_plain_form_is_what_torch_counts(decoder):
    """torch does not count fused attention's own products on a CPU: two of 11 x 11 in two attentions of two regions."""
    net, width = network(decoder), DEMO.denoiser.width

    def run(frames):
        memory, acoustic = torch.randn(1, frames, 11, width), torch.randn(1, frames, width)
        return counted(lambda: net.decoder(memory, torch.randn(1, width), acoustic, torch.tensor([5])))

    attention = 2 * 8 * 11 * 11 * width
    mixing = 2 * net.config.shared_matrices * width * net.config.feed_forward / MotionModel.chunk_frames
    expected = decoder_count(net.config, {}, "forward", thresholds=False).nominal
    assert (run(32) - run(16)) / 16 + attention == expected - (mixing if decoder == "dynamic" else 0)


def test_only_masked_products_are_executed_less():
    kept = {f"{r}_decoder.layers.0.{s}_threshold": 0.25 for r in ("upper", "lower") for s in ("input", "hidden")}
    plain, dynamic = (replace(DEMO.denoiser, decoder=d) for d in ("plain", "dynamic"))
    count = decoder_count(plain, kept, "step", thresholds=True)
    products = 4 * 2 * plain.width * plain.feed_forward
    assert count.nominal - count.executed == 0.75 * products and count.executed == count.live
    count = decoder_count(dynamic, kept, "step", thresholds=True)
    assert count.nominal - count.executed == 0.75 * products / 2 and count.live < count.executed
    count = decoder_count(plain, {"lower_decoder.layers.0.hidden_threshold": 0.5}, "step", thresholds=False)
    assert count.executed == count.nominal > count.live


def test_top_k_keeps_the_largest_and_counts_no_zeros():
    mask = TopK(0.5)
    x = torch.tensor([[1.0, -4.0, 3.0, 0.5], [0.0, 0.0, 2.0, 0.0]])
    assert torch.equal(mask(x), torch.tensor([[0.0, -4.0, 3.0, 0.0], [0.0, 0.0, 2.0, 0.0]]))
    assert float(mask.kept) == 3 / 8
    layer = torch.nn.Linear(4, 3)
    assert torch.equal(mask.linear(x, layer), layer(mask(x)))
    x.requires_grad_()
    mask(x).sum().backward()
    assert x.grad[0].tolist() == [0, 1, 1, 0]


def test_constant_thresholds_stay_where_they_are():
    net = network("plain", thresholds=True).train()
    levels = {name: {"threshold": 0.3 + 0.01 * i} for i, name in enumerate(masks(net))}
    replace_masks(net, "fixed", levels)
    site = masks(net)["decoder.lower_decoder.layers.0.input_threshold"]
    value = level(site)
    x = torch.randn(50, DEMO.denoiser.width) * 7
    masked = site(x)
    assert level(site) == pytest.approx(value, rel=1e-6) and not site.theta.requires_grad
    assert torch.equal(masked, torch.where(x.abs() > value, x, 0.0))
    assert levels["decoder.lower_decoder.layers.0.input_threshold"]["threshold"] == pytest.approx(value, rel=1e-6)


def test_top_k_takes_the_place_of_every_threshold():
    net = network("dynamic", thresholds=True)
    replace_masks(net, "top_k", {name: {"kept": 0.25} for name in masks(net)})
    assert all(isinstance(site, TopK) for site in masks(net).values())
    memory, width = torch.randn(2, 3, 11, DEMO.denoiser.width), DEMO.denoiser.width
    out = net.decoder(memory, torch.randn(2, width), torch.randn(2, 3, width), torch.tensor([5, 9]))
    assert out.shape == (2, 3, 64) and bool(out.isfinite().all())
    assert float(masks(net.decoder)["lower_decoder.layers.0.input_threshold"].kept) == 0.25


def test_a_plan_has_every_run_once_and_peers_first():
    jobs = [(variant.name, seed) for variant, seed in plan()]
    assert len(jobs) == len(set(jobs)) == len(SEEDS) * len(MAIN + CURVE)
    assert all(jobs.index((v.like, s)) < jobs.index((v.name, s)) for v, s in plan() if v.like)


def test_variants_differ_only_where_they_say():
    names = {v.name: v.model() for v in MAIN}
    assert not names["dense"].sparsity.enabled and names["dense"].denoiser.decoder == "plain"
    assert names["all"].sparsity == names["thresholds"].sparsity == SparsityConfig(initial_threshold=0.5)
    assert names["all"].denoiser == names["decoders"].denoiser

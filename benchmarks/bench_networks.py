"""A decoder's feed-forward block and a whole denoiser step against the same network with dense feed-forwards.

pytest benchmarks/bench_networks.py -s [--full] [--threads 2]
"""

from __future__ import annotations

import pytest

from dmt.bench import network


@pytest.mark.parametrize("leg", ["forward", "backward"])
@pytest.mark.parametrize("decoder", ["dynamic", "plain"])
def test_feed_forward(record, zeros: float, decoder: str, leg: str) -> None:
    record(next(case for case in network.feed_forward_cases(zeros, decoder) if case.leg == leg))


def test_denoiser_step(record, zeros: float) -> None:
    record(network.step_case(zeros))


@pytest.mark.parametrize("decoder", ["dynamic", "plain"])
def test_denoiser_step_with_thresholds_at_every_product(record, zeros: float, decoder: str) -> None:
    record(network.step_case(zeros, decoder=decoder, reach="decoders"))

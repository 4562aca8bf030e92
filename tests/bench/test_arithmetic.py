"""What is computed from measured times: percentiles, FLOPs, bytes, memory, break-even, ratios."""

import itertools
import math

import pytest
import torch

from dmt.bench import bits, machine, network, products, results, tables, threshold, timing
from dmt.bench.case import Row, highest, peak_allocated
from dmt.bench.stage import StageRow, counted
from dmt.bench.stages import totals
from dmt.bench.timing import Timing
from dmt_kernels import unpack_mask


def timed(us: float) -> Timing:
    return Timing(us, us, us, 5)


def row(times: dict[str, float], roles: dict[str, str], **fields) -> Row:
    values = dict(op="sparse_linear", leg="y", rows=64, width=128, zeros=0.5, live=0.5, dtype="float32", device="cpu")
    values |= dict(isa="avx512", threads=1, nominal_flop=1000, executed_flop=500, moved_bytes=4000, copied_bytes=None)
    return Row(**{**values, **fields}, times={n: timed(t) for n, t in times.items()}, roles=roles)


def test_percentiles_are_in_microseconds_and_interpolated():
    found = timing.percentiles([n * 1e-6 for n in range(11)])
    assert (found.p20, found.p50, found.p80) == pytest.approx((2, 5, 8)) and found.rounds == 11
    assert timing.percentiles([1e-6, 2e-6]).p50 == pytest.approx(1.5)
    with pytest.raises(ValueError, match="no samples"):
        timing.percentiles([])


def test_all_alternatives_take_turns():
    calls: list[str] = []
    runs = {name: (lambda name=name: calls.append(name)) for name in "ab"}
    found = timing.compare(runs, 0.01)
    assert found["a"].rounds >= timing.FEWEST and found["b"].rounds >= timing.FEWEST
    changes = sum(1 for x, y in itertools.pairwise(calls) if x != y)
    assert changes >= 2 * timing.FEWEST  # neither runs all its rounds in one go


def test_a_slow_alternative_does_not_use_up_the_rounds():
    def slow():
        for _ in range(60):
            torch.ones(100_000).sum()

    found = timing.compare({"fast": lambda: None, "slow": slow}, 0.02)
    assert found["slow"].rounds >= 3


def test_work_of_a_product():
    amount = products.work(rows=32, width=128, live=0.25, leg="y")
    assert amount.nominal == 2 * 32 * 128 * 128
    assert amount.executed == amount.nominal / 4
    words = 32 * 2 * 8
    assert amount.moved == 4 * (32 * 128 + 128 * 128 + 32 * 128 + 128) + words
    assert products.work(32, 128, 0.25, "dW").moved == amount.moved - 4 * 128  # no bias
    half = products.work(32, 128, 0.25, "dX", element=2).moved
    assert half == 2 * (32 * 128 + 128 * 128 + 32 * 128) + words


def test_work_of_a_threshold_and_of_a_mask():
    amount = threshold.work(10, 100, False, "forward")
    assert amount.moved == 10 * 100 * 8 + 10 * 2 * 8 and amount.copied == 8000
    assert threshold.work(10, 100, False, "backward").moved == 12_000
    packing = next(bits.cases(4, 128, 0.5)).work
    assert packing.moved == 4 * 128 + 4 * 2 * 8 and packing.nominal == 0


def test_masked_linear_counts_one_product_forward_and_two_backward():
    forward, backward = products.masked_linear_cases(16, 64, 0.5)
    assert forward.work.nominal == 2 * 16 * 64 * 64 == backward.work.nominal / 2
    assert forward.work.executed < forward.work.nominal


def test_the_values_have_the_zeros_asked_for():
    for zeros in (0.0, 0.5, 0.95):
        size = threshold.values(64, 256, zeros).abs()
        live = (size > threshold.SHARE * size.mean()).double().mean()
        assert live == pytest.approx(1 - zeros, abs=0.02)
        assert products.operands(64, 256, zeros).live == pytest.approx(1 - zeros, abs=0.02)


def test_each_call_of_ours_has_another_mask():
    p = products.operands(64, 64, 0.5)
    masks = (p.bits, *p.further)
    assert len(masks) == products.WORDS_IN_TURN // 64
    expected = torch.stack([(p.x * unpack_mask(mask, 64)) @ p.weight.T + p.bias for mask in masks])
    orders = []
    for route in (products.AUTO, products.SPARSE):
        y = products.ours(p, "y", route)
        orders.append([int((expected - y()).abs().amax((1, 2)).argmin()) for _ in masks])
        assert orders[-1][0] == 0 and sorted(orders[-1]) == list(range(len(masks)))
    assert orders[0] != orders[1]
    assert not products.operands(16384, 64, 0.5).further  # one mask is all that is asked for


def test_derived_figures_of_a_row():
    measured = row({"sparse": 10, "torch": 30, "onednn": 20}, {"sparse": "ours", "torch": "dense", "onednn": "dense"})
    assert measured.best("dense") == "onednn" and measured.speedup == 2
    assert measured.gflops == pytest.approx(500 / 10 / 1e3)
    assert measured.gbps == pytest.approx(4000 / 10 / 1e3)
    assert measured.share_of_peak(0.1) == pytest.approx(0.5)
    copied = row({"ours": 10, "copy": 5}, {"ours": "ours", "copy": "limit"}, copied_bytes=4000)
    assert copied.share_of_peak(None) == pytest.approx(0.5) and copied.speedup is None


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([0.5, 1.5], 0.5),
        ([0.8, 0.9, 1.1], None),
        ([1.0, 2.0], 0.0),
        ([0.5, 0.9], None),
        ([1.2, 0.5], None),
        ([], None),
    ],
)
def test_break_even(ratios, expected):
    zeros = [i / max(1, len(ratios) - 1) for i in range(len(ratios))]
    if ratios == [0.8, 0.9, 1.1]:
        expected = 0.75  # half way between the last two
    assert tables.break_even(zeros, ratios) == (None if expected is None else pytest.approx(expected))


def test_break_even_is_the_last_crossing():
    assert tables.break_even([0.0, 0.3, 0.5, 0.7], [1.1, 0.9, 0.8, 1.2]) == pytest.approx(0.6)


def test_a_variant_may_lack_some_shares_of_zeros():
    legs = [
        row({"a": 1, "b": us, "c": 1}, {"a": "ours", "b": "dense", "c": "auto"}, zeros=z)
        for z, us in ((0.1, 0.5), (0.5, 2))
    ]
    other = row({"a": 1, "b": 3, "c": 1}, {"a": "ours", "b": "dense", "c": "auto"}, zeros=0.5, isa="avx2")
    table = tables.summary(results.Results({}, {}, (*legs, other)))
    assert [line[2:] for line in table.lines if line[1] == "always sparse"] == [
        ("0.50", "2.00", "23%"),
        ("", "3.00", "50%"),
    ]


def test_gradients_in_one_call_stand_for_both():
    times = (("y", 4), ("dX", 100), ("dW", 100), ("dX, dW", 6), ("autograd", 8))
    roles = {"a": "ours", "b": "dense", "c": "auto"}
    legs = [row({"a": 2, "b": us, "c": 2}, roles, leg=leg) for leg, us in times]
    assert tables.trained(legs) == [legs[0], legs[3]] and tables.trained([*legs[:3], legs[4]]) == legs[:3]
    found = results.Results({}, {}, tuple(legs))
    assert tables.summary(found).lines[0][2] == "2.50"
    table = tables.sparse_linear(found, ("float32", "avx512"))
    line = dict(zip(table.columns, table.lines[0], strict=True))
    assert line["dW"] == "50.00" and line["dX, dW"] == "3.00" and line["**all**"] == "**2.50**"
    assert line["auto, through autograd"] == "4.00"


def test_legs_add_up():
    legs = [row({"a": t, "b": 2 * t}, {"a": "ours", "b": "dense"}) for t in (1, 2, 3)]
    assert tables.together(legs, "ours") == 6 and tables.together(legs, "dense") == 12
    assert tables.together(legs, "other", "axpy") is None


def test_peak_memory_is_the_highest_running_sum():
    assert highest([100, 50, -100, 20, -70]) == 150
    assert highest([]) == 0
    found = peak_allocated(lambda: torch.ones(1000) + torch.ones(1000))
    assert 12_000 <= found < 14_000


def test_flop_are_those_of_torch():
    a = torch.randn(8, 16)
    assert counted(lambda: a @ a.t()) == pytest.approx(2 * 8 * 8 * 16 / 1e9)


def test_what_masked_products_skip():
    case = network.step_case(0.9, frames=2, width=32, speech=16)
    assert case.live == pytest.approx(0.1, abs=0.1)  # two frames have few quantiles
    assert 0 < case.work.executed < case.work.nominal
    everywhere = network.step_case(0.9, frames=2, width=32, speech=16, reach="decoders")
    left = everywhere.work.executed / everywhere.work.nominal
    assert 0.1 < left < 0.8 * case.work.executed / case.work.nominal


def test_a_stage_without_a_path_counts_by_the_one_before():
    runs = {"plain": timed(4e6), "exact": timed(1e6)}
    one = StageRow("p", "denoiser, scale 1", 2.0, runs, {}, {})
    two = StageRow("p", "denoiser, scale 2", 2.0, {"plain": timed(8e6)}, {}, {})
    rest = StageRow("p", "encoder", 1.0, {"plain": timed(5e5)}, {}, {})
    assert one.seconds("fast") == one.seconds("exact") == 0.5
    assert totals([one, two, rest], "fast", "scale 1") == pytest.approx(1.0)
    assert totals([one, two, rest], "fast", "scale 2") == pytest.approx(4.5)


def test_conditions_say_what_a_figure_needs():
    found = machine.conditions()
    assert {"date", "processor", "isa", "gpu", "threads", "commit", "torch", "load"} <= set(found)
    assert found["threads"] == torch.get_num_threads()


def test_peaks_are_rates():
    assert 0.01 < machine.peak_gflops(size=64) < 1e5 and math.isfinite(machine.peak_gbps(megabytes=1))

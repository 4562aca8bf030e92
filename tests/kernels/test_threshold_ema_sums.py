"""The rule by which |x| is summed, and the single pass that large x gets from a guess of mu."""

import math

import numpy as np
import pytest
import torch

from dmt_kernels import ema_state, threshold_ema, unpack_mask
from dmt_kernels.backends import calls
from dmt_kernels.ops.threshold_ema import reference

OPS = torch.ops.dmt_kernels
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
SHAPES = [(1, 1), (5, 15), (3, 63), (3, 64), (2, 3, 65), (7, 127), (4, 200), (7,), (0, 64), (4, 0), (700, 320)]
LARGE = (2200, 1000)
"""More than a core's cache holds beside a result; the last word is cut short, so that values are not streamed."""


def random(shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def start(mu: float = 0.7) -> torch.Tensor:
    return torch.tensor([mu, 3, 0, 0])


def by_loops(x: torch.Tensor) -> tuple[float, int]:
    """The rule as its documentation says it: eight sums to a word, of at most eight elements each."""
    arithmetic = np.float64 if x.dtype == torch.float64 else np.float32
    folded, finite = [], 0
    for row in x.reshape(math.prod(x.shape[:-1]), x.shape[-1]).double().tolist():
        for left in range(0, len(row), 64):
            word = [arithmetic(abs(v)) if math.isfinite(v) else arithmetic(0) for v in row[left : left + 64]]
            finite += sum(math.isfinite(v) for v in row[left : left + 64])
            word += [arithmetic(0)] * (64 - len(word))
            for i in range(8):
                low, high = word[i] + word[i + 32], word[i + 16] + word[i + 48]
                late_low, late_high = word[i + 8] + word[i + 40], word[i + 24] + word[i + 56]
                folded.append(float((low + high) + (late_low + late_high)))
    return math.fsum(folded), finite


def one_passes() -> int:
    return calls("threshold_ema_one_pass")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_sums_follow_the_rule(isa, shape, dtype):
    x = random(shape, dtype)
    if x.numel() > 50:
        x.view(-1)[[1, 17, -1]] = torch.tensor([float("nan"), float("inf"), -float("inf")], dtype=dtype)
    expected, finite = by_loops(x)
    turned = x.mT.contiguous().mT if x.dim() > 1 else x
    for got in (OPS.abs_sums(x), reference.abs_sums(x), OPS.abs_sums(turned)):
        # Folded sums of numbers this much alike are added in float64 without rounding, in any order.
        exact = dtype != torch.float64
        assert got[0].item() == (expected if exact else pytest.approx(expected, rel=1e-13)) and got[1] == finite


def test_a_row_apart_from_the_next_is_summed_alike(isa):
    wide = random((40, 300))
    assert torch.equal(OPS.abs_sums(wide[:, :130]), OPS.abs_sums(wide[:, :130].contiguous()))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_more_exact_than_mu(isa, scale):
    """Rounding mu to float32 changes it by up to 2^-24 of it. Three additions err by as much each, at the worst."""
    alike, unlike = random((900, 500)) * scale, torch.logspace(-6, 6, 9001) * scale
    for x, bound in ((alike, 2**-28), (unlike, 3 * 2**-24)):
        assert OPS.abs_sums(x)[0].item() == pytest.approx(x.double().abs().sum().item(), rel=bound)


def test_sums_that_overflow_leave_the_average(isa):
    x, state = torch.full((4, 64), 3e38), start(0.25)
    masked = threshold_ema(x, torch.tensor(0.0), state)
    assert state.tolist() == [0.25, 3, 0, 0] and masked.live == 1
    assert torch.equal(OPS.abs_sums(x), reference.abs_sums(x))
    threshold_ema(x / 10, torch.tensor(0.0), state, alpha=0.0)
    assert state[0].item() == pytest.approx(3e37)


# ---- one pass ----


def expect_the_reference(x, theta, state, *, one_pass: bool, store: bool = True):
    before = one_passes()
    got = OPS.threshold_ema(x, theta, state, None, 0.9, True, False, store)
    want = reference.forward(x, theta, state, None, 0.9, True, False, store)
    assert one_passes() - before == one_pass
    for name in ("values", "bits", "live", "state"):
        place = want._fields.index(name)
        assert torch.equal(got[place], want[place]), name


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_large_x_takes_one_pass(isa, dtype):
    x = random((2 * LARGE[0] if dtype.itemsize == 2 else LARGE[0], LARGE[1]), dtype)
    for theta in (torch.tensor(0.3), torch.linspace(-2, 2, LARGE[1])):
        expect_the_reference(x, theta, start(), one_pass=True)
    expect_the_reference(x[:, :960], theta[:960], start(), one_pass=True)  # streamed, with gaps between rows
    expect_the_reference(x, theta, start(), one_pass=True, store=False)


def test_much_lies_near_the_threshold(isa):
    """Two values alone, one of them so near the threshold that only the exact mu decides."""
    x = torch.where(random(LARGE) > 0, 1.0, 3.0)
    mu = reference.forward(x, torch.tensor(40.0), start(2.0), None, 0.9, True, False, False).state[0]
    for near in (torch.nextafter(mu, mu * 0), mu, torch.nextafter(mu, mu * 2)):
        y = x.clone()
        y[::7, ::5] = near
        expect_the_reference(y, torch.tensor(40.0), start(2.0), one_pass=True)  # sigmoid(40) is 1


def test_a_guess_that_fails_is_made_good(isa):
    x = random(LARGE)
    x[-1, -1] = 1e7  # seen by no sample, and moves mu a lot
    expect_the_reference(x, torch.tensor(0.0), start(), one_pass=False)


def test_no_guess_is_made_of_what_varies(isa):
    x = random(LARGE) * torch.logspace(-3, 3, LARGE[0])[:, None]
    expect_the_reference(x, torch.tensor(0.0), start(), one_pass=False)


def test_not_a_number_takes_two_passes(isa):
    x = random(LARGE)
    x[5, 7], x[6, 8] = float("nan"), float("inf")
    expect_the_reference(x, torch.tensor(0.0), start(), one_pass=False)


def test_nothing_but_zeros(isa):
    expect_the_reference(torch.zeros(LARGE), torch.tensor(0.0), start(), one_pass=True)


def test_a_repeated_step_keeps_the_average(isa):
    x, theta, state = random(LARGE), torch.tensor(0.0), torch.tensor([0.7, 3, 5, 5])
    masked = threshold_ema(x, theta, state)
    assert torch.equal(state, torch.tensor([0.7, 3, 5, 5]))
    assert torch.equal(unpack_mask(masked.bits, LARGE[1]), x.abs() > reference.threshold(theta, state, x.dtype))


def test_threads_and_instruction_sets_agree():
    module = pytest.importorskip("dmt_kernels._C", reason="the CPU kernels are not built")
    x, theta, results = random(LARGE), torch.tensor(0.3), []
    isa, threads = module.isa(), torch.get_num_threads()
    try:
        for name in ("avx512", "avx2", "baseline"):
            try:
                module.force_isa(name)
            except ValueError:
                continue
            for count in (1, 2, 3):
                torch.set_num_threads(count)
                state = ema_state()
                first = threshold_ema(x, theta, state)  # mu is the mean: no narrow guess
                second = threshold_ema(x * 1.01, theta, state)
                results.append((first.values, second.values, first.bits, second.bits, state, OPS.abs_sums(x)))
    finally:
        module.force_isa(isa)
        torch.set_num_threads(threads)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))

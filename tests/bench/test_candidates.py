"""Everything that is timed is checked first; a wrong output is refused."""

import os
import sys
from dataclasses import replace

import pytest
import torch
from processes import dies, what_it_is

from dmt.bench import axpy, batched, bits, convolutions, limited, network, products, threshold
from dmt.bench.case import Candidate, WrongOutput, check, measure
from dmt.bench.kernels import Plan, instruction_set, run
from dmt.bench.stage import Stage, counted, differs
from dmt.bench.stage import measure as measure_stage
from dmt.errors import InputError
from dmt_kernels.backends import backends, calls, tiles


def test_a_wrong_output_is_refused_before_timing():
    case = next(products.sparse_linear_cases(8, 64, 0.5))
    calls = []

    def wrong():
        calls.append(1)
        return case.expected[0] + 0.01

    with pytest.raises(WrongOutput, match=r"sparse_linear y .* broken, result 0 is wrong and is not timed"):
        measure(replace(case, candidates=(*case.candidates, Candidate("broken", "ours", wrong))))
    assert len(calls) == 1


def test_not_a_number_is_refused():
    case = next(bits.cases(4, 64, 0.5))
    broken = Candidate("broken", "ours", lambda: torch.full((4, 1), float("nan")))
    with pytest.raises(WrongOutput):
        check(replace(case, candidates=(broken,)))


def test_a_stage_that_differs_is_refused():
    def verify():
        return {"largest_error": differs("renderer", torch.ones(2), torch.zeros(2), 1e-5)}

    with pytest.raises(WrongOutput, match=r"renderer differs from its plain form by 1\.00e\+00"):
        measure_stage(Stage("p", "renderer", 1.0, {"plain": lambda: None}, verify))
    with pytest.raises(WrongOutput):
        differs("x", torch.tensor([float("nan")]), torch.zeros(1), 1.0)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("zeros", [0.0, 0.7])
def test_products_agree(zeros, dtype):
    for case in products.sparse_linear_cases(48, 128, zeros, dtype, elsewhere=dtype == "float32", autograd=True):
        check(case)
        assert {"ours", "auto", "dense"} <= {c.role for c in case.candidates}


def test_axpy_kernels_run_where_there_is_a_compiler():
    if axpy.library() is None:
        pytest.skip("no C++ compiler")
    cases = list(products.sparse_linear_cases(8, 64, 0.5, elsewhere=True))
    assert [case.leg for case in cases if "axpy" in {c.name for c in case.candidates}] == list(products.LEGS)
    assert sys.float_info.min / 2 > 0, "the library flushes the process's small numbers to zero"


@pytest.mark.parametrize("zeros", [0.3, 0.9])
def test_masked_linear_agrees(zeros):
    for case in products.masked_linear_cases(32, 64, zeros):
        check(case)


def test_masks_agree():
    for case in bits.cases(8, 192, 0.5):
        check(case)


FORMS = {**threshold.FORMS, **threshold.INFORMATION_FORMS}


@pytest.mark.parametrize("name", FORMS)
def test_every_form_of_the_threshold_means_the_same(name):
    """As written; compiling them takes seconds each and is left to the benchmark, which checks them again."""
    x = threshold.values(33, 64, 0.6)
    theta, mu = torch.logit(torch.tensor(threshold.SHARE)), x.abs().mean()
    expected = threshold.eager(x, theta, mu.clone())[0]
    y, moved, *divergence = FORMS[name](x, theta, mu.clone())
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(moved, mu)
    if divergence:
        wanted = threshold.variances(x, theta, mu.clone())[2]
        torch.testing.assert_close(divergence[0], wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("information", [False, True])
@pytest.mark.parametrize("make", [threshold.forward_case, threshold.backward_case])
def test_thresholds_agree(make, information):
    case = make(32, 64, 0.5, information=information)
    plain = tuple(c for c in case.candidates if not c.name.startswith("compiled"))
    assert len(plain) < len(case.candidates)
    check(replace(case, candidates=plain))


@pytest.mark.parametrize("decoder", ["dynamic", "plain"])
def test_blocks_agree_with_their_reference(decoder):
    forward, backward = network.feed_forward_cases(0.7, decoder, frames=3, width=64)
    for case in (forward, backward):
        check(case)
        assert case.live == pytest.approx(0.3, abs=0.05)
    assert len(backward.expected) == 6


@pytest.mark.parametrize(
    ("decoder", "reach"), [("dynamic", "feed_forward"), ("dynamic", "decoders"), ("plain", "decoders")]
)
def test_a_step_agrees_with_its_reference_and_dense_means_no_threshold(decoder, reach):
    case = network.step_case(0.5, frames=2, width=32, speech=16, decoder=decoder, reach=reach)
    check(case)
    assert 0.4 < case.live < 0.6
    ours, dense = (next(c for c in case.candidates if c.role == role).run() for role in ("ours", "dense"))
    assert (ours - dense).abs().max() > 1e-4


@pytest.mark.parametrize("precision", convolutions.TOLERANCES)
@pytest.mark.parametrize("layer", convolutions.LAYERS, ids=lambda layer: f"{layer.name}, {layer.channels}")
def test_convolutions_agree_with_their_reference(layer, precision):
    """And are counted as PyTorch counts its own, but for pixels that were doubled first, of which four are one."""
    case = convolutions.case(layer, precision, side=12)
    check(case)
    ours, library = case.candidates[:2]
    saved = 9 / 4 if "doubled" in layer.name else 1
    assert counted(library.run) * 1e9 == pytest.approx(case.work.nominal * saved)
    if tiles():
        assert counted(ours.run) * 1e9 == pytest.approx(case.work.nominal)


@pytest.mark.skipif(backends().on_cpu != "compiled", reason="no compiled CPU kernels")
def test_a_step_is_timed_without_gradients_and_skips_zeros():
    """Weights ask for gradients, with which products with matrices of a frame's own would be dense."""
    case = network.step_case(0.5, frames=2, width=32, speech=16, reach="decoders")
    sparse = {}
    for candidate in case.candidates:
        before = [calls(name) for name in ("sparse_bmm", "sparse_bmm_dense")]
        with torch.enable_grad():
            assert not candidate.run().requires_grad
        called, dense = (calls(n) - b for n, b in zip(("sparse_bmm", "sparse_bmm_dense"), before, strict=True))
        sparse[candidate.role] = called - dense
    assert sparse["ours"] > 0 == sparse["dense"]


def test_the_instruction_set_is_given_back():
    with instruction_set("mmx") as there:
        assert not there
    with instruction_set("avx2") as there:
        rows = run(Plan(((8, 64),), (0.5,), 0.01, ("sparse_linear",))) if there else []
    assert all(row.isa == "avx2" for row in rows)
    after = run(Plan(((8, 64),), (0.5,), 0.01, ("mask_bits",)))
    assert not rows or after[0].isa is not None


@pytest.mark.parametrize("zeros", [0.0, 0.5, 0.95])
def test_batched_products_agree(zeros):
    for rows in batched.ROWS:
        made = batched.case(rows, 20, 33, zeros, matrices=3)
        check(made)
        assert made.live == pytest.approx(1 - zeros, abs=0.25)


def test_avx2_is_measured_against_libraries_with_avx2():
    before = dict(os.environ)
    rows = run(Plan(((8, 64),), (0.5,), 0.01, ("avx2",)))
    with instruction_set("avx2") as there:
        assert [(row.leg, row.isa) for row in rows] == [
            (leg, "avx2") for leg in (*products.LEGS, products.BOTH)
        ] * there
    assert dict(os.environ) == before and not limited.active()


def test_a_process_of_its_own_yields_and_raises():
    found = limited.each(what_it_is)
    active, threads, capability = next(found)
    assert active and threads == torch.get_num_threads() and capability in ("AVX2", "DEFAULT", "NO AVX")
    with pytest.raises(InputError, match="no further"):
        next(found)


def test_a_process_that_dies_is_an_error():
    with pytest.raises(RuntimeError, match="exit code 7"):
        list(limited.each(dies))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"sections": ("nothing",)}, "unknown section nothing"),
        ({"shapes": ((8, 65),)}, "multiple of 64"),
        ({"zeros": (1.0,)}, "shares of zeros"),
    ],
)
def test_a_plan_that_cannot_be_measured(fields, message):
    with pytest.raises(InputError, match=message):
        Plan(**{"shapes": ((8, 64),), **fields})

"""The in-place operator that eager code runs, against the functional one and the reference; outputs that go past the
caches; statistics over many rows."""

import pytest
import torch

from dmt_kernels import ema_state, threshold_ema, unpack_mask
from dmt_kernels.ops.threshold_ema import eager, reference

from .conftest import instruction_set

OPS = torch.ops.dmt_kernels


def start(mu: float = 0.7) -> torch.Tensor:
    state = ema_state()
    state[0], state[1] = mu, 3
    return state


@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize("information", [False, True])
@pytest.mark.parametrize("update", [False, True])
def test_in_place_is_the_functional_operator(update, information, store):
    x = torch.randn(70, 130, generator=torch.Generator().manual_seed(0))
    theta, state = torch.tensor(0.2), start()
    want = OPS.threshold_ema(x, theta, state, None, 0.9, update, information, store)
    got = eager.step(x, theta, state, 0.9, update, information, store, True)
    assert torch.equal(state, want[4]) and torch.equal(got[4], want[4])
    asked = (store, True, True, information, True, information)
    for ours, theirs, wanted in zip(got, want, asked, strict=True):
        if wanted:
            assert torch.equal(ours, theirs)


def test_a_strided_state_is_moved_where_it_lies():
    x, column = torch.randn(20, 64, generator=torch.Generator().manual_seed(0)), torch.zeros(4, 3)
    state = start()
    column[:, 1] = state
    threshold_ema(x, torch.tensor(0.2), state)
    threshold_ema(x, torch.tensor(0.2), column[:, 1])
    assert torch.equal(column[:, 1], state) and not column[:, [0, 2]].any()


def test_autograd_notices_a_state_that_moved():
    x, state = torch.randn(4, 64), start().requires_grad_()
    kept = state.square().sum()  # needs the state as it was
    with torch.no_grad():
        threshold_ema(x, torch.tensor(0.0), state)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        kept.backward()


def test_backward_uses_the_average_of_its_own_forward():
    x = torch.randn(30, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    state, theta = start(), torch.tensor(0.3)
    first = threshold_ema(x, theta, state)
    threshold_ema(50 * x.detach(), theta, state)  # moves mu far away
    first.values.sum().backward()
    assert torch.equal(x.grad.bool(), unpack_mask(first.bits, 64))


def test_second_derivative_is_refused():
    x = torch.randn(4, 64, requires_grad=True)
    (gradient,) = torch.autograd.grad(threshold_ema(x, torch.tensor(0.0), start()).values.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=r"differentiate twice|does not require grad"):
        torch.autograd.grad(gradient.sum(), x)


def test_opcheck():
    x = torch.randn(5, 70)
    for keep in (False, True):
        inputs = (x, torch.tensor(0.1), start(), 0.9, True, True, True, keep)
        torch.library.opcheck(OPS.threshold_ema_, inputs, test_utils=("test_schema",))


@pytest.mark.parametrize("isa", ["avx512", "avx2", "baseline"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_values_past_the_caches(isa, dtype):
    with instruction_set(isa):
        rows = 9 * 2**20 // (64 * dtype.itemsize)  # x and values: 18 MB
        x = torch.randn(rows, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
        state, theta = start(), torch.tensor(0.3)
        for information in (False, True):
            got = threshold_ema(x, theta, state, update=False, information=information)
            mask = x.float().abs() > reference.threshold(theta, state, torch.float32)
            assert torch.equal(got.values, torch.where(mask, x, 0))
            assert torch.equal(unpack_mask(got.bits, 64), mask)
        exact = torch.stack([m for t in (x, got.values) for m in reference.moments(t)])
        assert got.information.item() == pytest.approx(reference.gaussian_divergence(exact).item(), rel=1e-4)

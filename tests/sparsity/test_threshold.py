"""Dynamic thresholds as the model uses them: equations, state, buckets, and the feed-forward around them."""

import math
import subprocess
import sys

import pytest
import torch
from torch import nn

from dmt.config import SparsityConfig
from dmt.errors import InputError
from dmt.sparsity import DynamicThreshold, ThresholdedFeedForward, kept_fractions, share_averages
from dmt_kernels import unpack_mask


def site(width=8, **changes):
    return DynamicThreshold(SparsityConfig(**changes), width)


def test_equations_over_three_training_steps():
    torch.manual_seed(0)
    threshold, mu = site(initial_threshold=0.4), None
    for _ in range(3):
        x = torch.randn(5, 3, 8) * 2
        out = threshold(x)
        mean = float(x.abs().mean())
        mu = mean if mu is None else 0.9 * mu + 0.1 * mean  # eq. 6; the first step starts it
        mask = x.abs() > 0.4 * mu  # eq. 5 and 7, with sigmoid(theta) = 0.4
        assert torch.equal(out, x * mask)
        assert math.isclose(float(threshold.kept), float(mask.float().mean()), rel_tol=1e-6)
        assert math.isclose(float(threshold.state[0, 0]), mu, rel_tol=1e-5)


def test_evaluation_freezes_the_average():
    threshold, x = site(), torch.randn(4, 8)
    threshold(x)
    before = threshold.state.clone()
    threshold.eval()(100 * x)
    assert torch.equal(threshold.state, before)
    assert threshold.information is None


def test_gradient_reaches_live_elements_and_theta_only():
    torch.manual_seed(0)
    threshold, x = site(initial_threshold=0.5), torch.randn(64, 8, requires_grad=True)
    out = threshold(x)
    (out * torch.randn_like(out)).sum().backward()
    assert bool(((x.grad != 0) <= (out != 0)).all())
    assert bool(((x.grad != 0) == (out != 0)).all())
    assert threshold.theta.grad.abs() > 0


def test_state_is_saved_and_threshold_can_be_per_feature():
    threshold = site(per_feature=True, time_buckets=3)
    assert threshold.theta.shape == (8,)
    threshold(torch.randn(6, 8), torch.tensor([1, 400, 400, 999, 1000, 2]))
    other = site(per_feature=True, time_buckets=3)
    other.load_state_dict(threshold.state_dict())
    assert bool((other.state[:, 0] > 0).all())
    assert torch.equal(other.state, threshold.state)


def test_buckets_keep_their_own_averages_in_the_order_given():
    torch.manual_seed(0)
    threshold = site(time_buckets=2, initial_threshold=0.5)
    t = torch.tensor([900, 10, 600, 500])
    x = torch.randn(4, 3, 8) * torch.tensor([10.0, 1.0, 10.0, 1.0])[:, None, None]
    out = threshold(x, t)
    late, early = x[[0, 2]].abs().mean(), x[[1, 3]].abs().mean()
    torch.testing.assert_close(threshold.state[:, 0], torch.stack([early, late]))
    level = torch.stack([late, early, late, early])[:, None, None]
    assert torch.equal(out, x * (x.abs() > 0.5 * level))
    layer = nn.Linear(8, 5)
    torch.testing.assert_close(threshold.eval().linear(x, layer, t), layer(out))
    with pytest.raises(ValueError, match="diffusion time"):
        threshold(x)


@pytest.mark.parametrize("changes", [{"initial_threshold": 0.0}, {"initial_threshold": 1.0}, {"time_buckets": 0}])
def test_bad_configurations(changes):
    with pytest.raises(InputError):
        site(**changes)


def feed_forward(sparsity):
    torch.manual_seed(4)
    return ThresholdedFeedForward(8, nn.Linear(8, 70), nn.Linear(70, 8), sparsity, dropout=0.0)


def test_feed_forward_masks_input_and_hidden_layer():
    block, x = feed_forward(SparsityConfig(initial_threshold=0.3)), torch.randn(3, 5, 8)
    y = block.feed_forward(x)
    masked = x * (x.abs() > 0.3 * x.abs().mean())
    hidden = torch.relu(block.linear1(masked))
    hidden = hidden * (hidden > 0.3 * hidden.mean())
    torch.testing.assert_close(y, block.linear2(hidden))
    share = float((hidden != 0).float().mean())
    assert math.isclose(kept_fractions(block)["hidden_threshold"], share, rel_tol=1e-5)


def test_feed_forward_gradients_are_those_of_the_masked_products():
    block = feed_forward(SparsityConfig(initial_threshold=0.3)).eval()
    for threshold in (block.input_threshold, block.hidden_threshold):
        threshold.state[0, :2] = torch.tensor([0.5, 1.0])
    x, cotangent = torch.randn(3, 5, 8), torch.randn(3, 5, 8)
    ours = x.clone().requires_grad_()
    (block.feed_forward(ours) * cotangent).sum().backward()
    grads = [p.grad.clone() for layer in (block.linear1, block.linear2) for p in layer.parameters()]
    block.zero_grad()
    twin = x.clone().requires_grad_()
    hidden = torch.relu(block.linear1(twin * (twin.abs() > 0.15)))
    (block.linear2(hidden * (hidden > 0.15)) * cotangent).sum().backward()
    torch.testing.assert_close(ours.grad, twin.grad)
    for mine, layer in zip(grads, [p for m in (block.linear1, block.linear2) for p in m.parameters()], strict=True):
        torch.testing.assert_close(mine, layer.grad, atol=1e-5, rtol=1e-5)


def test_without_sparsity_there_is_only_the_plain_block():
    block, x = feed_forward(SparsityConfig(enabled=False)), torch.randn(2, 8)
    assert set(block.state_dict()) == {"linear1.weight", "linear1.bias", "linear2.weight", "linear2.bias"}
    assert torch.equal(block.feed_forward(x), block.linear2(torch.relu(block.linear1(x))))
    assert kept_fractions(block) == {}


def test_empty_input():
    block = feed_forward(SparsityConfig())
    assert block.feed_forward(torch.zeros(0, 8)).shape == (0, 8)


def rows():
    """What two ranks share: rows of different levels, so that neither knows the whole's mean or spread."""
    return torch.randn(12, 8, generator=torch.Generator().manual_seed(7)) * torch.linspace(0.2, 3, 12)[:, None]


def _rank(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    block = feed_forward(SparsityConfig())
    share_averages(block, torch.distributed.group.WORLD)
    x = torch.full((3 + rank, 8), float(1 + rank))
    block.feed_forward(x)
    threshold, part = site(initial_threshold=0.6), rows().chunk(2)[rank].clone().requires_grad_()
    share_averages(threshold, torch.distributed.group.WORLD)
    out = threshold(part)
    (threshold.information + 0 * out.sum()).backward()
    found = {"state": block.input_threshold.state, "information": threshold.information.detach(), "grad": part.grad}
    torch.save(found | {"theta": threshold.theta.grad}, f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_ranks_share_one_average(tmp_path):
    # Fresh interpreters: a fork would inherit a pool of threads that no longer run.
    ranks = [subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)]) for rank in range(2)]
    try:
        assert [process.wait(timeout=240) for process in ranks] == [0, 0]
    finally:
        for process in ranks:
            process.kill()
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    assert torch.equal(found[0]["state"], found[1]["state"])
    assert math.isclose(float(found[0]["state"][0, 0]), (3 * 1 + 4 * 2) / 7, rel_tol=1e-6)
    # Eq. 10 of both ranks together is that of one rank with all rows, and so are gradients averaged over ranks.
    alone, x = site(initial_threshold=0.6), rows().requires_grad_()
    alone(x)
    alone.information.backward()
    for each in found:
        torch.testing.assert_close(each["information"], alone.information.detach())
    torch.testing.assert_close(torch.cat([each["grad"] for each in found]) / 2, x.grad)
    torch.testing.assert_close((found[0]["theta"] + found[1]["theta"]) / 2, alone.theta.grad)


if __name__ == "__main__":
    _rank(int(sys.argv[1]), sys.argv[2])


@pytest.mark.parametrize("buckets", [1, 4])
def test_the_mask_that_comes_with_the_values_is_theirs(buckets):
    threshold = site(70, time_buckets=buckets).eval()
    threshold.state[:, 0], threshold.state[:, 1] = torch.arange(1.0, buckets + 1), 1
    x = torch.randn(6, 3, 70, generator=torch.Generator().manual_seed(0))
    for t in (torch.full((6,), 500), torch.tensor([900, 10, 400, 999, 1, 600])):
        values, bits = threshold.masked(x, t)
        assert torch.equal(values, threshold(x, t))
        assert torch.equal(unpack_mask(bits, 70), values != 0)

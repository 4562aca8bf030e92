"""Activation checkpointing runs a block's forward pass twice; its running means must not notice."""

import torch
from torch.utils.checkpoint import checkpoint

from dmt.config import DenoiserConfig, SparsityConfig
from dmt.denoiser.blocks import EncoderLayer
from dmt.sparsity import begin_step, information_loss, sites


def run(checkpointed: bool, counted: bool = True) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """States and gradients of an encoder layer of the denoiser after two steps of training."""
    torch.manual_seed(0)
    layer = EncoderLayer(DenoiserConfig(width=32, heads=4, feed_forward=64, dropout=0.1), SparsityConfig(enabled=True))
    optimiser = torch.optim.SGD(layer.parameters(), lr=0.1)
    for _ in range(2):
        if counted:
            begin_step(layer)
        x = torch.randn(3, 11, 32, requires_grad=True)
        y = checkpoint(layer, x, use_reentrant=False) if checkpointed else layer(x)
        optimiser.zero_grad()
        (y.square().mean() + information_loss(layer)).backward()
        optimiser.step()
    gradients = {name: p.grad for name, p in layer.named_parameters()}
    return {name: site.state for name, site in sites(layer).items()}, gradients


def test_block_of_the_denoiser_is_the_same_with_and_without():
    plain, again = run(False), run(True)
    assert len(plain[0]) == 2 and all(state[0, 1] == 2 for state in plain[0].values())
    for ours, theirs in zip(again, plain, strict=True):
        for name, tensor in theirs.items():
            assert torch.equal(ours[name], tensor), name


def test_a_step_that_nobody_counts_is_absorbed_twice():
    states, _ = run(True, counted=False)
    assert all(state[0, 1] == 4 for state in states.values())

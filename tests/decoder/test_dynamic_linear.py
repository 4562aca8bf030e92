"""Dynamic linear layers: the mixed matrices, formed or not, give one and the same product."""

import pytest
import torch

from dmt.config import DenoiserConfig, SparsityConfig
from dmt.decoder import LOWER, UPPER, DecoupledDecoder, DynamicLinear, live_product


def layer(temperature=1.5):
    torch.manual_seed(1)
    module = DynamicLinear(12, 20, matrices=3, reduction=4, temperature=temperature)
    torch.nn.init.normal_(module.dynamic_conv.bias)
    return module


def literal(module, x, condition):
    """W = sum_k softmax(MLP(c) / T)_k W_k, one vector at a time."""
    shared, net = module.dynamic_conv, module.dynamic_conv.attention
    hidden = torch.relu(net.net["0"].weight[:, :, 0, 0] @ condition)
    share = torch.softmax(net.net["2"].weight[:, :, 0, 0] @ hidden / net.temperature, 0)
    weight = sum(a * w[:, :, 0, 0] for a, w in zip(share, shared.weight, strict=True))
    bias = sum(a * b for a, b in zip(share, shared.bias, strict=True))
    return weight @ x + bias


@pytest.mark.parametrize(("clips", "frames", "rows"), [(1, 1, 1), (2, 3, 11), (1, 4, 1), (3, 1, 5)])
@pytest.mark.parametrize("per_frame", [False, True])
def test_product_is_the_mixed_matrix(clips, frames, rows, per_frame):
    module, x = layer(), torch.randn(clips, frames, rows, 12)
    condition = torch.randn(clips, frames if per_frame else 1, 12)
    y = module(x, module.mixture(condition))
    assert y.shape == (clips, frames, rows, 20)
    for b in range(clips):
        for f in range(frames):
            c = condition[b, f if per_frame else 0]
            for p in range(rows):
                torch.testing.assert_close(y[b, f, p], literal(module, x[b, f, p], c), atol=1e-5, rtol=1e-5)


def test_per_frame_and_per_clip_forms_agree_with_gradients():
    module, x = layer(), torch.randn(2, 3, 4, 12, dtype=torch.float64)
    module.double()
    cotangent, grads = torch.randn(2, 3, 4, 20, dtype=torch.float64), []
    condition = torch.randn(2, 1, 12, dtype=torch.float64)
    for copies in (1, 3):
        module.zero_grad()
        (module(x, module.mixture(condition.expand(-1, copies, -1))) * cotangent).sum().backward()
        grads.append([p.grad.clone() for p in module.parameters()])
    for per_clip, per_frame in zip(*grads, strict=True):
        torch.testing.assert_close(per_clip, per_frame)


@pytest.mark.parametrize("frames", [1, 3])
def test_formed_matrices_are_the_same_layer_with_gradients(frames):
    """Formed and multiplied densely (where gradients are asked for), formed and skipping zeros, and not formed."""
    module, grads = layer().double(), []
    x = torch.randn(2, 3, 4, 12, dtype=torch.float64) * (torch.rand(2, 3, 4, 12) < 0.4)
    x[1, 2] = 0  # a frame without a live element
    cotangent = torch.randn(2, 3, 4, 20, dtype=torch.float64)
    mixture = module.mixture(torch.randn(2, frames, 12, dtype=torch.float64))
    for given in (mixture, module.form(mixture)):
        module.zero_grad()
        y = module(x, given)
        (y * cotangent).sum().backward(retain_graph=True)
        grads.append([p.grad.clone() for p in module.parameters()])
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.testing.assert_close(module(x, module.form(mixture)), y)


def test_live_products_skip_what_is_zero():
    """A matrix's row under a zero is never read: not even a NaN there shows."""
    x, weight = torch.randn(5, 2, 64) * (torch.rand(5, 2, 64) < 0.3), torch.randn(5, 64, 32)
    x[:, :, 2] = 0
    expected = torch.bmm(x, weight)
    weight[:, 2] = float("nan")
    torch.testing.assert_close(live_product(x, weight), expected)


@pytest.mark.parametrize("gradients", [False, True])
def test_live_products_in_mixed_precision_are_dense(gradients):
    x, weight = torch.randn(5, 2, 64), torch.randn(5, 64, 32, requires_grad=gradients)
    with torch.autocast("cpu", torch.bfloat16):
        y = live_product(x, weight.bfloat16())
        assert torch.equal(y, torch.bmm(x, weight)) and y.dtype == torch.bfloat16


def test_low_temperature_picks_and_high_temperature_averages():
    condition = 5 * torch.randn(50, 12)
    assert layer(1e-3).mixture(condition).max(-1).values.median() > 0.99
    torch.testing.assert_close(layer(1e6).mixture(condition), torch.full((50, 3), 1 / 3), atol=1e-4, rtol=0)


def test_mixture_starts_with_the_variance_of_one_matrix():
    torch.manual_seed(0)
    module = DynamicLinear(128, 256, matrices=8, reduction=4, temperature=30)
    y = module(torch.randn(4, 5, 11, 128), module.mixture(torch.randn(4, 1, 128)))
    expected = 2 * 128 / (128 + 256)  # Xavier
    assert abs(float(y.detach().var()) / expected - 1) < 0.15


def decoder(kind):
    torch.manual_seed(2)
    config = DenoiserConfig(
        width=16, heads=2, feed_forward=24, decoder_layers=2, tail_width=8, decoder=kind, temperature=1.0
    )
    return DecoupledDecoder(config, SparsityConfig(enabled=False)).eval()


def test_regions_cover_every_coefficient_once():
    assert len(UPPER) == 51
    assert len(LOWER) == 13
    assert sorted(UPPER + LOWER) == list(range(64))
    both = decoder("plain")
    out = both.join(torch.randn(2, 3, 16), torch.zeros(2, 3, 16))
    lower = both.lower_tail_fc(torch.zeros(16))
    torch.testing.assert_close(out[..., list(LOWER)], lower.expand(2, 3, -1))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["plain", "styletalk", "dynamic"])
def test_only_the_papers_lower_face_follows_the_sound(kind):
    """With the memory held still, the acoustic feature reaches the output through the matrices alone."""
    net, memory = decoder(kind), torch.randn(1, 4, 11, 16)
    style, t = torch.randn(1, 16), torch.tensor([9])
    one, other = (net(memory, style, sound, t) for sound in torch.randn(2, 1, 4, 16))
    assert torch.equal(one[..., list(UPPER)], other[..., list(UPPER)])
    changed = (one[..., list(LOWER)] - other[..., list(LOWER)]).abs().amax(-1) > 1e-4
    assert bool(changed.all()) == bool(changed.any()) == (kind == "dynamic")

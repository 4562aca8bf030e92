"""The denoiser against a slow, literal form of DreamTalk's equations, and its fast form against itself."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from dmt.config import DenoiserConfig, SparsityConfig
from dmt.decoder import LOWER, UPPER
from dmt.denoiser import Denoiser
from dmt.denoiser.blocks import time_embedding
from dmt.features import windows
from dmt.sparsity import kept_fractions

WIDTH, INPUT = 16, 12
SMALL = DenoiserConfig(
    width=WIDTH,
    heads=4,
    feed_forward=24,
    content_layers=2,
    style_layers=1,
    decoder_layers=3,
    tail_width=8,
    decoder="plain",
    shared_matrices=3,
    temperature=2.0,
)
DENSE = SparsityConfig(enabled=False)


def build(sparsity: SparsityConfig = DENSE, **changes) -> Denoiser:
    torch.manual_seed(3)
    net = Denoiser(replace(SMALL, **changes), sparsity, INPUT).eval()
    for parameter in net.parameters():
        if parameter.dim() == 1:
            parameter.data += 0.1 * torch.randn_like(parameter)  # biases and norms that start at 0 and 1 hide errors
    return net


def draw(clips: int = 2, frames: int = 5, seed: int = 0):
    g = torch.Generator().manual_seed(seed)
    style = torch.randn(clips, 256, 64, generator=g)
    padding = torch.arange(256)[None] >= torch.tensor([100, 256, 1])[:clips, None]
    style[padding] = 0
    x_t = torch.randn(clips, frames, 64, generator=g)
    t = torch.tensor([501, 7, 1000])[:clips]
    return x_t, t, torch.randn(clips, frames, 11, INPUT, generator=g), style, padding


def attention(ours, query, source, padding=None):
    """The same parameters in torch's own module."""
    module = nn.MultiheadAttention(ours.width, ours.heads, batch_first=True)
    module.load_state_dict(ours.state_dict())
    return module.eval()(query, source, source, key_padding_mask=padding, need_weights=True)[0]


def table(positions):
    rows = [
        [f(p / 10000 ** (2 * k / WIDTH)) for k in range(WIDTH // 2) for f in (math.sin, math.cos)]
        for p in range(positions)
    ]
    return torch.tensor(rows)


def encoder(net, x, padding=None):
    for layer in net.layers:
        x = layer.norm1(x + attention(layer.self_attn, x, x, padding))
        x = layer.norm2(x + layer.linear2(torch.relu(layer.linear1(x))))
    return x


def literal(net, x_t, t, window, style, padding):
    """One frame at a time, from the equations."""
    out = torch.zeros_like(x_t)
    for b in range(x_t.shape[0]):
        s = net.style_encoder
        x = encoder(s.encoder, s.increase_embed_dim(style[b])[None] + table(256), padding[b][None])[0]
        score = s.aggregate_method.W[0](x)
        score = s.aggregate_method.W[2](score * torch.tanh(nn.functional.softplus(score)))[:, 0]
        code = torch.softmax(score - 1e5 * padding[b].float(), 0) @ x
        half = WIDTH // 2
        angle = torch.tensor([float(t[b]) * 10000 ** (-j / half) for j in range(half)])
        time = net.time_embed_net(torch.cat([angle.cos(), angle.sin()]))
        for i in range(x_t.shape[1]):
            c = net.content_encoder
            tokens = encoder(c.encoder, c.increase_embed_dim(window[b, i])[None] + table(11))
            both = torch.cat([tokens, x_t[b, i].expand(1, 11, 64)], -1)
            memory = net.content_xt_to_decoder_input_wo_time(both) + time
            for region, tail, places in (
                (net.decoder.upper_decoder, net.decoder.upper_tail_fc, UPPER),
                (net.decoder.lower_decoder, net.decoder.lower_tail_fc, LOWER),
            ):
                y = (table(11) + code)[None]
                for layer in region.layers:
                    y = layer.norm1(y + attention(layer.self_attn, y, y))
                    y = layer.norm2(y + attention(layer.multihead_attn, y, memory))
                    y = layer.norm3(y + layer.linear2(torch.relu(layer.linear1(y))))
                out[b, i, list(places)] = tail(region.norm(y))[0, 5]
    return out


@torch.no_grad()
def test_plain_denoiser_is_the_literal_one():
    net, inputs = build(), draw()
    torch.testing.assert_close(net(*inputs), literal(net, *inputs), atol=5e-6, rtol=1e-5)


def test_time_embedding_has_cosines_first():
    row = time_embedding(torch.tensor([37]), 8)[0]
    expected = [f(37 * 10000 ** (-j / 4)) for f in (math.cos, math.sin) for j in range(4)]
    torch.testing.assert_close(row, torch.tensor(expected), atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("decoder", ["plain", "styletalk", "dynamic"])
def test_frames_are_independent(decoder):
    net, (x_t, t, window, style, padding) = build(decoder=decoder), draw()
    whole = net(x_t, t, window, style, padding)
    part = net(x_t[:, 2:3], t, window[:, 2:3], style, padding)
    torch.testing.assert_close(part, whole[:, 2:3], atol=2e-6, rtol=0)


SPARSITIES = {
    "dense": DENSE,
    "sparse": SparsityConfig(initial_threshold=0.3),
    "per feature and time": SparsityConfig(initial_threshold=0.3, per_feature=True, time_buckets=4),
    "all of the decoders": SparsityConfig(initial_threshold=0.6, reach="decoders"),
    "all of the decoders by time": SparsityConfig(initial_threshold=0.6, reach="decoders", time_buckets=4),
}


def warmed(sparsity, **changes):
    """A network whose thresholds have seen data."""
    net = build(sparsity, **changes).train()
    for seed in range(3):
        x_t, _, *rest = draw(seed=seed)
        net(x_t, torch.tensor([100 + 300 * seed, 900 - 200 * seed]), *rest)
    return net.eval()


@torch.no_grad()
@pytest.mark.parametrize("sparsity", SPARSITIES.values(), ids=SPARSITIES)
@pytest.mark.parametrize("decoder", ["plain", "styletalk", "dynamic"])
@pytest.mark.parametrize("layers", [1, 2, 3])
def test_step_is_forward(sparsity, decoder, layers):
    net = warmed(sparsity, decoder=decoder, decoder_layers=layers)
    x_t, t, window, style, padding = draw()
    plain = net(x_t, t, window, style, padding)
    torch.testing.assert_close(net.step(net.prepare(window, style, padding), x_t, t), plain, atol=2e-6, rtol=0)
    both = net.prepare(window, style, padding, guided=True)
    condition, null = net.step_pair(both, x_t, t)
    torch.testing.assert_close(condition, plain, atol=2e-6, rtol=0)
    torch.testing.assert_close(null, net(x_t, t, window, *net.null_style(2)), atol=2e-6, rtol=0)
    torch.testing.assert_close(net.step(both, x_t, t), plain, atol=2e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("guided", [False, True])
def test_step_is_forward_at_full_width(guided):
    torch.manual_seed(0)
    net = Denoiser(DenoiserConfig(decoder="plain"), DENSE, 1024).eval()
    x_t, t, _, style, padding = draw(clips=1, frames=9)
    window = torch.randn(1, 9, 11, 1024)
    out = net.step(net.prepare(window, style, padding, guided=guided), x_t, t)
    torch.testing.assert_close(out, net(x_t, t, window, style, padding), atol=2e-6, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize(("first", "frames", "rows"), [(0, 6, 11), (0, 1, 1), (3, 8, 14), (7, 4, 40), (2, 2, 3)])
def test_rows_projected_once_are_windows(first, frames, rows):
    net, (_, t, _, style, padding) = build(), draw()
    x_t, sound = torch.randn(2, frames, 64), torch.randn(2, rows, INPUT)
    by_window = net.step(net.prepare(windows(sound, first, frames), style, padding), x_t, t)
    by_row = net.step(net.prepare_rows(sound, first, frames, style, padding), x_t, t)
    torch.testing.assert_close(by_row, by_window, atol=2e-6, rtol=0)


def test_prepare_refuses_training_and_pairs_need_guidance():
    net, (x_t, t, *rest) = build(), draw()
    with pytest.raises(ValueError, match="guided=True"):
        net.step_pair(net.prepare(*rest), x_t, t)
    with pytest.raises(RuntimeError, match="eval"):
        net.train().prepare(*rest)


@torch.no_grad()
def test_style_code_does_not_see_padding():
    net, (*_, style, padding) = build(), draw()
    noisy = style + 5 * padding[..., None]
    torch.testing.assert_close(net.encode_style(noisy, padding), net.encode_style(style, padding))
    cut = net.encode_style(style[:1, :100], padding[:1, :100])
    torch.testing.assert_close(cut, net.encode_style(style, padding)[:1], atol=2e-6, rtol=0)


@pytest.mark.parametrize("decoder", ["plain", "dynamic"])
def test_every_parameter_learns_and_thresholds_mask(decoder):
    net = build(SparsityConfig(initial_threshold=0.3), decoder=decoder).train()
    net(*draw()).square().mean().backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A bias in front of a softmax over time shifts every score alike: its gradient is zero but for rounding.
    assert set(still) <= {"style_encoder.aggregate_method.W.2.bias"}
    kept = kept_fractions(net)
    assert len(kept) == 2 * (2 + 1 + 3 + 3)
    assert all(0.5 < share < 0.99 for name, share in kept.items() if "input" in name)
    assert all(0.1 < share < 0.7 for name, share in kept.items() if "hidden" in name)  # ReLU alone leaves about half


@pytest.mark.parametrize("decoder", ["plain", "dynamic"])
def test_thresholds_in_all_of_the_decoders_mask_and_learn(decoder):
    sparsity = SparsityConfig(initial_threshold=0.6, reach="decoders", tail_threshold=0.4)
    net = build(sparsity, decoder=decoder, tail_width=32).train()
    net(*draw()).square().mean().backward()
    still = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert set(still) <= {"style_encoder.aggregate_method.W.2.bias"}
    kept = kept_fractions(net)
    assert len(kept) == 2 * (2 + 1 + 3 + 3) + 2 * 3 * 4 + 2 * 3 + 2
    assert all(0.1 < share < 0.95 for share in kept.values())
    tails = [float(torch.sigmoid(p.detach())) for name, p in net.named_parameters() if "tail_thresholds" in name]
    assert tails == pytest.approx([0.4] * 6)


def test_one_mask_serves_queries_keys_and_values():
    net = warmed(SparsityConfig(initial_threshold=0.9, reach="decoders"))
    attention = net.decoder.lower_decoder.layers[1].self_attn
    x = torch.randn(3, 11, WIDTH)
    masked = attention.input_threshold(x)
    assert bool((masked == 0).any())
    attention.input_threshold = None
    expected = attention(masked)
    attention.input_threshold = (
        warmed(SparsityConfig(initial_threshold=0.9, reach="decoders"))
        .decoder.lower_decoder.layers[1]
        .self_attn.input_threshold
    )
    torch.testing.assert_close(attention(x), expected)


def test_nothing_is_added_to_the_plain_networks_names():
    names = build().state_dict()
    assert "decoder.upper_decoder.layers.0.linear1.weight" in names
    assert not [n for n in names if "threshold" in n or "dynamic" in n]
    usual = build(SparsityConfig()).state_dict()
    assert not [n for n in usual if ("attn" in n and "threshold" in n) or "tail_thresholds" in n or "memory" in n]

"""The motion model: features to coefficients, in whatever portions."""

from dataclasses import replace

import pytest
import torch

from dmt.config import DenoiserConfig, DiffusionConfig, ModelConfig, SpeechConfig, TacotronConfig, preset
from dmt.denoiser import Denoiser
from dmt.errors import InputError
from dmt.features import windows
from dmt.model import MotionModel
from dmt.sparsity import information_loss
from dmt.types import Features, StyleClip

SMALL = ModelConfig(
    name="small",
    speech=SpeechConfig(
        pretrained=None, width=24, layers=1, heads=2, feed_forward=32, conv_width=8, positional_groups=4
    ),
    tacotron=TacotronConfig(width=10, mels=16, conv_width=8),
    denoiser=DenoiserConfig(
        width=16,
        heads=2,
        feed_forward=24,
        content_layers=1,
        style_layers=1,
        decoder_layers=2,
        tail_width=8,
        shared_matrices=3,
        temperature=1.0,
    ),
    normalised=True,
)


def build(config: ModelConfig = SMALL) -> MotionModel:
    torch.manual_seed(0)
    model = MotionModel(config).eval()
    if config.normalised:
        model.set_statistics(torch.randn(64), torch.rand(64) + 0.5)
    return model


def style(seed=0):
    clip = torch.zeros(256, 64)
    clip[:90] = torch.randn(90, 64, generator=torch.Generator().manual_seed(seed))
    return StyleClip(clip, torch.arange(256) >= 90)


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def test_from_sound_to_coefficients():
    model = build()
    features = model.features(0.1 * torch.randn(2, 8000))
    rows = model.condition(features)
    assert rows.shape == features.acoustic.shape == (2, 24, 24)
    out = model.sample(rows, style(), generator=generator())
    assert out.shape == (2, 12, 64)
    assert bool(torch.isfinite(out).all())


@torch.no_grad()
@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("prediction", ["x0", "noise"])
def test_sampling_is_the_plain_path(guidance, prediction):
    model = build(replace(SMALL, diffusion=DiffusionConfig(prediction=prediction)))
    rows, noise = torch.randn(2, 15, 24), torch.randn(2, 9, 64)
    plain = model.sample_plain(windows(rows, 0, 9), style(), noise, guidance=guidance)
    tolerance = 1e-5 if prediction == "x0" else 1e-3  # noise divided by sqrt(alpha_bar), 0.016 at the start
    for condition in (rows, windows(rows, 0, 9)):
        fast = model.sample(condition, style(), frames=range(9), guidance=guidance, noise=noise)
        torch.testing.assert_close(fast, plain, atol=tolerance, rtol=tolerance)


@torch.no_grad()
@pytest.mark.parametrize("sampler", ["ddim", "ddpm", "dpm"])
def test_portions_do_not_change_the_result(sampler):
    model, rows = build(), torch.randn(1, 50, 24)
    whole = model.sample(rows, style(), sampler=sampler, guidance=1.5, generator=generator())
    model.chunk_frames = 7
    parts = model.sample(rows, style(), sampler=sampler, guidance=1.5, generator=generator())
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_later_span_is_the_same_frames():
    model, rows, noise = build(), torch.randn(1, 60, 24), torch.randn(1, 30, 64)
    whole = model.sample(rows, style(), noise=noise)
    part = model.sample(rows, style(), frames=range(11, 30), noise=noise[:, 11:])
    torch.testing.assert_close(part, whole[:, 11:], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_seeds():
    model, rows = build(), torch.randn(1, 8, 24)
    same, again, other = (model.sample(rows, style(), generator=generator(s)) for s in (1, 1, 2))
    assert torch.equal(same, again)
    assert not torch.allclose(same, other)
    assert torch.equal(same, model.sample(rows, style(), noise=torch.randn(1, 4, 64, generator=generator(1))))


@torch.no_grad()
def test_style_and_guidance_matter():
    model, rows, noise = build(), torch.randn(1, 8, 24), torch.randn(1, 4, 64)
    base, other = (model.sample(rows, style(s), noise=noise) for s in (0, 5))
    assert not torch.allclose(base, other, atol=1e-3)
    assert not torch.allclose(base, model.sample(rows, style(), noise=noise, guidance=3.0), atol=1e-4)


def test_no_frames_and_bad_input():
    model, rows = build(), torch.randn(1, 8, 24)
    assert model.sample(rows[:, :1], style()).shape == (1, 0, 64)
    cases = {
        "unknown sampler 'euler'": {"sampler": "euler"},
        "must divide 1000": {"steps": 7},
        "noise must be": {"noise": torch.zeros(1, 3, 64)},
    }
    for message, arguments in cases.items():
        with pytest.raises(InputError, match=message):
            model.sample(rows, style(), **arguments)
    with pytest.raises(InputError, match="rows"):
        model.sample(torch.randn(1, 8, 23), style())
    with pytest.raises(InputError, match="beyond"):
        model.sample(windows(rows, 0, 4), style(), frames=range(2, 5))
    with pytest.raises(InputError, match="no frames"):
        model.sample(rows, StyleClip(torch.zeros(256, 64), torch.ones(256, dtype=torch.bool)))
    with pytest.raises(InputError, match="prosodic"):
        model.condition(Features(rows))
    with pytest.raises(RuntimeError, match="eval"):
        model.train().sample(rows, style())


def training_batch(clips=3, frames=6):
    clip = style()
    rows = torch.randn(clips, 2 * frames, 24)
    return (
        torch.randn(clips, frames, 64),
        windows(rows, 0, frames),
        clip.coefficients.expand(clips, -1, -1),
        clip.padding.expand(clips, -1),
    )


@pytest.mark.parametrize("prediction", ["x0", "noise"])
def test_noised_prediction_recovers_what_it_hid(prediction):
    """The target, taken as the network's answer, means the clean coefficients."""
    model = build(replace(SMALL, diffusion=DiffusionConfig(prediction=prediction))).train()
    batch = training_batch()
    first, again = (model.noised_prediction(*batch, generator=generator(4)) for _ in range(2))
    assert torch.equal(first.target, again.target)
    assert torch.equal(first.t, again.t)
    assert 1 <= int(first.t.min()) <= int(first.t.max()) <= 1000
    if prediction == "x0":
        torch.testing.assert_close(model.denormalise(first.target), batch[0], atol=1e-5, rtol=1e-5)
        assert torch.equal(first.coefficients, model.denormalise(first.output))
    else:
        x_t = model.schedule.add_noise(model.normalise(batch[0]), first.t, first.target)
        expected = model.denormalise(model.schedule.to_x0(x_t, first.t, first.output))
        torch.testing.assert_close(first.coefficients, expected)


def test_style_dropout_is_the_null_style(monkeypatch):
    seen = []
    forward = Denoiser.forward

    def spy(self, x_t, t, window, clip, padding):
        seen.append((clip, padding))
        return forward(self, x_t, t, window, clip, padding)

    monkeypatch.setattr(Denoiser, "forward", spy)
    model = build(replace(SMALL, diffusion=DiffusionConfig(style_dropout=0.5)))
    model.noised_prediction(*training_batch(clips=200, frames=1), generator=generator())
    clip, padding = seen[0]
    null = (clip == 0).flatten(1).all(1) & ~padding.any(1)
    assert 70 < int(null.sum()) < 130
    given = style()
    torch.testing.assert_close(clip[~null], model.normalise(given.coefficients).expand(int((~null).sum()), -1, -1))
    assert bool((padding[~null] == given.padding).all())


def test_the_whole_model_learns():
    model = build().train()
    model.fusion.scale.data.fill_(0.1)
    optimiser = torch.optim.Adam(model.parameters(), 3e-3)
    target, wave = torch.randn(1, 6, 64), 0.1 * torch.randn(1, 4200)
    clip = style()
    losses, g = [], generator()
    for step in range(30):
        rows = model.condition(model.features(wave))
        noised = model.noised_prediction(
            target, windows(rows, 0, 6), clip.coefficients[None], clip.padding[None], generator=g
        )
        loss = (noised.output - noised.target).square().mean()
        (loss + 0.01 * information_loss(model)).backward()
        if step == 0:
            unused = {n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
            # wav2vec's training mask is not used here; the other is a bias that its softmax cancels
            assert unused <= {"speech.network.masked_spec_embed", "denoiser.style_encoder.aggregate_method.W.2.bias"}
        optimiser.step()
        optimiser.zero_grad()
        losses.append(float(loss.detach()))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_statistics():
    model = build()
    x = torch.randn(3, 64)
    torch.testing.assert_close(model.denormalise(model.normalise(x)), x, atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="deviation"):
        model.set_statistics(torch.zeros(64), torch.zeros(64))
    raw = build(replace(SMALL, normalised=False))
    assert torch.equal(raw.normalise(x), x)
    with pytest.raises(ValueError, match="not normalised"):
        raw.set_statistics(torch.zeros(64), torch.ones(64))


@torch.no_grad()
@pytest.mark.parametrize("name", ["dreamtalk", "dmt"])
def test_full_width_presets_run_without_their_speech_encoder(name):
    model = MotionModel(preset(name)).eval()
    assert model.speech is None
    rows = model.condition(Features(torch.randn(1, 6, 1024), None if name == "dreamtalk" else torch.randn(1, 6, 512)))
    out = model.sample(rows, style(), steps=2, generator=generator())
    assert out.shape == (1, 3, 64)
    assert bool(torch.isfinite(out).all())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA GPU")
@torch.no_grad()
def test_on_a_gpu():
    model, rows, noise = build(), torch.randn(1, 30, 24), torch.randn(1, 15, 64)
    expected = model.sample(rows, style(), noise=noise, guidance=2.0)
    out = model.cuda().sample(rows.cuda(), style(), noise=noise, guidance=2.0)
    assert out.is_cuda
    torch.testing.assert_close(out.cpu(), expected, atol=1e-4, rtol=1e-4)

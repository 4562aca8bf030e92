"""The Tacotron branch: alignment in time, normalisation, gradients."""

import math

import pytest
import soundfile
import torch

from dmt.config import TacotronConfig
from dmt.errors import InputError
from dmt.features import TacotronEncoder
from dmt.features.tacotron import LogMel


def bands(encoder: TacotronEncoder, wave: torch.Tensor) -> torch.Tensor:
    return encoder.statistics(wave).normalise(encoder.mel(wave))


@pytest.mark.parametrize("rows", [1, 2, 49, 50, 53])
def test_gives_exactly_the_rows_asked_for(extractor, make_voice, rows):
    assert extractor.tacotron(make_voice(1)[None], rows).shape == (1, rows, 24)


def test_mel_rows_lie_where_wav2vec_rows_do():
    """A click inside the samples of row 10 alone shows in row 10 alone."""
    wave = torch.zeros(1, 16000)
    wave[0, 320 * 10 + 200] = 1.0  # row 9 sees samples up to 3279, row 11 from 3520
    decibels = LogMel(40)(wave)
    assert decibels.shape == (1, 49, 40)
    assert (decibels[0].amax(-1) > -110).nonzero().flatten().tolist() == [10]


def test_mel_level_is_decibels_of_full_scale():
    time = torch.arange(16000) / 16000
    sine = 0.5 * torch.sin(2 * math.pi * 1000 * time)[None]
    decibels = LogMel(80)(sine)
    total = 10 * torch.log10((10 ** (decibels / 10)).sum(-1)).mean()
    assert abs(total.item() - 10 * math.log10(0.125)) < 1.5  # triangles lose little between their peaks


@pytest.mark.parametrize("gain", [0.3, 0.5, 4.0])
def test_level_does_not_matter(extractor, make_voice, gain):
    wave = make_voice(4)[None]
    difference = bands(extractor.tacotron, gain * wave) - bands(extractor.tacotron, wave)
    assert difference.abs().mean() < 0.15


def test_channel_does_not_matter(extractor, make_voice):
    """A filter of 20 dB tilt moves bands far apart before and hardly after normalisation."""
    wave = make_voice(4)[None]
    tilted = torch.cat([wave[:, :1], wave[:, 1:] - 0.9 * wave[:, :-1]], dim=1)
    before = (extractor.tacotron.mel(tilted) - extractor.tacotron.mel(wave)).abs().mean() / 10
    after = (bands(extractor.tacotron, tilted) - bands(extractor.tacotron, wave)).abs().mean()
    assert before > 0.5
    assert after < 0.3 * before


def test_faint_noise_in_pauses_does_not_matter_much(extractor, make_voice):
    generator = torch.Generator().manual_seed(3)
    wave = make_voice(4)[None]
    noisy = wave + 0.003 * torch.randn(wave.shape, generator=generator)
    clean, other = bands(extractor.tacotron, wave), bands(extractor.tacotron, noisy)
    assert torch.corrcoef(torch.stack([clean.flatten(), other.flatten()]))[0, 1] > 0.9


@pytest.mark.parametrize(("level", "most"), [(0.0, -2.9), (1e-5, -2.9), (1e-4, -1.0)])
def test_silence_reads_as_a_pause(extractor, level, most):
    generator = torch.Generator().manual_seed(0)
    wave = level * torch.randn(1, 48000, generator=generator)
    assert bands(extractor.tacotron, wave).mean() < most


def test_gradients_reach_every_parameter_of_the_sound_path(extractor, make_voice):
    extractor.tacotron.train()
    extractor.tacotron(make_voice(1)[None], 49).square().mean().backward()
    missing = [n for n, p in extractor.tacotron.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert missing == ["from_text.weight"]


def test_clips_of_a_batch_do_not_touch(extractor, make_voice):
    wave = torch.stack([make_voice(1), make_voice(1, seed=1).flip(0)])
    with torch.no_grad():
        together = extractor.tacotron(wave, 49)
        alone = torch.cat([extractor.tacotron(wave[i : i + 1], 49) for i in range(2)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_real_voices_have_like_features(extractor, samples_folder):
    """Recordings in several languages, one noisy, fill the same range."""
    files = sorted((samples_folder / "audio").glob("*.wav"))
    assert len(files) >= 4
    for file in files:
        wave, _ = soundfile.read(file, dtype="float32")
        values = bands(extractor.tacotron, torch.from_numpy(wave)[None])
        assert 0.6 < values.std() < 1.7, file.name
        assert -1.4 < values.mean() < 0.3, file.name
        assert (values.amax(1) > 0.5).all(), file.name


@pytest.mark.parametrize("config", [TacotronConfig(width=25), TacotronConfig(kernel=4)])
def test_impossible_sizes_are_refused(config):
    with pytest.raises(InputError, match="even width and an odd kernel"):
        TacotronEncoder(config)

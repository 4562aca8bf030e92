"""wav2vec 2.0: shapes, normalisation, chunks, saving."""

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cosine_similarity

from dmt.config import SpeechConfig, preset, replace
from dmt.errors import InputError
from dmt.features import Chunking, SpeechEncoder, rows_for, samples_for
from dmt.features.chunks import encode_spans
from dmt.features.speech import architecture


@pytest.mark.parametrize("samples", [1, 399, 400, 719, 720, 721, 16000, 33333])
def test_rows_match_the_network(extractor, make_voice, samples):
    wave = make_voice(3)[None, :samples]
    rows = extractor.speech(wave)
    assert rows.shape == (1, max(1, (samples - 400) // 320 + 1), 32)
    assert rows_for(samples) == rows.shape[1]


def test_samples_for_is_the_least():
    for rows in range(1, 9):
        assert rows_for(samples_for(rows)) == rows
        assert rows == 1 or rows_for(samples_for(rows) - 1) == rows - 1


def test_equals_transformers_forward_and_processor(extractor, make_voice):
    """The same numbers as Wav2Vec2FeatureExtractor and Wav2Vec2Model called the usual way."""
    from transformers import Wav2Vec2FeatureExtractor

    wave = 0.3 * make_voice(2)[None] + 0.05
    processor = Wav2Vec2FeatureExtractor(do_normalize=True)
    values = processor(wave[0].numpy(), sampling_rate=16000, return_tensors="pt").input_values
    with torch.no_grad():
        expected = extractor.speech.network(values).last_hidden_state
        torch.testing.assert_close(extractor.speech(wave), expected, atol=2e-5, rtol=1e-4)


def test_each_clip_has_its_own_level(extractor, make_voice):
    wave = torch.stack([make_voice(1), 0.2 * make_voice(1) + 0.1])
    with torch.no_grad():
        together, alone = extractor.speech(wave), extractor.speech(wave[1:])
    torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(together[0], together[1], atol=0.05, rtol=0.05)


def test_digital_silence_is_finite(extractor):
    assert torch.isfinite(extractor.speech(torch.zeros(1, 8000))).all()


def test_rows_see_exactly_their_samples(extractor, make_voice):
    """Row r of the front end depends on samples 320 r .. 320 r + 399 and no others."""
    wave = make_voice(1)[None].requires_grad_()
    rows = extractor.speech._front_end(wave)
    rows[0, 7].sum().backward()
    touched = wave.grad[0].nonzero()[:, 0]
    assert touched.min() >= 320 * 7 and touched.max() < 320 * 7 + 400
    assert touched.max() - touched.min() > 350


def test_gradients_reach_every_parameter(extractor, make_voice):
    extractor.speech.train()
    extractor.speech(make_voice(1)[None]).square().mean().backward()
    missing = [n for n, p in extractor.speech.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # A key bias moves all scores of a query alike, so its gradient is zero up to rounding.
    assert [n for n in missing if "k_proj.bias" not in n] == []


def test_state_survives_safetensors(extractor, make_voice, small_config, tmp_path):
    save_file(extractor.speech.state_dict(), tmp_path / "speech.safetensors")
    torch.manual_seed(1)
    other = SpeechEncoder(small_config).eval()
    wave = make_voice(1)[None]
    assert not torch.equal(other(wave), extractor.speech(wave))
    other.load_state_dict(load_file(tmp_path / "speech.safetensors"), strict=True)
    assert torch.equal(other(wave), extractor.speech(wave))


def test_front_end_stays_float32_under_autocast(extractor, make_voice):
    seen = []
    hook = extractor.speech.network.feature_extractor.conv_layers[-1].register_forward_hook(
        lambda module, inputs, output: seen.append(output.dtype)
    )
    precision = torch.backends.cudnn.conv.fp32_precision
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        rows = extractor.speech(make_voice(1)[None])
    hook.remove()
    assert seen == [torch.float32]
    assert torch.isfinite(rows).all()
    assert torch.backends.cudnn.conv.fp32_precision == precision


def test_long_clip_in_chunks_stays_close_to_the_whole(small_config, make_voice):
    """Random weights, 20 s in the demo size: well under the bound, and not by accident equal."""
    torch.manual_seed(0)
    encoder = SpeechEncoder(preset("demo").speech).eval()
    wave = make_voice(20)[None]
    statistics = encoder.statistics(wave)
    with torch.no_grad():
        whole = encoder.encode(wave, statistics)
        chunked = encode_spans(wave, Chunking(0, 200, 100, 100), lambda cut: encoder.encode(cut, statistics))
    assert chunked.shape == whole.shape
    deviation = (chunked - whole).square().mean().sqrt() / whole.std()
    assert deviation < 0.05, deviation
    assert cosine_similarity(chunked, whole, dim=-1).min() > 0.99
    assert not torch.equal(chunked, whole)


def test_forward_uses_chunks_beyond_the_whole_clip_length(extractor, make_voice):
    wave = make_voice(5)[None]
    lengths = []
    encode = extractor.speech.encode
    extractor.speech.encode = lambda cut, statistics: lengths.append(cut.shape[1]) or encode(cut, statistics)
    with torch.no_grad():
        rows = extractor.speech(wave)
    assert rows.shape[1] == rows_for(wave.shape[1])
    assert len(lengths) > 2 and max(lengths) <= samples_for(150 + 50)


def test_sample_recordings(samples_folder):
    """Row counts on real recordings, the one with published rows included."""
    torch.manual_seed(0)
    encoder = SpeechEncoder(replace(preset("demo").speech, layers=1)).eval()
    published = np.load(samples_folder / "published_english" / "wav2vec.npy", allow_pickle=False)
    wave, rate = soundfile.read(samples_folder / "published_english" / "audio_16k.wav", dtype="float32")
    assert rate == 16000
    with torch.no_grad():
        rows = encoder(torch.from_numpy(wave)[None])
    assert rows.shape[1] == published.shape[0]
    assert torch.isfinite(rows).all()


def test_large_architecture_has_the_published_size():
    with torch.device("meta"):
        from transformers import Wav2Vec2Model

        network = Wav2Vec2Model(architecture(SpeechConfig()))
    # 315,438,720 with the mask vector (1024), which only masked pre-training uses.
    assert sum(p.numel() for p in network.parameters()) == 315_438_720 - 1024


@pytest.mark.parametrize(
    ("wave", "words"),
    [
        (torch.zeros(1, 0), "no samples"),
        (torch.zeros(0, 500), "no samples"),
        (torch.zeros(500), "shape"),
        (torch.full((1, 500), float("nan")), "NaN"),
        (torch.full((1, 500), float("inf")), "NaN or infinite"),
    ],
)
def test_bad_waves_are_refused(extractor, wave, words):
    with pytest.raises(InputError, match=words):
        extractor.speech(wave)
    with pytest.raises(InputError, match=words):
        extractor(wave)


def test_impossible_widths_are_refused(small_config):
    with pytest.raises(InputError, match="multiple"):
        SpeechEncoder(replace(small_config, width=30))

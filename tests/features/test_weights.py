"""Weights kept elsewhere: folders and files as transformers saves them, and what goes wrong with them."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Wav2Vec2ForCTC, Wav2Vec2Model

from dmt.config import replace
from dmt.errors import InputError
from dmt.features import CtcHead, SpeechEncoder
from dmt.features.speech import architecture


@pytest.fixture
def recogniser(small_config, tmp_path):
    """A small CTC recogniser saved the way the public ones are, mask vector and head included."""
    settings = architecture(small_config)
    settings.mask_time_prob, settings.vocab_size = 0.05, 5
    torch.manual_seed(5)
    model = Wav2Vec2ForCTC(settings).eval()
    folder = tmp_path / "recogniser"
    model.save_pretrained(folder)
    vocabulary = {"<pad>": 0, "|": 1, "a": 2, "b": 3, "c": 4}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    return model, folder


def test_folder_gives_the_same_rows(recogniser, small_config, make_voice):
    model, folder = recogniser
    encoder = SpeechEncoder.from_pretrained(replace(small_config, pretrained=str(folder))).eval()
    wave = make_voice(1)[None]
    normalised = encoder.statistics(wave).normalise(wave)
    with torch.no_grad():
        torch.testing.assert_close(encoder(wave), model.wav2vec2(normalised).last_hidden_state, atol=1e-5, rtol=1e-4)


def test_bare_file_and_older_names(recogniser, small_config, make_voice, tmp_path):
    """A safetensors file, and a .bin with weight_g / weight_v from before parametrisations."""
    _, folder = recogniser
    config = replace(small_config, pretrained=str(folder))
    expected = SpeechEncoder.from_pretrained(config).eval()(make_voice(1)[None])
    weights = load_file(folder / "model.safetensors")
    older = {
        n.replace("parametrizations.weight.original0", "weight_g").replace(
            "parametrizations.weight.original1", "weight_v"
        ): w
        for n, w in weights.items()
    }
    save_file(older, tmp_path / "bare.safetensors")
    binary = tmp_path / "binary"
    binary.mkdir()
    torch.save(older, binary / "pytorch_model.bin")
    (binary / "config.json").write_text((folder / "config.json").read_text())
    for source in (tmp_path / "bare.safetensors", binary):
        encoder = SpeechEncoder.from_pretrained(replace(config, pretrained=str(source))).eval()
        assert torch.equal(encoder(make_voice(1)[None]), expected)


def test_plain_model_without_head(small_config, tmp_path, make_voice):
    model = Wav2Vec2Model(architecture(small_config)).eval()
    model.save_pretrained(tmp_path / "plain")
    config = replace(small_config, pretrained=str(tmp_path / "plain"))
    encoder = SpeechEncoder.from_pretrained(config).eval()
    for name, value in model.state_dict().items():
        assert torch.equal(encoder.network.state_dict()[name], value)
    (tmp_path / "plain" / "vocab.json").write_text("{}")
    with pytest.raises(InputError, match="no CTC head"):
        CtcHead.from_pretrained(config)


def test_head_comes_along(recogniser, small_config, make_voice):
    model, folder = recogniser
    config = replace(small_config, pretrained=str(folder))
    head, encoder = CtcHead.from_pretrained(config), SpeechEncoder.from_pretrained(config).eval()
    assert head.vocabulary == ("<pad>", "|", "a", "b", "c") and head.blank == 0
    wave = make_voice(1)[None]
    with torch.no_grad():
        expected = model(encoder.statistics(wave).normalise(wave)).logits.log_softmax(-1)
        torch.testing.assert_close(head(encoder(wave)), expected, atol=1e-5, rtol=1e-4)


def test_another_size_is_named(recogniser, small_config):
    _, folder = recogniser
    config = replace(small_config, pretrained=str(folder), layers=3, feed_forward=96)
    with pytest.raises(InputError, match=r"num_hidden_layers 2 \(expected 3\), intermediate_size 64"):
        SpeechEncoder.from_pretrained(config)
    with pytest.raises(InputError, match="does not fit"):
        SpeechEncoder.from_pretrained(replace(config, pretrained=str(folder / "model.safetensors")))


def test_no_network_says_how_to_get_them(small_config, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    def unreachable(*arguments):
        raise LocalEntryNotFoundError("cannot be reached")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(InputError, match="hf download someone/model"):
        SpeechEncoder.from_pretrained(replace(small_config, pretrained="someone/model"))
    monkeypatch.undo()
    with pytest.raises(InputError, match="neither here nor"):
        SpeechEncoder.from_pretrained(replace(small_config, pretrained="not a/valid/name"))


@pytest.mark.parametrize("source", ["speech", "head"])
def test_no_name_is_refused(small_config, source):
    with pytest.raises(InputError, match="names no pretrained weights"):
        (SpeechEncoder if source == "speech" else CtcHead).from_pretrained(small_config)


def test_damaged_and_incomplete_folders(recogniser, small_config, tmp_path):
    _, folder = recogniser
    config = replace(small_config, pretrained=str(folder))
    (folder / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(InputError, match="cannot be read as a weight file"):
        SpeechEncoder.from_pretrained(config)
    (folder / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"has no model\.safetensors"):
        SpeechEncoder.from_pretrained(config)
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read as JSON"):
        SpeechEncoder.from_pretrained(config)


def test_pickled_code_is_never_run(recogniser, small_config, tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    _, folder = recogniser
    (folder / "model.safetensors").unlink()
    torch.save({"weight": Trap()}, folder / "pytorch_model.bin")
    with pytest.raises(InputError, match="cannot be read as a weight file"):
        SpeechEncoder.from_pretrained(replace(small_config, pretrained=str(folder)))
    assert not (tmp_path / "sprung").exists()

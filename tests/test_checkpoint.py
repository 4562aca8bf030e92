"""Checkpoints: what goes in comes out; damage is said in one sentence."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from dmt.checkpoint import load_model, read_record, save_model
from dmt.config import DenoiserConfig, ModelConfig, SparsityConfig, SpeechConfig, TacotronConfig
from dmt.errors import InputError
from dmt.features import SpeechEncoder
from dmt.model import MotionModel

SPEECH = SpeechConfig(pretrained=None, width=24, layers=1, heads=2, feed_forward=32, conv_width=8, positional_groups=4)
SMALL = ModelConfig(
    name="small",
    speech=SPEECH,
    tacotron=TacotronConfig(width=10, mels=16, conv_width=8),
    sparsity=SparsityConfig(per_feature=True, time_buckets=2),
    denoiser=DenoiserConfig(width=16, heads=2, feed_forward=24, tail_width=8, shared_matrices=3),
    normalised=True,
)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    model = MotionModel(SMALL).eval()
    model.set_statistics(torch.randn(64), torch.rand(64) + 0.5)
    return model


@pytest.fixture
def saved(model, tmp_path):
    path = tmp_path / "model with space é.safetensors"
    save_model(path, model, {"steps": 12, "loss": [0.5, 0.25]})
    return path


def test_round_trip(model, saved):
    loaded = load_model(saved)
    assert loaded.config == SMALL
    assert not loaded.training
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert read_record(saved) == {"steps": 12, "loss": [0.5, 0.25]}
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_half_is_half_the_size_and_loads_as_float32(model, saved, tmp_path):
    half = tmp_path / "half.safetensors"
    save_model(half, model, {}, half=True)
    assert half.stat().st_size < 0.75 * saved.stat().st_size
    loaded = load_model(half)
    assert {p.dtype for p in loaded.parameters()} == {torch.float32}
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, atol=1e-3, rtol=1e-3)
    assert torch.equal(loaded.schedule.alpha_bars, model.schedule.alpha_bars)


def test_pretrained_speech_is_not_stored(tmp_path):
    speech = SpeechEncoder(SPEECH)
    config = replace(SMALL, speech=replace(SPEECH, pretrained="somebody/elses-weights"))
    path = tmp_path / "model.safetensors"
    save_model(path, MotionModel(config, speech), {})
    assert not [name for name in load_file(path) if name.startswith("speech.")]
    assert any(name.startswith("tacotron.") for name in load_file(path))
    assert load_model(path).speech is None
    assert load_model(path, speech=speech).features.speech is speech


def test_an_interrupted_write_leaves_the_old_file(model, saved, monkeypatch):
    before = saved.read_bytes()

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("dmt.checkpoint.save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        save_model(saved, model, {})
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == [saved.name]


def test_folder_missing(model, tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        save_model(tmp_path / "no" / "model.safetensors", model, {})


def refused(path, match):
    with pytest.raises(InputError, match=match) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_missing_truncated_and_foreign_files(saved, tmp_path):
    refused(tmp_path / "none.safetensors", "no checkpoint")
    refused(tmp_path, "no checkpoint")
    whole = saved.read_bytes()
    for size in (0, 5, 1000, len(whole) // 2, len(whole) - 1):
        saved.write_bytes(whole[:size])
        refused(saved, "truncated or another kind")
    saved.write_bytes(b"PK\x03\x04" + bytes(3000))
    refused(saved, "truncated or another kind")
    save_file({"weight": torch.zeros(3)}, saved)
    refused(saved, "not a dreamtalk-dmt")
    with pytest.raises(InputError, match="not a dreamtalk-dmt"):
        read_record(saved)


def altered(saved, change=None, **metadata):
    """The file again, with its tensors changed in place by `change` and metadata replaced."""
    from safetensors import safe_open

    with safe_open(saved, framework="pt") as file:
        kept = dict(file.metadata())
    tensors = load_file(saved)
    if change:
        change(tensors)
    save_file(tensors, saved, kept | metadata)


NAME = "denoiser.time_embed_net.0.weight"


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda w: w.pop(NAME), f"missing: {NAME}"),
        (lambda w: w.update(extra=torch.zeros(1)), "unexpected: extra"),
        (lambda w: w.update({NAME: torch.zeros(2, 2)}), f"another shape: {NAME}"),
        (lambda w: w.update({NAME: torch.zeros(16, 16, dtype=torch.int64)}), f"another type: {NAME}"),
        (lambda w: w[NAME].view(-1)[3:4].fill_(float("nan")), f"not finite: {NAME}"),
        (lambda w: [w.pop(n) for n in list(w) if n.startswith("fusion")], "missing: fusion"),
    ],
)
def test_altered_tensors(saved, change, match):
    altered(saved, change)
    refused(saved, match)


@pytest.mark.parametrize(
    ("metadata", "match"),
    [
        ({"version": "99"}, "format version 99"),
        ({"config": "{"}, "no usable configuration"),
        ({"config": json.dumps({"colour": 1})}, "no field colour"),
        ({"config": json.dumps({"speech": 3})}, "no usable configuration"),
        ({"config": json.dumps({"denoiser": {"width": "wide"}})}, "no usable configuration"),
        ({"config": json.dumps({"denoiser": {"heads": 0}})}, "no usable configuration"),
        ({"config": "[]"}, "no usable configuration"),
    ],
)
def test_altered_metadata(saved, metadata, match):
    altered(saved, **metadata)
    refused(saved, match)

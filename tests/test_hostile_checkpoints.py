"""Weights, states, shards and settings that are damaged or made to harm."""

from __future__ import annotations

import json
import os
import struct

import pytest
import torch
from hostile import answer, limited
from readers import STATE, shard, speech_weights, state
from readers import settings as settings_of_training
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dmt.checkpoint import load_model, read_record
from dmt.corpus import Corpus
from dmt.data import pirender, synthetic
from dmt.data.filmed import _vox_partitions
from dmt.inspection import inspect
from dmt.training.state import load_state

pytestmark = limited


def test_weights_that_promise_more_than_they_hold(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 64)
    (tmp_path / "b.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + header)
    for name in ("a.safetensors", "b.safetensors"):
        for reader in (load_model, state, inspect):
            assert answer(reader, tmp_path / name)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("denoiser", "width", 60_000),
        ("denoiser", "content_layers", 10**9),
        ("speech", "feed_forward", 2**40),
        ("speech", "layers", 200),
        ("tacotron", "mels", 10**9),
        ("denoiser", "heads", 0),
        ("denoiser", "width", -8),
    ],
)
def test_a_checkpoint_whose_configuration_asks_for_a_giant(tmp_path, tiny_checkpoint, part, name, value):
    with safe_open(tiny_checkpoint, "pt") as file:
        metadata = file.metadata()
    config = json.loads(metadata["config"])
    config[part][name] = value
    save_file(load_file(tiny_checkpoint), tmp_path / "a.safetensors", metadata | {"config": json.dumps(config)})
    assert answer(load_model, tmp_path / "a.safetensors")


class Harm:
    """What a hostile pickle would do."""

    def __reduce__(self):
        return (os.mkdir, ("/tmp/harm-was-done",))


def test_a_checkpoint_that_would_run_code(tmp_path):
    for name, new in (("a.pth", True), ("a.pt", False)):
        torch.save(STATE | {"optimiser": Harm()}, tmp_path / name, _use_new_zipfile_serialization=new)
        for reader in (state, inspect):
            assert answer(reader, tmp_path / name)
    assert not os.path.exists("/tmp/harm-was-done")


@pytest.mark.parametrize("record", ["{", "[" * 100_000, None])
def test_a_checkpoint_whose_record_is_damaged(tmp_path, tiny_checkpoint, record):
    with safe_open(tiny_checkpoint, "pt") as file:
        metadata = {name: text for name, text in file.metadata().items() if name != "record"}
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", metadata | ({"record": record} if record else {}))
    assert "record" in answer(read_record, tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    "skeleton", ["[]", "7", '{"pairs": 3}', '{"pairs": [[[], 1]]}', "[" * 100_000, '{"clips": []}']
)
def test_states_and_shards_of_another_making(tmp_path, skeleton):
    save_file({"a": torch.ones(2)}, tmp_path / "a.safetensors", {"state": skeleton, "note": skeleton})
    assert answer(load_state, tmp_path / "a.safetensors") or skeleton in ("[]", "7")
    assert answer(shard, tmp_path / "a.safetensors")


@pytest.mark.parametrize("frames", [-1, 0, 10**9, "many", None])
def test_a_shard_that_promises_more_than_it_holds(tmp_path, frames):
    clip = dict.fromkeys(("name", "identity", "sentence", "emotion", "partition"), "a") | {"frames": frames}
    note = json.dumps({"clips": [clip], "failures": []})
    save_file({"0000.coefficients": torch.ones(5, 64)}, tmp_path / "a.safetensors", {"note": note})
    assert answer(shard, tmp_path / "a.safetensors")


def test_weights_that_are_no_table(tmp_path):
    for content in ([torch.ones(2)], {"model": {"a": torch.ones(2)}}, {1: torch.ones(2)}, torch.ones(2)):
        torch.save(content, tmp_path / "a.pth")
        assert answer(speech_weights, tmp_path / "a.pth")


def test_settings_that_are_none(tmp_path):
    for text in ("[]", "{", "[" * 100_000, '{"seed": ' + "9" * 5000 + "}", '{"seed": ' + "[" * 500 + "]" * 500 + "}"):
        (tmp_path / "a.json").write_text(text)
        assert answer(settings_of_training, tmp_path / "a.json")


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_folders_whose_notes_are_damaged(tmp_path, content):
    for name in ("corpus.json", "train_list.txt", "vox-metadata.csv", "train-0000.npz"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "data.mdb").touch()
    for reader in (Corpus.speakers, Corpus.load, synthetic.find):
        assert answer(reader, tmp_path)
    assert answer(_vox_partitions, tmp_path / "vox-metadata.csv")
    assert answer(pirender.find, tmp_path) or content != b"\xff\xfe"

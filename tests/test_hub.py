"""A model goes to the Hugging Face hub's format and comes back the same."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi

from dmt.checkpoint import load_model
from dmt.errors import InputError
from dmt.model import MotionModel


def same(first: MotionModel, second: MotionModel) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_folder_and_back(tiny_model, tmp_path) -> None:
    tiny_model.save_pretrained(tmp_path / "saved")
    loaded = MotionModel.from_pretrained(tmp_path / "saved")
    assert same(tiny_model, loaded) and loaded.config == tiny_model.config and not loaded.training
    assert same(tiny_model, load_model(tmp_path / "saved" / "model.safetensors"))  # what --checkpoint takes


def test_push_uploads_what_can_be_loaded(tiny_model, tmp_path, monkeypatch) -> None:
    """The hub itself is played by a folder."""
    sent = {}

    def upload(self, *, repo_id, folder_path, **options):
        sent[repo_id] = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}

    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **options: type("Url", (), {"repo_id": repo_id})())
    monkeypatch.setattr(HfApi, "upload_folder", upload)
    tiny_model.push_to_hub("someone/a-model")
    assert {"model.safetensors", "config.json", "README.md"} <= sent["someone/a-model"].keys()
    (tmp_path / "model.safetensors").write_bytes(sent["someone/a-model"]["model.safetensors"])
    assert same(tiny_model, MotionModel.from_pretrained(tmp_path))
    assert b"apache-2.0" in sent["someone/a-model"]["README.md"]


def test_the_mixin_leaves_the_module_alone(tiny_model) -> None:
    assert same(tiny_model, copy.deepcopy(tiny_model))
    assert all(not name.startswith("_hub") for name in tiny_model.state_dict())


def test_what_cannot_be_had_is_said(tmp_path) -> None:
    with pytest.raises(InputError, match="there is no checkpoint"):
        MotionModel.from_pretrained(tmp_path)
    with pytest.raises(InputError, match="could be had from 'nobody/no-such-model'"):
        MotionModel.from_pretrained("nobody/no-such-model", local_files_only=True, cache_dir=tmp_path)

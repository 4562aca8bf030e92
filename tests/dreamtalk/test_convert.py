"""Checkpoints survive the way to safetensors and back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from dmt.cli.app import run
from dmt.dreamtalk import DreamTalkDenoiser, export_denoiser, load_renderer
from dmt.dreamtalk.convert import convert
from dmt.errors import InputError
from dmt.renderer.flow import FlowRenderer


def test_denoiser_there_and_back(tmp_path: Path) -> None:
    state = export_denoiser(DreamTalkDenoiser())
    released = {"model_state_dict": {f"diff_net.{k}": v for k, v in state.items()}}
    torch.save(released, tmp_path / "a.pth")
    assert convert(tmp_path / "a.pth", tmp_path / "b.safetensors") == "denoiser"
    with safe_open(tmp_path / "b.safetensors", "pt") as opened:
        assert set(opened.keys()) == set(state)
    assert convert(tmp_path / "b.safetensors", tmp_path / "c.pth") == "denoiser"
    back = torch.load(tmp_path / "c.pth", weights_only=True)["model_state_dict"]
    assert set(back) == set(released["model_state_dict"])
    assert all(torch.equal(back[k], v) for k, v in released["model_state_dict"].items())


def test_renderer_there_and_back(tmp_path: Path) -> None:
    state = FlowRenderer().state_dict()
    torch.save({"net_G_ema": state}, tmp_path / "r.pt")
    assert convert(tmp_path / "r.pt", tmp_path / "r.safetensors") == "renderer"
    assert convert(tmp_path / "r.safetensors", tmp_path / "s.pt") == "renderer"
    back = torch.load(tmp_path / "s.pt", weights_only=True)["net_G_ema"]
    assert all(torch.equal(back[k], v) for k, v in state.items())


def test_nothing_is_left_of_a_failure(tmp_path: Path) -> None:
    torch.save({"net_G_ema": {"mapping_net.first.0.bias": torch.zeros(3)}}, tmp_path / "bad.pt")
    with pytest.raises(InputError, match="not a DreamTalk renderer"):
        convert(tmp_path / "bad.pt", tmp_path / "out.safetensors")
    with pytest.raises(InputError, match="must end in"):
        convert(tmp_path / "bad.pt", tmp_path / "out.onnx")
    assert {p.name for p in tmp_path.iterdir()} == {"bad.pt"}


def test_the_command_asks_before_it_replaces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = FlowRenderer().state_dict()
    torch.save({"net_G_ema": state}, tmp_path / "r.pt")
    target = tmp_path / "mit Leerzeichen é.safetensors"
    target.write_bytes(b"precious")
    assert run(["convert", str(tmp_path / "r.pt"), str(target)]) == 2
    assert "--force" in capsys.readouterr().err and target.read_bytes() == b"precious"
    assert run(["convert", str(tmp_path / "r.pt"), str(target), "--force"]) == 0
    assert "a renderer" in capsys.readouterr().out
    loaded = load_renderer(target).state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in state.items())
    assert {p.name for p in tmp_path.iterdir()} == {"r.pt", target.name}


def test_the_command_says_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "r.pt").write_bytes(b"no checkpoint")
    for target in ("o.safetensors", "o.bin", "no/o.pt"):
        assert run(["convert", str(tmp_path / "r.pt"), str(tmp_path / target)]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
    assert {p.name for p in tmp_path.iterdir()} == {"r.pt"}

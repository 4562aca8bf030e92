"""Starting weights: DreamTalk's denoiser under its own preset and the paper's, our own checkpoints, wrong files."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dmt.checkpoint import save_model
from dmt.config import preset
from dmt.dreamtalk import DreamTalkDenoiser, export_denoiser
from dmt.errors import InputError
from dmt.model import MotionModel
from dmt.training.start import start_from


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A random denoiser in DreamTalk's own file layout."""
    torch.manual_seed(1)
    network = DreamTalkDenoiser()
    path = tmp_path_factory.mktemp("start") / "denoising_network.pth"
    torch.save({"model_state_dict": {f"diff_net.{k}": v for k, v in export_denoiser(network).items()}}, path)
    return path, network.net


def full(name, shrunk, **changes):
    """A preset with its whole denoiser and tiny encoders of the width that it reads."""
    speech = replace(shrunk(name).speech, width=1024)
    model = replace(preset(name), speech=speech, **changes)
    return MotionModel(model).eval()


def inputs():
    torch.manual_seed(2)
    style, padding = torch.randn(1, 256, 64), torch.zeros(1, 256, dtype=torch.bool)
    return torch.randn(1, 2, 64), torch.tensor([501]), torch.randn(1, 2, 11, 1024), style, padding


def test_the_plain_preset_becomes_dreamtalk(released, shrunk):
    path, network = released
    model = full("dreamtalk", shrunk)
    said = start_from(model, path)
    assert said.startswith("started from DreamTalk's denoiser") and said.endswith(" 0 new")
    with torch.no_grad():
        assert torch.equal(model.denoiser(*inputs()), network.eval()(*inputs()))


def test_the_papers_preset_starts_almost_as_dreamtalk(released, shrunk):
    path, network = released
    paper = full("dmt", shrunk)
    start_from(paper, path)
    loud = full("dmt", shrunk)
    with torch.no_grad():
        # Thresholds that never saw a batch are at zero, so what differs are the copies of one matrix.
        made, wanted, other = paper.denoiser(*inputs()), network.eval()(*inputs()), loud.denoiser(*inputs())
    assert 0 < (made - wanted).square().mean() < 1e-3 * wanted.square().mean()
    assert (other - wanted).square().mean() > 0.1 * wanted.square().mean()
    name = "decoder.upper_decoder.layers.0.linear1.dynamic_conv.weight"
    copies = dict(paper.denoiser.named_parameters())[name]
    assert not torch.equal(copies[0], copies[1])  # or the mixture would never learn to choose


def test_our_own_checkpoint(shrunk, tmp_path):
    torch.manual_seed(0)
    first, second = MotionModel(shrunk("demo")), MotionModel(shrunk("demo"))
    save_model(tmp_path / "m.safetensors", first, {})
    start_from(second, tmp_path / "m.safetensors")
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_wrong_files(released, shrunk, tmp_path):
    path, _ = released
    with pytest.raises(InputError, match="another shape"):
        start_from(MotionModel(shrunk("dreamtalk")), path)
    save_model(tmp_path / "m.safetensors", MotionModel(shrunk("demo")), {})
    with pytest.raises(InputError, match="another model than this preset"):
        start_from(MotionModel(shrunk("dreamtalk")), tmp_path / "m.safetensors")
    with pytest.raises(InputError, match="no such checkpoint"):
        start_from(MotionModel(shrunk("dreamtalk")), tmp_path / "absent.pth")

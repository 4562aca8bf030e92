"""A folder with everything that DreamTalk's command needs, small random weights, and a small speech encoder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

from dmt.dreamtalk import DreamTalkDenoiser, export_denoiser
from dmt.dreamtalk.files import write_wav
from dmt.features import SpeechEncoder
from dmt.renderer.flow import FlowRenderer


@pytest.fixture(scope="module")  # outputs are written into it: one module must not see another's
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Checkpoints under their usual names; other names with spaces and letters beyond ASCII."""
    folder = tmp_path_factory.mktemp("dream talk ü")
    torch.manual_seed(0)
    (folder / "checkpoints").mkdir()
    state = {f"diff_net.{k}": v for k, v in export_denoiser(DreamTalkDenoiser()).items()}
    torch.save({"model_state_dict": state}, folder / "checkpoints/denoising_network.pth")
    torch.save({"net_G_ema": FlowRenderer().state_dict()}, folder / "checkpoints/renderer.pt")
    random = np.random.default_rng(0)
    pose = {"coeff": random.standard_normal((3, 257)), "transform_params": random.standard_normal((3, 5))}
    scipy.io.savemat(folder / "short pose.mat", {k: v.astype(np.float32) for k, v in pose.items()})
    scipy.io.savemat(folder / "style ñ.mat", {"coeff": random.standard_normal((40, 257)).astype(np.float32)})
    write_wav(folder / "a voice.wav", [0.1 * random.standard_normal(3000)])
    write_wav(folder / "longer.wav", [0.1 * random.standard_normal(55_000)])
    smooth = np.kron(random.integers(0, 256, (16, 16, 3)), np.ones((16, 16, 1)))
    Image.fromarray(smooth.astype(np.uint8)).save(folder / "face.png")
    return folder


@pytest.fixture
def small_wav2vec(monkeypatch: pytest.MonkeyPatch) -> None:
    """A one-layer encoder of the right width in place of 315 million parameters nobody has here."""

    def encoder(config: object) -> SpeechEncoder:
        torch.manual_seed(1)
        return SpeechEncoder(replace(config, layers=1, feed_forward=64, conv_width=32))

    monkeypatch.setattr(SpeechEncoder, "from_pretrained", staticmethod(encoder))

"""What several test folders share: a tiny random model, its checkpoint, and a voice-like sound."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from dmt.checkpoint import save_model
from dmt.config import DenoiserConfig, ModelConfig, SpeechConfig, TacotronConfig
from dmt.model import MotionModel


@pytest.fixture(scope="session")
def tiny_model() -> MotionModel:
    """Random weights, in evaluation mode. Sound longer than two seconds is cut into chunks."""
    torch.manual_seed(0)
    speech = SpeechConfig(
        pretrained=None,
        width=32,
        layers=1,
        heads=2,
        feed_forward=48,
        conv_width=16,
        positional_groups=4,
        positional_kernel=8,
        whole_clip_seconds=2.0,
        chunk_seconds=1.0,
        context_seconds=0.5,
    )
    denoiser = DenoiserConfig(
        width=32,
        heads=2,
        feed_forward=48,
        content_layers=1,
        style_layers=1,
        decoder_layers=1,
        tail_width=16,
        shared_matrices=2,
    )
    tacotron = TacotronConfig(width=16, conv_width=16)
    return MotionModel(ModelConfig(name="tiny", speech=speech, tacotron=tacotron, denoiser=denoiser)).eval()


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_model, tmp_path_factory) -> Path:
    """The same model as a file."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    save_model(path, tiny_model, {"made for": "tests"})
    return path


@pytest.fixture(scope="session")
def voice() -> Callable[..., Path]:
    """Writes something between speech and noise: a buzz that comes and goes."""

    def write(path: Path, seconds: float, rate: int = 16_000, channels: int = 1) -> Path:
        time = np.arange(round(seconds * rate)) / rate
        buzz = 0.3 * np.sign(np.sin(2 * np.pi * 120 * time)) * np.sin(2 * np.pi * 2.5 * time) ** 2
        noise = 0.02 * np.random.default_rng(0).standard_normal(len(time))
        soundfile.write(path, np.repeat((buzz + noise)[:, None], channels, 1).astype(np.float32), rate)
        return path

    return write

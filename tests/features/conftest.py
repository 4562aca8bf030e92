"""Small encoders and a voice-like signal for the feature tests."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dmt.config import SpeechConfig, TacotronConfig
from dmt.features import FeatureExtractor, SpeechEncoder, TacotronEncoder

SMALL = SpeechConfig(
    pretrained=None,
    width=32,
    layers=2,
    heads=4,
    feed_forward=64,
    conv_width=16,
    positional_groups=4,
    positional_kernel=16,
    whole_clip_seconds=3.0,
    chunk_seconds=1.0,
    context_seconds=1.0,
)
SMALL_TACOTRON = TacotronConfig(width=24, mels=40, conv_width=20, alphabet=" abcdefgh")


def voice(seconds: float, seed: int = 0) -> Tensor:
    """Four harmonic syllables per second with pauses and a little noise: [S] at 16 kHz."""
    generator = torch.Generator().manual_seed(seed)
    samples = round(seconds * 16000)
    time = torch.arange(samples, dtype=torch.float64) / 16000
    pitch = 120 + 20 * torch.sin(2 * math.pi * 0.7 * time)
    phase = 2 * math.pi * torch.cumsum(pitch, 0) / 16000
    buzz = sum(torch.sin(k * phase) / k for k in range(1, 20))
    syllables = torch.sin(2 * math.pi * 2 * time).clamp(min=0) * (torch.sin(2 * math.pi * 0.3 * time) > -0.7)
    noise = torch.randn(samples, generator=generator, dtype=torch.float64)
    return (0.1 * syllables * buzz + 0.001 * noise).float()


@pytest.fixture
def small_config() -> SpeechConfig:
    return SMALL


@pytest.fixture
def extractor() -> FeatureExtractor:
    torch.manual_seed(0)
    return FeatureExtractor(SpeechEncoder(SMALL), TacotronEncoder(SMALL_TACOTRON)).eval()


@pytest.fixture
def make_voice():
    return voice


@pytest.fixture
def samples_folder() -> Path:
    """Recordings that lie beside the repository and are not part of it."""
    shared = Path(os.environ.get("DMT_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    folder = shared / "dreamtalk" / "samples"
    if not folder.is_dir():
        pytest.skip(f"no sample recordings in {folder}")
    return folder

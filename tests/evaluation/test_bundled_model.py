"""The bundled model keeps what it was measured to do."""

import os
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from dmt.checkpoint import load_model
from dmt.decoder import UPPER
from dmt.evaluation import evaluate_lips, evaluate_silence
from dmt.evaluation.motion import motion
from dmt.face.styles import emotion_names

SHARED = Path(os.environ.get("DMT_SHARED", Path(__file__).resolve().parents[3] / "shared"))
PUBLISHED = SHARED / "dreamtalk" / "samples" / "published_english"
CHECKPOINT = Path(str(files("dmt") / "assets" / "demo.safetensors"))


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no sample recordings in {SHARED}: set DMT_SHARED")
def test_lips_follow_a_real_voice():
    paths = PUBLISHED / "audio_16k.wav", PUBLISHED / "facemotion.npy"
    results = [evaluate_lips(*paths, seed=seed) for seed in range(4)]  # the noise moves each by about 0.01
    assert all(r["frames"] == 414 and abs(r["best_lag_frames"]) <= 1 for r in results)
    assert np.mean([r["correlation"] for r in results]) >= 0.6
    assert np.mean([r["velocity_correlation"] for r in results]) >= 0.57
    assert np.mean([r["closed_below_open"] for r in results]) >= 0.77


def test_silence_rests():
    result = evaluate_silence(seconds=2.0)
    assert result["silence_max"] < 0.05 and result["silence_spread"] < 0.01
    assert result["noise_max"] < 0.06


def test_emotions_differ_in_the_upper_face():
    model = load_model(CHECKPOINT)
    wave = np.random.default_rng(0).standard_normal(32000).astype(np.float32) * 0.05
    means = [motion(model, wave, style=name, steps=2)[:, list(UPPER)].mean(0) for name in emotion_names()]
    distances = [np.linalg.norm(a - b) for i, a in enumerate(means) for b in means[:i]]
    assert len(means) == 8 and min(distances) > 0.3


def test_checkpoint_is_small_and_says_how_it_was_made():
    from safetensors import safe_open

    assert CHECKPOINT.stat().st_size < 20e6
    with safe_open(CHECKPOINT, "np") as file:
        metadata = file.metadata()
    assert "espeak" in metadata["record"] and "denoiser" in metadata["config"]

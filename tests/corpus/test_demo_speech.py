import subprocess
import sys
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture(scope="module")
def bundled():
    with resources.files("dmt").joinpath("assets/demo.flac").open("rb") as file:
        return soundfile.read(file, dtype="float32")


def test_length_level_and_pauses(bundled):
    wave, rate = bundled
    assert rate == 22050 and wave.ndim == 1
    assert 8.0 < len(wave) / rate < 9.5
    assert 0.85 < np.abs(wave).max() < 0.95 and abs(float(wave.mean())) < 1e-3
    frames = wave[: len(wave) // 441 * 441].reshape(-1, 441)  # 20 ms
    quiet = (np.sqrt((frames**2).mean(1)) < 0.01).mean()
    assert 0.08 < quiet < 0.4


def test_the_code_makes_the_bundled_file(bundled, tmp_path):
    pytest.importorskip("espeakng_loader", reason="espeak-ng comes with the extra [train]")
    output = tmp_path / "again.flac"
    # espeak-ng carries state between utterances, hence a process of its own.
    subprocess.run(
        [sys.executable, "-m", "dmt.corpus.demo_speech", "-o", str(output)],
        check=True,
        cwd=Path(__file__).resolve().parents[2],
    )
    wave, rate = soundfile.read(output, dtype="float32")
    assert rate == bundled[1] and wave.shape == bundled[0].shape
    assert np.abs(wave - bundled[0]).max() < 2e-3

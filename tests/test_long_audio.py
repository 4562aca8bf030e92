"""Memory of `dmt generate` does not grow with the sound: an hour needs what a minute needs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dmt.rates import SAMPLE_RATE

RUN = """
import resource, sys
import torch
from dmt.cli.app import run
torch.set_num_threads(1)
code = run(["generate", "--audio", sys.argv[1], "--output", sys.argv[2], "--checkpoint", sys.argv[3],
            "--size", "64", "--steps", "1", "--device", "cpu"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
sys.exit(code)
"""


def speak(path: Path, minutes: float) -> None:
    """Noise that swells and ebbs, written a second at a time."""
    random = np.random.default_rng(0)
    swell = np.sin(np.linspace(0, 2 * np.pi, SAMPLE_RATE, endpoint=False)) ** 2
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1) as file:
        for _ in range(round(60 * minutes)):
            file.write((0.1 * swell * random.standard_normal(SAMPLE_RATE)).astype(np.float32))


def peak(folder: Path, checkpoint: Path, minutes: float) -> int:
    """Largest resident memory, in kB, of a whole run on so many minutes; the video must be there in its length."""
    sound, video = folder / f"{minutes}.flac", folder / f"{minutes}.mp4"
    speak(sound, minutes)
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(sound), str(video), str(checkpoint)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"{round(60 * minutes) * 25} frames" in done.stdout.replace("\n", " ")
    kilobytes = int(done.stdout.split()[-1])
    print(f"{minutes} minutes of sound: {kilobytes / 1024:.0f} MiB at the most")
    return kilobytes


@pytest.mark.slow
def test_an_hour_needs_what_a_minute_needs(tmp_path: Path, tiny_checkpoint: Path) -> None:
    short, middle, long = (peak(tmp_path, tiny_checkpoint, minutes) for minutes in (1, 10, 60))
    assert middle < 1.1 * short and long < 1.1 * short, (short, middle, long)

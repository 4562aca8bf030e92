"""Memory of `generate` does not grow with the sound: an hour needs what a minute needs.

A whole hour of the bundled sentence, again and again, through the bundled model at 128 x 128 into an mp4. One run, on
an Intel Xeon (Emerald Rapids, 2 cores, with other work on them): 817 MB in memory after a minute of video, 797 after
two, 818 after ten, 823 after thirty and 827 after sixty, 865 at the most. The 10 MB are the mp4's index, which is
written at its end: an hour of black frames and silence, written without the rest, takes 10.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dmt.scene import asset

MINUTES = (1, 2, 10, 30, 60)
SLACK = 30.0
"""Megabytes."""
RUN = """
import sys
from pathlib import Path
import torch
import dmt
torch.set_num_threads(1)
left = [int(minute) for minute in sys.argv[3:]]

def report(stage, done, total):
    if stage == "encode" and left and done >= 1500 * left[0]:
        (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS")]
        print(left.pop(0), int(line.split()[1]) / 1024, flush=True)

made = dmt.load(device="cpu").generate(sys.argv[1], output=sys.argv[2], size=128, report=report)
print(made.frames, made.peak_memory / 2**20)
"""


def speak(path: Path, minutes: float) -> None:
    """The bundled sentence until so much time is over."""
    sentence, rate = soundfile.read(asset("demo.flac"), dtype="float32")
    left = round(60 * minutes * rate)
    with soundfile.SoundFile(path, "w", rate, 1) as file:
        while left > 0:
            file.write(np.asarray(sentence[:left]))
            left -= len(sentence)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_an_hour_needs_what_a_minute_needs(tmp_path: Path) -> None:
    speak(tmp_path / "hour.flac", MINUTES[-1])
    arguments = [str(tmp_path / "hour.flac"), str(tmp_path / "hour.mp4"), *map(str, MINUTES)]
    done = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *held, (frames, peak) = [[float(number) for number in line.split()] for line in done.stdout.splitlines()]
    print(*(f"{minute:.0f} min: {size:.0f} MB" for minute, size in held), f"at the most: {peak:.0f} MB", sep=", ")
    assert frames == 1500 * MINUTES[-1] and len(held) == len(MINUTES)
    first = held[0][1]
    assert all(size < first + SLACK for _, size in held), held
    assert peak < 1.1 * first

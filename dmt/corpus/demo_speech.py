"""Makes the bundled speech: espeak-ng reads our own text, softened by an equaliser and a small room.

python -m dmt.corpus.demo_speech -o demo.flac
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import soundfile
from scipy.signal import butter, fftconvolve, sosfilt

from ..atomic import atomic
from .espeak import Espeak

LINES = (
    ("Hello! No camera ever saw me.", 0.26),
    ("Give me a voice, and my lips will follow:", 0.24),
    ("big blue bubbles, warm maple pie.", 0.30),
    ("Now show me your picture!", 0.30),
)
"""What is said, and the pause after each line in seconds."""
VOICE = "en-us+f2"


def speech() -> tuple[np.ndarray, int]:
    """The bundled speech: wave [S] float32, peak 0.89, and its rate in Hz.

    espeak-ng carries state from one utterance to the next, so the same samples are promised
    only to a process that has not spoken before.
    """
    espeak = Espeak()
    espeak.seed(1)
    parts = [np.zeros(int(0.25 * espeak.rate), np.float32)]
    for line, pause in LINES:
        spoken = _trimmed(espeak.say(line, VOICE, rate=176, pitch=44, pitch_range=58).wave)
        parts += [spoken, np.zeros(int(pause * espeak.rate), np.float32)]
    wave = _in_a_room(_softened(np.concatenate(parts), espeak.rate), espeak.rate)
    return (wave * (0.89 / np.abs(wave).max())).astype(np.float32), espeak.rate


def _trimmed(wave: np.ndarray) -> np.ndarray:
    """Without the silence that espeak leaves at either end."""
    loud = np.flatnonzero(np.abs(wave) > 0.004)
    return wave[max(0, loud[0] - 200) : loud[-1] + 400]


def _softened(wave: np.ndarray, rate: int) -> np.ndarray:
    """Less buzz between 2.5 and 5 kHz, more chest, gentle compression: kinder than a bare formant synthesiser."""
    low = sosfilt(butter(2, 60, "highpass", fs=rate, output="sos"), wave)
    chest = sosfilt(butter(1, (140, 420), "bandpass", fs=rate, output="sos"), low)
    harsh = sosfilt(butter(1, (2500, 5200), "bandpass", fs=rate, output="sos"), low)
    even = sosfilt(butter(2, 8200, "lowpass", fs=rate, output="sos"), low + 0.35 * chest - 0.45 * harsh)
    level = np.sqrt(sosfilt(butter(1, 8, "lowpass", fs=rate, output="sos"), even**2).clip(0) + 1e-7)
    return even * (0.08 / (level + 0.02)) ** 0.3


def _in_a_room(wave: np.ndarray, rate: int) -> np.ndarray:
    """A small furnished room: a few early echoes and a short tail, 18 dB below the voice."""
    rng = np.random.default_rng(12)
    t = np.arange(int(0.22 * rate)) / rate
    tail = rng.standard_normal(len(t)) * np.exp(-t / 0.045) * (t > 0.006)
    tail = sosfilt(butter(1, 3200, "lowpass", fs=rate, output="sos"), tail)
    tail *= 0.13 / np.sqrt((tail**2).sum())
    return wave + fftconvolve(wave, tail)[: len(wave)]


def main() -> None:
    """Write the sentence of the demonstration as a FLAC file."""
    parser = argparse.ArgumentParser(prog="python -m dmt.corpus.demo_speech", description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("demo.flac"))
    output = parser.parse_args().output
    wave, rate = speech()
    with atomic(output) as part:
        soundfile.write(part, wave, rate, format="FLAC", subtype="PCM_16")
    print(f"{output}: {len(wave) / rate:.2f} s at {rate} Hz")


if __name__ == "__main__":
    main()

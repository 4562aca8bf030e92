"""Sounds, films and pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, damaged
from ..face.image import read_image
from ..face.landmarks import find_landmarks
from ..media import audio_blocks, check_audio
from ..media.film import film_info, film_pictures
from ..rates import SAMPLE_RATE
from .finding import Finding

PIECES = 400
"""Pieces whose loudness is drawn."""


def from_media(path: Path) -> Finding:
    """A film, with or without sound, or a sound."""
    with damaged(path, "a sound or a film"):
        try:
            film = film_info(path)
        except InputError as error:
            if "no picture track" not in str(error):
                raise
            return _sound(path)
        facts = [
            ("pictures", f"{film.width} x {film.height}, {film.rate:.4g} a second, {film.codec}"),
            ("length", f"{film.seconds:.2f} s"),
        ]
        takes = ["dmt extract {} -o clip.mat"]
        try:
            sound = check_audio(path)
            facts.append(("sound", f"{sound.samples / SAMPLE_RATE:.2f} s, peak {sound.peak:.3f}"))
            takes.append("dmt generate --audio {}")
            loudness, seconds = _loudness(path, sound.samples), sound.samples / SAMPLE_RATE
        except InputError as error:
            loudness, seconds = None, 0.0
            facts.append(("sound", "none" if "no sound track" in str(error) else str(error)))
        first = next(film_pictures(path))[1]
        return Finding("film", tuple(facts), tuple(takes), picture=first, loudness=loudness, seconds=seconds)


def _sound(path: Path) -> Finding:
    sound = check_audio(path)
    facts = [
        ("length", f"{sound.samples / SAMPLE_RATE:.2f} s"),
        ("sound track", f"{sound.rate} Hz, {sound.channels} channel{'s' if sound.channels > 1 else ''} when written"),
        ("peak", f"{sound.peak:.3f}" + (" (silent)" if sound.peak < 1e-4 else "")),
    ]
    takes = ("dmt generate --audio {}", "dreamtalk --wav_path {}")
    seconds = sound.samples / SAMPLE_RATE
    return Finding("sound", tuple(facts), takes, loudness=_loudness(path, sound.samples), seconds=seconds)


def _loudness(path: Path, samples: int) -> NDArray[np.float32]:
    """[n], n at most `PIECES`."""
    piece = max(1, -(-samples // PIECES))
    return np.array([np.abs(block).max() for block in audio_blocks(path, piece)], np.float32)


def from_picture(path: Path) -> Finding:
    """A picture, and the face in it."""
    with damaged(path, "a picture"):
        picture = read_image(path)
        height, width = picture.shape[:2]
        facts = [("size", f"{width} x {height} pixels")]
        try:
            landmarks, notes = find_landmarks(picture, str(path))
        except InputError:
            return Finding("picture without a face from the front", tuple(facts), picture=picture)
        eyes = float(np.linalg.norm(landmarks[33, :2] - landmarks[263, :2]))
        facts.append(("face", f"{eyes:.0f} pixels between the outer eye corners"))
        facts += [("note", note) for note in notes]
        takes = ("dmt generate --image {}", "dreamtalk --image_path {}")
        return Finding("portrait", tuple(facts), takes, picture=picture, landmarks=landmarks)

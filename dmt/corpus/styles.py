"""The bundled style clips: one synthetic clip for each emotion, `assets/styles.npz`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from ..rates import FRAME_RATE, STYLE_FRAMES
from .espeak import fresh_synthesiser
from .expression import Style, coefficients, emotions, make_style
from .sentences import sentence
from .targets import LipCurves, lip_curves, segments


def speak_lips(rng: np.random.Generator, frames: int, vigour: float, language: str = "en-us") -> LipCurves:
    """Lip curves of `frames` frames of random speech, without keeping the sound."""
    parts, at = [], 0.0
    espeak = fresh_synthesiser(int(rng.integers(2**31)))
    while at < frames / FRAME_RATE:
        spoken = espeak.say(sentence(language, rng), language, rate=int(rng.integers(140, 200)))
        for part in segments(spoken):
            parts.append(replace(part, start=part.start + at, end=part.end + at))
        at += len(spoken.wave) / spoken.rate + rng.uniform(0.1, 0.6)
    return lip_curves(parts, frames, vigour=vigour)


def style_rows(style: Style, rng: np.random.Generator, frames: int = STYLE_FRAMES) -> np.ndarray:
    """A clip [frames, 64] float32 of someone speaking with this feeling."""
    return coefficients(speak_lips(rng, frames, style.vigour), style, rng)


def write_styles(path: str | Path, *, seed: int = 0) -> None:
    """Write one clip [256, 64] float16 for each emotion, an even blend of the measured speakers."""
    clips = {}
    for index, name in enumerate(emotions()):
        rng = np.random.default_rng([seed, index])
        style = make_style(index, rng, actor=np.full(3, 1 / 3))
        clips[name] = style_rows(style, rng).astype(np.float16)
    target = Path(path)
    temporary = target.with_suffix(".part.npz")
    np.savez_compressed(temporary, **clips)
    temporary.replace(target)

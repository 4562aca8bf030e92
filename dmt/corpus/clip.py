"""One clip of the corpus: sentences spoken by one voice with one feeling, in one recording."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from scipy.signal import resample_poly

from ..rates import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME
from . import augment
from .espeak import Spoken, fresh_synthesiser
from .expression import coefficients, emotions, make_style
from .phonemes import Sound
from .sentences import LANGUAGES, SHARES, sentence
from .targets import Segment, lip_curves, segments

CLIP_FRAMES = 200
"""Frames of every clip (8 s): equal lengths make batches without padding."""

STYLE_CLIP_FRAMES = 128
"""Frames of the style clip that goes with it: another stretch of the same face, about as long as filmed ones."""

LEAD = 0.04
"""Seconds by which lips run ahead of the sound: a frame is seen for 40 ms, and mouths are shaped before they sound."""

_TRAIN = """
    m1 m2 m3 m4 m5 m6 m7 f1 f2 f3 f4 klatt klatt2 klatt3 klatt4 Alex Alicia Andrea Andy Annie Denis Diogo
    Gene Henrique Hugo Jacky Lee Mario Michael Mike adam anika antonio aunty belinda benjamin boris david ed
    edward grandma grandpa gustave ian iven john kaukovalta linda marcelo max michel miguel norbert pablo
    paul pedro quincy rob robert sandro shelby steph travis victor zac whisper
"""
TRAIN_VOICES = tuple(_TRAIN.split())
"""espeak's variants, without those whose sound is not repeatable."""

VALIDATION_VOICES = ("m8", "f5", "Marco", "Gene2", "edward2", "steph2", "iven3", "mike2")
"""Variants never heard in training."""


@dataclass(frozen=True)
class Clip:
    """wave [S] int16 at 16 kHz; coefficients [T, 64] and style [128, 64] float16; lips [T, 2] float16 (opening,
    width offset); sounds [2T] int8; closures [N, 2] int32 frames; emotion and language indices."""

    wave: np.ndarray
    coefficients: np.ndarray
    style: np.ndarray
    lips: np.ndarray
    sounds: np.ndarray
    closures: np.ndarray
    emotion: int
    language: int


def make_clip(
    rng: np.random.Generator, *, validation: bool = False, clean: bool = False, babble: np.ndarray | None = None
) -> Clip:
    """A clip drawn by `rng`: the same generator state always gives the same clip.

    clean: espeak-ng's voice as it is, well recorded: nothing is done to the voice, no room, noise, channel or
    clipping. babble: [S] other people's speech to mix in
    at times.
    """
    emotion = int(rng.integers(len(emotions())))
    style = make_style(emotion, rng)
    language = int(rng.choice(len(LANGUAGES), p=SHARES))
    wave, parts = _speak(LANGUAGES[language], rng, validation, clean)
    lips = lip_curves(parts, CLIP_FRAMES, vigour=style.vigour, lead=LEAD)
    face = coefficients(lips, style, rng)
    wave = wave * (0.7 / (np.abs(wave).max() + 1e-9)) if clean else augment.record(wave, rng, babble)
    # The style clip is another time of the same face: its slow variation and its words are its own.
    words = _shuffled(parts, rng)
    style_lips = lip_curves(words, STYLE_CLIP_FRAMES, vigour=style.vigour)
    style_face = coefficients(style_lips, style, rng)
    return Clip(
        (wave * 32767).astype(np.int16),
        face.astype(np.float16),
        style_face.astype(np.float16),
        np.stack([lips.opening, lips.width], 1).astype(np.float16),
        lips.sounds,
        lips.closures,
        emotion,
        language,
    )


def _speak(language: str, rng: np.random.Generator, validation: bool, clean: bool) -> tuple[np.ndarray, list[Segment]]:
    """Sentences with silences before, between and after, [S] at 16 kHz, and their segments."""
    voice = f"{language}+{rng.choice(VALIDATION_VOICES if validation else TRAIN_VOICES)}"
    tract = 1.0 if clean else float(np.exp(rng.uniform(np.log(0.82), np.log(1.2))))
    rate = int(np.clip(rng.normal(165, 32), 95, 290) * tract)
    settings = {"rate": rate, "pitch": int(rng.integers(5, 95)), "pitch_range": int(rng.integers(10, 95))}
    samples = CLIP_FRAMES * SAMPLES_PER_FRAME
    wave, parts = np.zeros(samples), []
    espeak = fresh_synthesiser(int(rng.integers(2**31)))
    at = rng.exponential(0.35) if rng.random() < 0.8 else rng.uniform(0, 3)
    if rng.random() < 0.02:
        return wave, parts  # nobody speaks
    end = CLIP_FRAMES / FRAME_RATE - (0 if rng.random() < 0.6 else rng.uniform(0, 2.5))
    while at < end - 0.5:
        spoken = espeak.say(sentence(language, rng), voice, **settings)
        sound, timed = _resized(spoken, tract)
        sound, timed = sound[: max(0, int((end - at) * SAMPLE_RATE))], [p for p in timed if p.start + at < end]
        if not clean and rng.random() < 0.85 and len(sound) > SAMPLE_RATE // 4:
            sound = augment.change_voice(sound, _voicing(timed, len(sound)), rng)
        if not clean and rng.random() < 0.7:
            edges = np.array([(p.start, min(p.end, len(sound) / SAMPLE_RATE)) for p in timed]).reshape(-1, 2)
            sound = augment.rebalance(sound, *(edges.T * SAMPLE_RATE).astype(int), rng)
        first = int(at * SAMPLE_RATE)
        wave[first : first + len(sound)] += sound[: samples - first]
        parts += [replace(p, start=p.start + at, end=min(p.end + at, end)) for p in timed]
        at += len(sound) / SAMPLE_RATE + rng.exponential(0.4)
    return wave, parts


def _resized(spoken: Spoken, tract: float) -> tuple[np.ndarray, list[Segment]]:
    """To 16 kHz as if the vocal tract were `tract` times as long: slower and deeper; times follow."""
    ratio = Fraction(SAMPLE_RATE * tract / spoken.rate).limit_denominator(60)
    wave = resample_poly(spoken.wave.astype(np.float64), ratio.numerator, ratio.denominator)
    scale = float(ratio) * spoken.rate / SAMPLE_RATE
    timed = segments(spoken.phonemes, spoken.wave, spoken.rate)
    return wave, [replace(p, start=p.start * scale, end=p.end * scale) for p in timed]


def _voicing(parts: list[Segment], samples: int) -> np.ndarray:
    """Which 10 ms frames have a voice."""
    voiced = np.zeros(samples // augment.HOP + 2)
    for part in parts:
        if part.letter and part.viseme.sound != Sound.PAUSE and part.viseme.voiced:
            voiced[int(part.start * 100) : int(part.end * 100) + 1] = 1.0
    return voiced


def _shuffled(parts: list[Segment], rng: np.random.Generator) -> list[Segment]:
    """Segments in another order in time: new lip motion of the same kind without another synthesis."""
    result, at = [], float(rng.uniform(0, 0.3))
    for index in rng.permutation(len(parts)):
        length = parts[index].end - parts[index].start
        result.append(replace(parts[index], start=at, end=at + length))
        at += length
    return result

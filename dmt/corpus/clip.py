"""One clip of the corpus: sentences spoken by one voice with one feeling, in one recording."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
from scipy.signal import resample_poly

from ..rates import FRAME_RATE, SAMPLE_RATE, SAMPLES_PER_FRAME
from . import augment
from .espeak import fresh_synthesiser
from .expression import coefficients, emotions, make_style
from .phonemes import Sound
from .sentences import LANGUAGES, SHARES, language_number, sentence
from .speakers import Speaker, say
from .spoken import Spoken
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


RECORDED_SHARE = 0.5
"""Share of the clips spoken by voices made from recordings, where there are any."""


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
    rng: np.random.Generator,
    *,
    validation: bool = False,
    clean: bool = False,
    babble: np.ndarray | None = None,
    speakers: Sequence[Speaker] = (),
    share: float = RECORDED_SHARE,
) -> Clip:
    """A clip drawn by `rng`: the same generator state always gives the same clip.

    clean: the voice as it is, well recorded: nothing is done to the voice, no room, noise, channel or
    clipping. babble: [S] other people's speech to mix in at times. speakers: voices made from recordings, one of
    which speaks in place of espeak-ng's in `share` of the clips.
    """
    emotion = int(rng.integers(len(emotions())))
    style = make_style(emotion, rng)
    recorded = bool(speakers) and rng.random() < share
    voice = _recorded(speakers, rng, clean) if recorded else _computed(rng, validation, clean)
    wave, parts = _speak(voice, rng, clean)
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
        voice.language,
    )


@dataclass(frozen=True)
class _Voice:
    """Who speaks a clip. start: from a seed, a function that gives another sentence at each call; tract: length of the
    vocal tract; changed: in what share of the sentences the voice is changed."""

    start: Callable[[int], Callable[[np.random.Generator], Spoken]]
    language: int
    tract: float
    changed: float


def _computed(rng: np.random.Generator, validation: bool, clean: bool) -> _Voice:
    """One of espeak-ng's voices."""
    language = int(rng.choice(len(LANGUAGES), p=SHARES))
    name = f"{LANGUAGES[language]}+{rng.choice(VALIDATION_VOICES if validation else TRAIN_VOICES)}"
    tract = _tract(rng, clean)
    rate = int(np.clip(rng.normal(165, 32), 95, 290) * tract)
    settings = {"rate": rate, "pitch": int(rng.integers(5, 95)), "pitch_range": int(rng.integers(10, 95))}

    def start(seed: int) -> Callable[[np.random.Generator], Spoken]:
        espeak = fresh_synthesiser(seed)
        return lambda words: espeak.say(sentence(LANGUAGES[language], words), name, **settings)

    return _Voice(start, language, tract, 0.85)


def _recorded(speakers: Sequence[Speaker], rng: np.random.Generator, clean: bool) -> _Voice:
    """One of `speakers`, by their weights."""
    weights = np.array([speaker.weight for speaker in speakers])
    speaker = speakers[int(rng.choice(len(speakers), p=weights / weights.sum()))]
    tract = _tract(rng, clean)
    stretch = float(np.clip(np.exp(rng.normal(0.05, 0.17)), 0.7, 1.6)) / tract

    def start(_: int) -> Callable[[np.random.Generator], Spoken]:
        return lambda words: say(sentence(speaker.language, words), speaker, stretch=stretch)

    return _Voice(start, language_number(speaker.language), tract, 0.5)


def _tract(rng: np.random.Generator, clean: bool) -> float:
    return 1.0 if clean else float(np.exp(rng.uniform(np.log(0.82), np.log(1.2))))


def _speak(voice: _Voice, rng: np.random.Generator, clean: bool) -> tuple[np.ndarray, list[Segment]]:
    """Sentences with silences before, between and after, [S] at 16 kHz, and their segments."""
    samples = CLIP_FRAMES * SAMPLES_PER_FRAME
    wave, parts = np.zeros(samples), []
    another = voice.start(int(rng.integers(2**31)))
    at = rng.exponential(0.35) if rng.random() < 0.8 else rng.uniform(0, 3)
    if rng.random() < 0.02:
        return wave, parts  # nobody speaks
    end = CLIP_FRAMES / FRAME_RATE - (0 if rng.random() < 0.6 else rng.uniform(0, 2.5))
    while at < end - 0.5:
        sound, timed = _resized(another(rng), voice.tract)
        sound, timed = sound[: max(0, int((end - at) * SAMPLE_RATE))], [p for p in timed if p.start + at < end]
        if not clean and rng.random() < voice.changed and len(sound) > SAMPLE_RATE // 4:
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
    timed = segments(spoken)
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

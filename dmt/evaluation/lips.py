"""Do the lips follow the voice, close, rest, and do the emotions differ? One dictionary of numbers each."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ..corpus import Corpus, build_corpus
from ..decoder import UPPER
from ..errors import InputError, damaged, file_at
from ..face.basis import LandmarkBasis
from ..face.styles import emotion_names, style_clip
from ..media import read_audio
from ..model import MotionModel
from ..rates import COEFFICIENTS, SAMPLE_RATE
from .motion import model_of, motion

CLOSED = 0.02
"""Openings under this, in eye distances, are closed lips."""

NEARLY_CLOSED = 0.03
"""Openings under this are closed in tracked footage, which has some noise."""

LAGS = 10
"""Frames by which the motion is shifted either way in search of the best lag."""

SYNTHETIC_MINUTES = 9.0
SYNTHETIC_SEED = 20_000
"""The evaluation's own clips: validation voices, and sentences that no training seed has said."""


def evaluate_lips(
    audio: str | Path, reference: str | Path, checkpoint: str | Path | None = None, seed: int = 0
) -> dict[str, float | int]:
    """Mouth opening made from `audio` against that of `reference`, through the landmark basis.

    reference: .npy [T, >= 64] whose first 64 columns are coefficients at 25 frames a second.
    Returns correlation (Pearson, zero lag), best_lag_frames (positive: the made mouth is late),
    correlation_at_best_lag, frames compared, the spread of both openings in eye distances, velocity_correlation
    (of the changes from frame to frame), and closed_below_open: how often the made mouth is less open in a frame
    where the reference is closed than in one where it is open (0.5: chance), None without such frames.
    Raises InputError for files that cannot be read, or fewer than 50 common frames.
    """
    wanted = _opening(_reference(reference))
    made = _opening(motion(model_of(checkpoint), read_audio(audio), seed=seed))
    frames = min(len(wanted), len(made))
    if frames < 50:
        raise InputError(f"{audio} and {reference} have {frames} frames in common; at least 50 are needed")
    scores = lag_correlations(made[:frames], wanted[:frames])
    best = max(scores, key=lambda lag: scores[lag])
    return {
        "correlation": round(scores[0], 4),
        "best_lag_frames": best,
        "frames": frames,
        "correlation_at_best_lag": round(scores[best], 4),
        "spread": round(float(made[:frames].std()), 4),
        "reference_spread": round(float(wanted[:frames].std()), 4),
        "velocity_correlation": round(lag_correlations(np.diff(made[:frames]), np.diff(wanted[:frames]), 0)[0], 4),
        "closed_below_open": closed_below_open(made[:frames], wanted[:frames]),
    }


def closed_below_open(made: NDArray, wanted: NDArray) -> float | None:
    """Of all pairs of a frame in which `wanted` is closed and one in which it is open, the share in which `made` is
    less open in the first (the area under the ROC curve; equals count half); None where there are no such pairs."""
    closed, opened = made[wanted < NEARLY_CLOSED], made[wanted >= NEARLY_CLOSED]
    if not len(closed) or not len(opened):
        return None
    difference = opened[:, None] - closed[None]
    return round(float((difference > 0).mean() + (difference == 0).mean() / 2), 4)


def lag_correlations(made: NDArray, wanted: NDArray, lags: int = LAGS) -> dict[int, float]:
    """Pearson correlation of made[i + lag] with wanted[i] for lags in -lags..lags, over the frames both have."""
    scores = {}
    for lag in range(-lags, lags + 1):
        a = made[max(0, lag) : len(made) + min(0, lag)]
        b = wanted[max(0, -lag) : len(wanted) + min(0, -lag)]
        # A mouth that never moves follows nothing.
        moves = a.std() > 1e-9 and b.std() > 1e-9
        scores[lag] = float(np.corrcoef(a, b)[0, 1]) if moves else 0.0
    return scores


def evaluate_closures(
    checkpoint: str | Path | None = None, corpus: str | Path | None = None, *, clips: int = 64, seed: int = 0
) -> dict[str, float | int]:
    """Share of the /p b m/ of held-out synthetic voices whose opening goes under 0.02 eye distances.

    corpus: a folder with validation shards, which are recorded as badly as the training clips; None makes some well
    recorded ones (about a minute). Each clip is driven by its own style.
    Also returns the correlation of the openings with the targets.
    """
    with tempfile.TemporaryDirectory() as temporary:
        data = _validation(corpus, temporary)
    model = model_of(checkpoint)
    clips = min(clips, len(data))
    made = [_opening(rows) for rows in _clip_motion(model, data, clips, seed)]
    # A sound may close in the frame before or after the one the phoneme's time points at.
    lows = [made[c][max(0, a - 1) : b + 2].min() for c, a, b in data.closures if c < clips and a < len(made[c])]
    truth = [data.lips[c, : len(m), 0].astype(np.float32) for c, m in enumerate(made)]
    correlation = float(np.corrcoef(np.concatenate(made), np.concatenate(truth))[0, 1])
    return {
        "closed_share": round(float(np.mean(np.array(lows) < CLOSED)), 4) if lows else 0.0,
        "closures": len(lows),
        "clips": clips,
        "correlation": round(correlation, 4),
    }


def evaluate_silence(checkpoint: str | Path | None = None, *, seconds: float = 4.0, seed: int = 0) -> dict[str, float]:
    """The mouth in digital silence and in faint noise (-60 dB): mean, greatest and spread of the opening."""
    model = model_of(checkpoint)
    samples = int(seconds * SAMPLE_RATE)
    noise = np.random.default_rng(seed).standard_normal(samples).astype(np.float32) * 1e-3
    result = {}
    for name, wave in (("silence", np.zeros(samples, np.float32)), ("noise", noise)):
        opening = _opening(motion(model, wave, seed=seed))
        result[f"{name}_mean"] = round(float(opening.mean()), 4)
        result[f"{name}_max"] = round(float(opening.max()), 4)
        result[f"{name}_spread"] = round(float(opening.std()), 4)
    return result


def evaluate_emotions(
    audio: str | Path | None = None, checkpoint: str | Path | None = None, seed: int = 0
) -> dict[str, object]:
    """How far the eight emotions' mean upper faces lie apart, for one voice.

    Distances are of mean upper-face coefficients (51 numbers), divided by the spread within an emotion
    (root mean square over emotions and coefficients, times sqrt(51)). audio: None takes bundled speech.
    Returns the least and the mean distance, the closest pair and the whole table.
    """
    model = model_of(checkpoint)
    wave = read_audio(_bundled_speech() if audio is None else audio)
    names = emotion_names()
    made = np.stack([motion(model, wave, style=name, seed=seed)[:, list(UPPER)] for name in names])  # [8, T, 51]
    means, within = made.mean(1), np.sqrt(made.var(1).sum(-1).mean())
    table = np.linalg.norm(means[:, None] - means[None], axis=-1) / max(float(within), 1e-9)
    pairs = [(table[i, j], names[i], names[j]) for i in range(len(names)) for j in range(i)]
    least, first, second = min(pairs)
    return {
        "least_distance": round(float(least), 3),
        "closest": [first, second],
        "mean_distance": round(float(np.mean([p[0] for p in pairs])), 3),
        "emotions": list(names),
        "distances": np.round(table, 2).tolist(),
    }


def _clip_motion(model: MotionModel, data: Corpus, clips: int, seed: int) -> Iterator[NDArray[np.float32]]:
    for index in range(clips):
        wave = data.wave[index].astype(np.float32) / 32768.0
        style = style_clip(data.style[index].astype(np.float32))
        yield motion(model, wave, style=style, seed=seed + index)


def _validation(corpus: str | Path | None, temporary: str) -> Corpus:
    if corpus is None:
        build_corpus(temporary, minutes=SYNTHETIC_MINUTES, seed=SYNTHETIC_SEED, workers=1, clean_validation=True)
        corpus = temporary
    return Corpus.load(corpus, "validation")


def _opening(coefficients: NDArray) -> NDArray[np.float32]:
    return LandmarkBasis.load().mouth_opening(torch.as_tensor(coefficients)).numpy()


def _reference(path: str | Path) -> NDArray[np.float32]:
    file_at(path, "a .npy file of coefficients")
    with damaged(path, "a numpy file of coefficients (.npy)"):
        rows = np.load(path, allow_pickle=False, mmap_mode="r")  # mapped: the file may hold less than it promises
    numbers = isinstance(rows, np.ndarray) and rows.dtype.kind in "fiu"
    if not numbers or rows.ndim != 2 or rows.shape[1] < COEFFICIENTS or not len(rows):
        raise InputError(f"{path} must hold [frames, at least {COEFFICIENTS}] numbers")
    rows = rows[:, :COEFFICIENTS].astype(np.float32)
    if not np.isfinite(rows).all():
        raise InputError(f"{path} holds numbers that are not finite")
    return rows


def _bundled_speech() -> Path:
    from importlib.resources import files

    return Path(str(files("dmt") / "assets" / "demo.flac"))


__all__ = [
    "evaluate_closures",
    "evaluate_emotions",
    "evaluate_lips",
    "evaluate_silence",
    "lag_correlations",
]

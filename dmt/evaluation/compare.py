"""`evaluate_videos`: every measure of generated videos against their references, frame by frame, in flat memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..data.tracks import read_motion, sidecar
from ..errors import InputError
from ..media import read_audio
from ..media.probe import has_sound
from ..rates import FRAME_RATE
from .coefficients import coefficient_measures
from .config import EvaluationConfig
from .faces import face_curves, face_measures, tracker_class
from .footage import Pair, frames_at_25, pair_up, scaled
from .frechet import (
    STRETCH,
    Moments,
    frechet_distance,
    picture_features,
    picture_network,
    video_features,
    video_network,
)
from .images import decibels, picture_curves
from .lpips import Lpips
from .side import Side
from .syncnet import SIZE, SyncNet, lip_sync

PORTION = STRETCH
"""Frames of a pair that are held at once."""

LOST = 0.2
"""Share of frames without a face above which measures of the face are not given."""

Progress = Callable[[int, int], None]
"""Called with frames compared and frames in all (estimated from the headers)."""


@dataclass(frozen=True)
class VideoScores:
    """One pair. curves: name -> [T], NaN where there is no face; measures: name -> number; missing: what could
    not be measured -> why; notes: how lengths, rates and sizes were matched."""

    pair: Pair
    frames: int
    curves: dict[str, NDArray[np.float64]]
    measures: dict[str, float]
    missing: dict[str, str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Evaluation:
    """All pairs; measures, missing and notes of all together."""

    config: EvaluationConfig
    videos: tuple[VideoScores, ...]
    measures: dict[str, float]
    missing: dict[str, str]
    notes: tuple[str, ...]
    tracker: str | None

    def not_measured(self) -> dict[str, str]:
        """What some or all videos lack -> why (the first video's reason, and of how many where not of all)."""
        reasons = dict(self.missing)
        for name in dict.fromkeys(name for video in self.videos for name in video.missing):
            lacking = [video for video in self.videos if name in video.missing]
            few = "" if len(lacking) == len(self.videos) else f" ({len(lacking)} of {len(self.videos)} videos)"
            reasons[name] = lacking[0].missing[name] + few
        return reasons

    def mean(self, name: str) -> float | None:
        """Mean over the videos that have the measure; None where none has it."""
        values = [video.measures[name] for video in self.videos if name in video.measures]
        return float(np.mean(values)) if values else None

    def spread(self, name: str) -> float | None:
        """Standard deviation over videos (N - 1); None with fewer than two."""
        values = [video.measures[name] for video in self.videos if name in video.measures]
        return float(np.std(values, ddof=1)) if len(values) > 1 else None


@dataclass
class _Tools:
    """What is loaded once for all pairs."""

    config: EvaluationConfig
    lpips: Lpips | None = None
    syncnet: SyncNet | None = None
    fid: tuple | None = None
    fvd: tuple | None = None
    missing: dict[str, str] = field(default_factory=dict)
    tracker: str | None = None


def evaluate_videos(
    generated: str | Path,
    reference: str | Path,
    config: EvaluationConfig | None = None,
    *,
    progress: Progress | None = None,
) -> Evaluation:
    """Compare videos of the same name in two folders (or two files).

    Measures whose weights are not given are listed in `missing` with what they need; nothing is left out silently.
    Raises InputError: no pairs, videos that cannot be read, bad options, weights that cannot be loaded.
    """
    config = config or EvaluationConfig()
    config.check()
    pairs, notes = pair_up(generated, reference)
    tools = _load(config)
    total, done, scores = sum(_estimate(pair) for pair in pairs), 0, []
    for pair in pairs:
        before = done
        for frames, result in _compare(pair, tools):
            done = before + frames
            if progress:
                progress(done, max(total, done))
            if result is not None:
                scores.append(result)
    measures = {}
    for name, parts in (("fid", tools.fid), ("fvd", tools.fvd)):
        if parts is None:
            continue
        try:
            measures[name] = frechet_distance(*parts[1:])
        except InputError as error:
            tools.missing[name] = str(error)
    return Evaluation(config, tuple(scores), measures, tools.missing, tuple(notes), tools.tracker)


def _load(config: EvaluationConfig) -> _Tools:
    tools = _Tools(config)
    if config.landmarks != "none":
        tools.tracker = tracker_class(config.landmarks).name
    if config.lpips is not None:
        tools.lpips = Lpips.load(config.lpips, config.lpips_net)
    else:
        tools.missing[f"lpips_{config.lpips_net}"] = "no backbone given: --lpips PATH, or --lpips hub to download it"
    if config.syncnet is not None:
        tools.syncnet = SyncNet.load(config.syncnet)
    else:
        tools.missing["lse_c"] = tools.missing["lse_d"] = "no weights given: --syncnet PATH of syncnet_v2.model"
    if config.fid_network is not None:
        tools.fid = (picture_network(config.fid_network), Moments(), Moments())
    else:
        tools.missing["fid"] = "no network given: --fid-network PATH of a TorchScript (inception-2015-12-05.pt)"
    if config.fvd_network is not None:
        tools.fvd = (video_network(config.fvd_network), Moments(), Moments())
    else:
        tools.missing["fvd"] = "no network given: --fvd-network PATH of a TorchScript (i3d_torchscript.pt)"
    return tools


def _estimate(pair: Pair) -> int:
    """Frames of the pair, by the headers."""
    from ..media.film import film_info

    lengths = [round(film_info(p).seconds * FRAME_RATE) for p in (pair.made, pair.reference) if os.path.isfile(p)]
    return min(lengths, default=0)


def _compare(pair: Pair, tools: _Tools) -> Iterator[tuple[int, VideoScores | None]]:
    """(frames so far, None) after each portion; with the last the scores."""
    config, missing, notes = tools.config, {}, []
    sides = [Side(path, config) for path in (pair.made, pair.reference)]
    parts: dict[str, list[NDArray]] = {}
    frames = 0
    with ExitStack() as stack:
        for side in sides:
            side.open(stack)
        while True:
            made, reference = (side.take(PORTION) for side in sides)
            count = min(len(made), len(reference))
            if count:
                frames += count
                for side in sides:
                    side.keep(count)
                for name, curve in picture_curves(made[:count], reference[:count], tools.lpips).items():
                    parts.setdefault(name, []).append(curve)
                _add_features(tools, made[:count], reference[:count])
                yield frames, None
            if len(made) < PORTION or len(reference) < PORTION:
                break
        for side in sides:
            side.drain()
    if not frames:
        raise InputError(f"{pair.made} and {pair.reference} have no frame in common")
    curves = {name: np.concatenate(values) for name, values in parts.items()}
    measures = {name: float(curve.mean()) for name, curve in curves.items() if name != "squared_error"}
    measures["psnr_pooled"] = decibels(float(curves.pop("squared_error").mean()))
    notes += _matching_notes(sides, config)
    _add_face(sides, curves, measures, missing)
    _add_coefficients(pair, measures, missing)
    if tools.syncnet is not None:
        _add_sync(pair, sides[0], tools.syncnet, measures, missing)
    yield frames, VideoScores(pair, frames, curves, measures, missing, tuple(notes))


def _add_features(tools: _Tools, made: NDArray[np.uint8], reference: NDArray[np.uint8]) -> None:
    for side, frames in ((1, made), (2, reference)):
        if tools.fid is not None:
            tools.fid[side].add(picture_features(tools.fid[0], frames))
        if tools.fvd is not None and len(frames) == STRETCH:
            tools.fvd[side].add(video_features(tools.fvd[0], frames))


def _matching_notes(sides: list[Side], config: EvaluationConfig) -> list[str]:
    notes = []
    for side in sides:
        if abs(side.rate - FRAME_RATE) > 0.01:
            notes.append(f"{side.path.name}: {side.rate:.4g} frames a second, compared at {FRAME_RATE}")
        if side.shape[0] != side.shape[1] and config.crop == "none":
            notes.append(
                f"{side.path.name}: {side.shape[1]} x {side.shape[0]} pixels made square; --crop face keeps faces"
            )
    if sides[0].count != sides[1].count:
        notes.append(
            f"{sides[0].count} generated and {sides[1].count} reference frames; the end of the longer is left out"
        )
    return notes


def _add_face(
    sides: list[Side], curves: dict[str, NDArray], measures: dict[str, float], missing: dict[str, str]
) -> None:
    names = ("m_lmd", "f_lmd", "aperture_correlation", "blink_rate", "jitter")
    if not sides[0].landmarks:
        missing.update(dict.fromkeys(names, "landmarks were not asked for (--landmarks none)"))
        return
    made, reference = (side.points() for side in sides)
    lost = [float(np.isnan(points[:, 0, 0]).mean()) for points in (made, reference)]
    if max(lost) > LOST:
        side = "generated" if lost[0] >= lost[1] else "reference"
        missing.update(dict.fromkeys(names, f"no face in {max(lost):.0%} of the {side} frames"))
        return
    found = face_curves(made, reference)
    curves.update(found)
    measures["m_lmd"], measures["f_lmd"] = float(np.nanmean(found["m_lmd"])), float(np.nanmean(found["f_lmd"]))
    over_time = face_measures(made, reference, sides[0].sees_opening)
    measures.update(over_time)
    if not over_time:
        missing.update(dict.fromkeys(names[2:], "fewer than 25 frames with a face in both"))
    elif not sides[0].sees_opening:
        missing["blink_rate"] = "the pixel tracker does not see lids; install MediaPipe (extra `face`)"


def _add_coefficients(pair: Pair, measures: dict[str, float], missing: dict[str, str]) -> None:
    files = [sidecar(path) for path in (pair.made, pair.reference)]
    if None in files:
        which = " and ".join(str(p) for p, f in zip((pair.made, pair.reference), files, strict=True) if f is None)
        missing["coefficients"] = f"no .mat or .npy of the same name beside {which}"
        return
    made, reference = (np.concatenate(read_motion(path), axis=1) for path in files)
    measures.update(coefficient_measures(made, reference))


def _add_sync(pair: Pair, side: Side, network: SyncNet, measures: dict[str, float], missing: dict[str, str]) -> None:
    spoken = next((p for p in (pair.made, pair.reference) if os.path.isfile(p) and has_sound(p)), None)
    known = [points for points in side.landmarks if points is not None]
    if spoken is None or not known:
        why = "neither video has a sound track" if spoken is None else "no face was found"
        missing["lse_c"] = missing["lse_d"] = why
        return
    square = side.sync_square()
    frames = (scaled(frame, SIZE, square) for frame in islice(frames_at_25(pair.made), len(side.landmarks)))
    measures.update(lip_sync(network, frames, read_audio(spoken)))

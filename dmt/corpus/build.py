"""`build_corpus`: shards of clips, in parallel, with progress, and picked up where a run stopped."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..rates import FRAME_RATE
from .clip import CLIP_FRAMES, Clip, make_clip
from .sentences import LANGUAGES, OTHERS
from .speakers import PACKAGES, VALIDATION_SPEAKERS, Speaker, not_installed

SHARD_CLIPS = 32
"""Clips of one shard (4 min 16 s, about 9 MB): what is lost when a run is stopped."""

VALIDATION_SHARE = 0.06
FORMAT = 2

Progress = Callable[[int, int], None]
"""Called with shards done and shards in all."""


@dataclass(frozen=True)
class CorpusReport:
    """What lies in the folder: shards, clips and minutes of both splits, and how many shards this run made."""

    folder: Path
    shards: int
    clips: int
    minutes: float
    made: int


@dataclass(frozen=True)
class _Job:
    path: Path
    seed: int
    validation: bool
    index: int
    clean: bool
    speakers: tuple[Speaker, ...]


def build_corpus(
    folder: str | Path,
    *,
    minutes: float = 300.0,
    seed: int = 0,
    workers: int = 0,
    speakers: Sequence[Speaker] = (),
    clean_validation: bool = False,
    progress: Progress | None = None,
) -> CorpusReport:
    """Make `minutes` of synthetic speech with lip motion in `folder`; shards that are there are kept.

    seed decides everything: two runs, however interrupted and with any number of workers, give the same
    bytes. Validation shards (6 % of the minutes, on top) use voices and sentences of their own.
    workers: processes; 0 takes one for each core. speakers: voices made from recordings that speak half of the
    clips (of the validation clips, those in `VALIDATION_SPEAKERS`), installed here. clean_validation: all
    `minutes` in validation voices and well recorded, to measure with.
    Raises InputError for a folder that holds another corpus, minutes that are not positive, or speakers missing.
    """
    if not minutes > 0:
        raise InputError(f"the corpus needs a positive number of minutes, got {minutes}")
    if absent := not_installed(speakers):
        raise InputError(f"these speakers are not installed: {', '.join(s.name for s in absent)}; Debian: {PACKAGES}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, seed, speakers)
    jobs = _jobs(folder, minutes, seed, clean_validation, speakers)
    missing = [job for job in jobs if not job.path.exists()]
    done = len(jobs) - len(missing)
    if progress:
        progress(done, len(jobs))
    for _ in _run(missing, workers or os.cpu_count() or 1):
        done += 1
        if progress:
            progress(done, len(jobs))
    clips = SHARD_CLIPS * len(jobs)
    return CorpusReport(folder, len(jobs), clips, clips * CLIP_FRAMES / FRAME_RATE / 60, len(missing))


def _claim(folder: Path, seed: int, speakers: Sequence[Speaker]) -> None:
    """Write, or check, the note that says what this folder holds."""
    note = {"format": FORMAT, "seed": seed, "clip_frames": CLIP_FRAMES, "shard_clips": SHARD_CLIPS}
    note["languages"] = [*LANGUAGES, *OTHERS]
    note["speakers"] = [speaker.name for speaker in speakers]
    path = folder / "corpus.json"
    if path.exists():
        if json.loads(path.read_text()) != note:
            raise InputError(f"{folder} holds a corpus of another seed, version or speakers; choose an empty folder")
        return
    path.write_text(json.dumps(note, indent=1))


def _jobs(folder: Path, minutes: float, seed: int, clean: bool, speakers: Sequence[Speaker]) -> list[_Job]:
    per_shard = SHARD_CLIPS * CLIP_FRAMES / FRAME_RATE / 60
    counts = {False: math.ceil(minutes / per_shard), True: math.ceil(VALIDATION_SHARE * minutes / per_shard)}
    if clean:
        counts = {False: 0, True: counts[False]}
    heard = {
        held_out: tuple(s for s in speakers if (s in VALIDATION_SPEAKERS) == held_out) for held_out in (True, False)
    }
    return [
        _Job(
            folder / f"{'validation' if validation else 'train'}-{index:04d}.npz",
            seed,
            validation,
            index,
            clean,
            heard[validation],
        )
        for validation in (True, False)
        for index in range(counts[validation])
    ]


def _run(jobs: list[_Job], workers: int) -> Iterator[Path]:
    """Yield once for each finished job."""
    if workers == 1 or len(jobs) <= 1:
        yield from map(_make_shard, jobs)
        return
    # Fresh interpreters: a forked child would share espeak's and torch's threads with its parent.
    with multiprocessing.get_context("spawn").Pool(min(workers, len(jobs)), initializer=_one_thread) as pool:
        yield from pool.imap_unordered(_make_shard, jobs)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _make_shard(job: _Job) -> Path:
    clips: list[Clip] = []
    recent: list[np.ndarray] = []
    for position in range(SHARD_CLIPS):
        rng = np.random.default_rng([job.seed, job.validation, job.index, position])
        babble = np.mean(recent, axis=0) if len(recent) >= 2 else None
        clips.append(make_clip(rng, validation=job.validation, clean=job.clean, babble=babble, speakers=job.speakers))
        recent = [*recent[-4:], clips[-1].wave / 32768.0]
    arrays = _stack(clips)
    # The temporary name ends in .npz because numpy would add it, and starts with a dot so no reader takes it.
    temporary = job.path.with_name(f".{job.path.stem}.part.npz")
    with temporary.open("wb") as handle:
        np.savez(handle, **arrays)
    temporary.replace(job.path)
    return job.path


def _stack(clips: list[Clip]) -> dict[str, np.ndarray]:
    """One array for each field; closures of all clips in one list with the clip's position in front."""
    arrays = {f.name: np.array([getattr(clip, f.name) for clip in clips]) for f in fields(Clip) if f.name != "closures"}
    rows = [np.column_stack([np.full(len(c.closures), i), c.closures]) for i, c in enumerate(clips) if len(c.closures)]
    arrays["closures"] = np.concatenate(rows).astype(np.int32) if rows else np.zeros((0, 3), np.int32)
    return arrays

"""`prepare`: folders of any layout become sharded training data, in parallel, picked up where a run stopped."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..atomic import atomic, made_folder
from ..errors import InputError, damaged
from ..rates import FRAME_RATE
from .layouts import find_sources, read_clip
from .report import PrepareReport, write_report
from .shards import NOTE, Failure, shard_notes, write_shard
from .source import Source
from .splits import SPLITS, SplitConfig, assign
from .tracks import Tracker, stored, stored_or_extracted

FORMAT = 1
SHORTEST = 12
"""Frames (half a second) that a clip must have."""

Progress = Callable[[int, int], None]
"""Called with clips done and clips in all."""


@dataclass(frozen=True)
class PrepareConfig:
    """split: who is held out; layout: of all folders, None recognises each; track: track the faces of videos that
    have no coefficients beside them (slow); silent: keep clips without sound, which no lips can be learned from;
    shard_clips: clips of one shard, which is also what is lost when a run is stopped."""

    split: SplitConfig = field(default_factory=SplitConfig)
    layout: str | None = None
    track: bool = False
    silent: bool = False
    shard_clips: int = 32


@dataclass(frozen=True)
class _Job:
    path: Path
    sources: tuple[tuple[str, Source], ...]
    """Folder and source of each clip."""
    tracker: Tracker
    silent: bool


def prepare(
    folders: Sequence[str | Path],
    output: str | Path,
    config: PrepareConfig | None = None,
    *,
    workers: int = 0,
    progress: Progress | None = None,
) -> PrepareReport:
    """Read every clip of `folders`, bring it to 25 frames a second and write shards of it to `output`.

    Which clip goes where is decided before anything is read, so that the outcome depends neither on the number of
    `workers` (processes; 0: one for each core) nor on interruptions: shards that are there are kept. Files that cannot
    be used are skipped and named, with the reason, in report.md and report.json.
    Raises InputError: nothing to read, clips of one name, too few people for the split, or an output
    folder that holds something else.
    """
    config = config or PrepareConfig()
    if not folders:
        raise InputError("name at least one folder to prepare")
    found = _find(folders, config.layout)
    splits = assign([source for _, source in found], config.split)
    output = Path(output)
    _claim(output, found, splits, config)
    jobs = _jobs(output, found, splits, config)
    missing = [job for job in jobs if not job.path.exists()]
    done, total = sum(len(job.sources) for job in jobs if job.path.exists()), sum(len(job.sources) for job in jobs)
    if progress:
        progress(done, total)
    for clips in _run(missing, workers or os.cpu_count() or 1):
        done += clips
        if progress:
            progress(done, total)
    report = _gather(output, jobs, [name for name, split in splits.items() if split is None], len(missing))
    write_report(report)
    return report


def _find(folders: Sequence[str | Path], layout: str | None) -> list[tuple[str, Source]]:
    """Folder and source of every clip; with several folders, names and people begin with the folder's name."""
    found: list[tuple[str, Source]] = []
    for folder in map(Path, folders):
        for source in find_sources(folder, layout):
            if len(folders) > 1:
                label = folder.resolve().name
                source = replace(
                    source,
                    name=f"{label}/{source.name}",
                    identity=_person(label, source),
                    sentence=_said(label, source),
                )
            found.append((str(folder), source))
    return found


def _person(label: str, source: Source) -> str:
    """People of MEAD's numbering (M030) are the same in every folder; other names only within their own."""
    return source.identity if source.sentence is not None else f"{label}/{source.identity}"


def _said(label: str, source: Source) -> str | None:
    if source.sentence is None or source.sentence.startswith("mead-"):
        return source.sentence
    return f"{label}/{source.sentence}"


def _claim(output: Path, found: list[tuple[str, Source]], splits: dict, config: PrepareConfig) -> None:
    """Write, or check, the note that says what this folder holds."""
    made_folder(output)
    note = {
        "format": FORMAT,
        "frames_per_second": FRAME_RATE,
        "config": asdict(config),
        "clips": {source.name: splits[source.name] for _, source in found},
    }
    path = output / NOTE
    if path.exists():
        with damaged(path, "the note of prepared data"):
            before = json.loads(path.read_text(encoding="utf-8"))
        if before != json.loads(json.dumps(note)):
            raise InputError(
                f"{output} holds data of other folders, clips or settings than asked for now; choose an empty folder"
            )
        return
    with atomic(path) as part:
        part.write_text(json.dumps(note, indent=1, ensure_ascii=False), encoding="utf-8")


def _jobs(output: Path, found: list[tuple[str, Source]], splits: dict, config: PrepareConfig) -> list[_Job]:
    tracker = stored_or_extracted if config.track else stored
    jobs = []
    for split in SPLITS:
        mine = [pair for pair in found if splits[pair[1].name] == split]
        for number, first in enumerate(range(0, len(mine), config.shard_clips)):
            path = output / f"{split}-{number:05d}.safetensors"
            jobs.append(_Job(path, tuple(mine[first : first + config.shard_clips]), tracker, config.silent))
    return jobs


def _run(jobs: list[_Job], workers: int) -> Iterator[int]:
    """Yield the number of clips of each finished shard."""
    if workers == 1 or len(jobs) <= 1:
        for job in jobs:
            yield _make_shard(job)
        return
    # Fresh interpreters: decoders' and torch's threads do not survive a fork.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, initializer=_one_thread) as pool:
        try:
            for future in as_completed([pool.submit(_make_shard, job) for job in jobs]):
                yield future.result()
        except BrokenProcessPool:
            raise InputError(
                "a worker process died (out of memory, or a file that crashes its decoder); run the command again to "
                "go on, with --workers 1 to see where"
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _make_shard(job: _Job) -> int:
    clips, failures = [], []
    for folder, source in job.sources:
        try:
            clip = read_clip(source, job.tracker)
            if len(clip) < SHORTEST:
                raise InputError(f"{len(clip)} frames are too few; at least {SHORTEST} are needed")
            if clip.wave is None and clip.features is None and not job.silent:
                raise InputError("no sound: no track of its own, no file of its name (--silent keeps such clips)")
            clips.append(clip)
        except InputError as error:
            failures.append(Failure(source.name, folder, str(error)))
        except Exception as error:  # whatever a damaged file makes its decoder raise must not stop the others
            failures.append(Failure(source.name, folder, f"{type(error).__name__}: {error}"))
    write_shard(job.path, clips, failures)
    return len(job.sources)


def _gather(output: Path, jobs: list[_Job], left_out: list[str], made: int) -> PrepareReport:
    clips: dict[str, list] = {split: [] for split in SPLITS}
    failures: list[Failure] = []
    for job in jobs:
        described, failed = shard_notes(job.path)
        clips[job.path.name.split("-")[0]] += described
        failures += failed
    return PrepareReport(output, clips, tuple(failures), tuple(left_out), len(jobs), made)

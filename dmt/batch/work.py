"""One job in one process: claimed, made, recorded; never twice."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from .jobs import Job, Maker
from .report import STATE, Outcome, record, recorded

if TYPE_CHECKING:
    from ..pipeline import Pipeline

MOST_STARTS = 3
"""A job that takes its process down this often is given up."""


class Worker:
    """Makes videos with models that are loaded once. Also the class that Ray calls, with batches of one row."""

    def __init__(self, folder: str, maker: Maker, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self.folder, self.maker = Path(folder), maker
        self.pipeline: Pipeline | None = None

    def make(self, job: Job) -> Outcome:
        """The job's outcome; nothing is done for one that is recorded as done, or in another process's hands."""
        key = job.key(self.maker)
        with _claim(self.folder / STATE / f"{key}.lock") as ours:
            if not ours:
                return Outcome(job.output, "elsewhere", "another process is making it")
            before = finished(self.folder, job, key)
            if before is not None:
                return before
            starts = _count_start(self.folder / STATE / f"{key}.starts")
            outcome = self._attempt(job) if starts <= MOST_STARTS else _given_up(job)
            record(self.folder, key, outcome)
            return outcome

    def _attempt(self, job: Job) -> Outcome:
        from dataclasses import asdict

        from ..errors import InputError
        from ..pipeline import load

        try:
            if self.pipeline is None:
                maker = self.maker
                self.pipeline = load(maker.checkpoint, maker.device, renderer=maker.renderer, wav2vec=maker.wav2vec)
            target = self.folder / job.output
            target.parent.mkdir(parents=True, exist_ok=True)
            result = self.pipeline.generate(job.audio, job.image, output=target, **asdict(job.options))
        except InputError as error:
            return Outcome(job.output, "failed", " ".join(str(error).split()))
        except (MemoryError, OSError, RuntimeError) as error:  # this job's misfortune must not end the others
            return Outcome(job.output, "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")
        return Outcome(job.output, "done", seconds=result.seconds, wall_seconds=result.wall_seconds)

    def __call__(self, rows: dict[str, list]) -> dict[str, list]:
        """Ray Data's form: a batch of rows {"job": [Job]} becomes {"outcome": [Outcome]}."""
        return {"outcome": [self.make(job) for job in rows["job"]]}


def finished(folder: Path, job: Job, key: str) -> Outcome | None:
    """The outcome of a job that is done, and whose video is still there."""
    outcome = recorded(folder, key)
    if outcome is None or outcome.state != "done" or not (folder / job.output).is_file():
        return None
    return Outcome(outcome.output, "done", "", outcome.seconds, outcome.wall_seconds, resumed=True)


def _given_up(job: Job) -> Outcome:
    return Outcome(
        job.output,
        "failed",
        f"its process ended {MOST_STARTS} times without a word, as when memory runs out; use fewer workers",
    )


def _count_start(path: Path) -> int:
    """How often this job has been begun without an outcome, this time included."""
    with open(path, "ab") as file:
        file.write(b".")
        file.flush()
        return os.fstat(file.fileno()).st_size


@contextmanager
def _claim(path: Path) -> Iterator[bool]:
    """Whether the job is ours alone; the system lets go of the claim when a process dies."""
    with open(path, "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            yield False
            return
        yield True

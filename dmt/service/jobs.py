"""Jobs: made by a bounded number of threads in the order they came, kept for a while, stopped when asked."""

from __future__ import annotations

import logging
import secrets
import shutil
import time
from concurrent.futures import CancelledError
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from anyio.abc import TaskGroup

from .. import media
from ..errors import InputError
from ..memory import traceless
from .limits import Limits
from .metrics import Metrics
from .request import Request
from .uploads import plain

if TYPE_CHECKING:
    from ..pipeline import Pipeline, Result

log = logging.getLogger("dmt.service")


class Full(Exception):
    """No room in the queue."""


@dataclass
class Job:
    """One video to be made. state: queued, running, done, failed or cancelled; error: the sentence, where failed."""

    request: Request
    folder: Path
    files: dict[str, Path]
    id: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: str = "queued"
    error: str | None = None
    stage: str | None = None
    progress: float = 0.0
    result: Result | None = None
    asked: float = field(default_factory=time.time)
    ended: float | None = None
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    @property
    def over(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.ended is not None

    @property
    def video(self) -> Path:
        """Where the mp4 is, once the state is done."""
        return self.folder / "video.mp4"


class Jobs:
    """All jobs of a service. group: the tasks run in it; ending it cancels them. folder: for their files.

    Everything but `_make` runs in the event loop, so nothing here needs a lock.
    """

    def __init__(self, pipeline: Pipeline, limits: Limits, metrics: Metrics, folder: Path, group: TaskGroup) -> None:
        self._pipeline, self._limits, self._metrics = pipeline, limits, metrics
        self._folder, self._group = folder, group
        self._workers = anyio.CapacityLimiter(limits.workers)
        self._jobs: dict[str, Job] = {}
        metrics.queued.set_function(lambda: self.count("queued"))
        metrics.running.set_function(lambda: self.count("running"))
        metrics.stored.set_function(lambda: len(self._jobs))

    def count(self, state: str) -> int:
        """Jobs in a state."""
        return sum(job.state == state for job in list(self._jobs.values()))

    def check_room(self) -> None:
        """Raises Full if another job could not even wait."""
        if self.count("queued") + self.count("running") >= self._limits.workers + self._limits.waiting:
            raise Full

    def new_folder(self) -> Path:
        """An empty folder for one job's files."""
        folder = self._folder / secrets.token_hex(16)
        folder.mkdir(mode=0o700)
        return folder

    def add(self, request: Request, folder: Path, files: dict[str, Path]) -> Job:
        """Queue a job whose uploads are stored. Raises Full."""
        self.check_room()
        job = Job(request, folder, files)
        self._jobs[job.id] = job
        self._group.start_soon(self._perform, job)
        return job

    def get(self, name: str) -> Job | None:
        """The job with this id."""
        return self._jobs.get(name)

    def position(self, job: Job) -> int:
        """How many jobs are before it in the queue."""
        waiting = [other.id for other in self._jobs.values() if other.state == "queued"]
        return waiting.index(job.id) if job.id in waiting else 0

    def remove(self, job: Job) -> None:
        """Cancel a job that is not over; forget one that is, and delete its files."""
        if job.over:
            self._jobs.pop(job.id, None)
            shutil.rmtree(job.folder, ignore_errors=True)
        else:
            job.scope.cancel()
            job.state = "cancelled"

    async def expire(self) -> None:
        """Forget jobs that ended long ago, for ever."""
        while True:
            await anyio.sleep(min(30.0, self._limits.keep / 4))
            over = [job for job in self._jobs.values() if job.over]
            oldest = sorted(over, key=lambda job: job.ended or 0.0)[: max(0, len(over) - self._limits.kept)]
            for job in over:
                if job in oldest or time.time() - (job.ended or 0.0) > self._limits.keep:
                    self.remove(job)

    async def _perform(self, job: Job) -> None:
        """Wait for a worker, make the video, and note how it went."""
        started = time.monotonic()
        try:
            with job.scope:
                job.result = await anyio.to_thread.run_sync(traceless, self._make, job, limiter=self._workers)
        except CancelledError:  # from the thread; the scope's own is swallowed by it
            pass
        except InputError as error:
            job.error = plain(str(error), job.files)
        except Exception:
            log.exception("job %s failed", job.id)
            job.error = f"internal error; the server's log has it under {job.id}"
        finally:
            self._end(job, time.monotonic() - started)

    def _end(self, job: Job, seconds: float) -> None:
        job.state = "failed" if job.error else "done" if job.result is not None else "cancelled"
        job.ended = time.time()
        for path in job.files.values():
            path.unlink(missing_ok=True)
        if job.state != "done":
            shutil.rmtree(job.folder, ignore_errors=True)
        self._metrics.jobs.labels(job.state).inc()
        if job.result is not None:
            self._metrics.seconds.observe(job.result.wall_seconds)
            self._metrics.frames.labels("jobs").inc(job.result.frames)
            for stage, spent in job.result.timings.items():
                self._metrics.stage.labels(stage).inc(spent)
        log.info("job %s %s after %.1f s", job.id, job.state, seconds)

    def _make(self, job: Job) -> Result:
        """In a worker thread. A cancelled job raises out of the next report of progress."""
        job.state = "running"
        deadline = time.monotonic() + self._limits.job

        def report(stage: str, done: int, total: int) -> None:
            anyio.from_thread.check_cancelled()
            if time.monotonic() > deadline:
                raise InputError(f"making this video took more than {self._limits.job:g} s; send shorter sound")
            job.stage, job.progress = stage, done / max(1, total)

        media.check_length(job.files["audio"], self._limits.sound)
        options: dict[str, Any] = job.request.model_dump() | {
            name: path for name, path in job.files.items() if name in ("style", "pose")
        }
        return self._pipeline.generate(
            job.files["audio"], job.files.get("image"), output=job.video, report=report, **options
        )

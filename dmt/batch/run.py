"""Running the jobs: processes of this machine, or Ray Data on this machine or a cluster."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ProcessPoolExecutor, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from queue import SimpleQueue

from ..atomic import made_folder
from ..errors import InputError
from ..process import unwind, waiting
from .jobs import Job, Maker
from .report import STATE, Outcome, Summary, write_report
from .work import Worker, finished

Progress = Callable[[int, int], None]


def run_batch(
    jobs: Sequence[Job],
    folder: str | Path,
    maker: Maker | None = None,
    *,
    workers: int = 1,
    ray: str | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Make every job's video in `folder`; what is there already stays, what failed before is tried again.

    workers: processes (or Ray actors), each with its own models. ray: None, "local", or the address of a cluster
    whose nodes see `folder` and the inputs under the same paths. progress: called with (finished, all).
    A job that fails does not end the others: `Summary` and `folder`/report.md name it and why. A worker that is
    killed loses the job in its hands, which is begun again elsewhere. Raises InputError for a folder that cannot be
    made, or where Ray is not installed.
    """
    maker = maker or Maker()
    if workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}")
    folder = Path(folder).absolute()
    made_folder(folder / STATE)
    outcomes: dict[str, Outcome] = {}
    left = []
    for job in jobs:
        key = job.key(maker)
        before = finished(folder, job, key)
        if before is None:
            (folder / STATE / f"{key}.starts").unlink(missing_ok=True)
            left.append(job)
        else:
            outcomes[job.output] = before
    made = _on_ray(left, folder, maker, workers, ray) if ray else _locally(left, folder, maker, workers)
    if progress:
        progress(len(outcomes), len(jobs))
    for outcome in made:
        outcomes[outcome.output] = outcome
        if progress:
            progress(len(outcomes), len(jobs))
    return write_report(folder, [outcomes[job.output] for job in jobs])


_worker: Worker | None = None


def _start(folder: str, maker: Maker, threads: int) -> None:
    global _worker  # one per process of a pool
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the batch itself says who stops
    signal.signal(signal.SIGTERM, unwind)
    _worker = Worker(folder, maker, threads)


def _make(job: Job) -> Outcome:
    return _worker.make(job)


def _threads(workers: int) -> int:
    return max(1, len(os.sched_getaffinity(0)) // workers)


def _locally(jobs: Sequence[Job], folder: Path, maker: Maker, workers: int) -> Iterator[Outcome]:
    """One pool of one process per worker, so that a process that is killed takes nothing but its own job along."""
    waiting, made = deque(jobs), SimpleQueue()
    count = min(workers, len(jobs))
    arguments, stop = (str(folder), maker, _threads(max(1, count))), threading.Event()
    feeders = [threading.Thread(target=_feed, args=(waiting, made, arguments, stop), daemon=True) for _ in range(count)]
    for feeder in feeders:
        feeder.start()
    try:
        for _ in jobs:
            outcome = made.get()
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome
    finally:
        stop.set()
        for feeder in feeders:
            feeder.join()


def _feed(waiting: deque[Job], made: SimpleQueue, arguments: tuple[str, Maker, int], stop: threading.Event) -> None:
    """Give one process after another job, and a fresh process the same job again where it was killed."""
    pool = None
    try:
        while not stop.is_set():
            try:
                job = waiting.popleft()
            except IndexError:
                return
            pool = pool or ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _start, arguments)
            try:
                made.put(_result(pool.submit(_make, job), stop))
            except BrokenProcessPool:
                pool = None
                waiting.appendleft(job)
            except CancelledError:
                return
    except BaseException as error:  # a fault of ours: the caller's thread must hear of it, or it would wait for ever
        made.put(error)
    finally:
        if pool is not None:
            _end(pool, now=stop.is_set())


def _result(future: Future, stop: threading.Event) -> Outcome:
    """The job's outcome; CancelledError once the batch is stopped."""
    while not stop.is_set():
        try:
            return future.result(timeout=0.2)
        except TimeoutError:
            continue
    raise CancelledError


def _end(pool: ProcessPoolExecutor, *, now: bool) -> None:
    """now: the process is told to stop (it removes its unfinished file) instead of being waited for."""
    if now:
        for process in list((pool._processes or {}).values()):
            process.terminate()
    pool.shutdown(cancel_futures=True)


def _on_ray(jobs: Sequence[Job], folder: Path, maker: Maker, workers: int, address: str) -> Iterator[Outcome]:
    """Ray Data over the jobs, one a task; Ray starts an actor that dies anew, and gives it its task again."""
    try:
        import ray
    except ImportError:
        raise InputError('running on Ray needs the package ray: pip install "dreamtalk-dmt[ray]"') from None
    if not jobs:
        return
    ours = not ray.is_initialized()
    if ours:
        there = {"env_vars": waiting()}
        where = None if address == "local" else address
        ray.init(where, log_to_driver=False, include_dashboard=False, runtime_env=there)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        rows = ray.data.from_items([{"job": job} for job in jobs], override_num_blocks=len(jobs))
        made = rows.map_batches(
            Worker,
            fn_constructor_args=(str(folder), maker, _threads(workers)),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
        )
        for row in made.iter_rows():
            yield row["outcome"]
    finally:
        if ours:
            ray.shutdown()

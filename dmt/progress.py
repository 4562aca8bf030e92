"""Where the time goes: exclusive wall clock per stage, counts for progress bars, and peak memory."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import torch

T = TypeVar("T")

Report = Callable[[str, int, int], None]
"""Called with (stage, done, total) as a stage advances; the unit is the stage's own."""

STAGES = ("audio", "portrait", "features", "motion", "render", "encode")


class Stopwatch:
    """Seconds per stage. The stages pull from one another, so an inner one stops the clock of the outer.

    device: a CUDA device is waited for at the end of each stage, or its time would be
    booked on whoever waits first.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._device = device if device is not None and device.type == "cuda" else None
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time the body as `name`."""
        self._book()
        self._running.append(name)
        try:
            yield
        finally:
            if self._device is not None:
                torch.cuda.synchronize(self._device)
            self._book()
            self._running.pop()

    def timed(self, name: str, items: Iterable[T]) -> Iterator[T]:
        """The same items, the making of each timed as `name`."""
        iterator = iter(items)
        while True:
            with self.stage(name):
                try:
                    item = next(iterator)
                except StopIteration:
                    return
            yield item

    def _book(self) -> None:
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now


def peak_memory() -> int | None:
    """Largest resident size of this process so far in bytes; None where the system does not say."""
    with suppress(OSError, StopIteration):
        # Before ru_maxrss, which a process inherits from the one that started it.
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024

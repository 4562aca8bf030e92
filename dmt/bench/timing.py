"""How this project times things: alternatives in turn, in one process, percentiles of rounds.

One CPU thread is timed by the process's processor time, which other load on the machine disturbs least (threads of a
video encoder count as well); several threads by the wall clock; a GPU by events, with its L2 cache overwritten before
each call. A short call on a CPU is preceded by an untimed one of the same alternative: who came before it in turn left
other things in the caches, which costs a sparse product up to a third, and a dense one nearly nothing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from .. import process

Alternatives = Mapping[str, Callable[[], object]]

SAMPLE_SECONDS = 50e-6
"""A sample lasts at least this long: a shorter call is repeated within it, and the sample divided."""
SHORT_SECONDS = 10e-3
"""Calls shorter than this find caches of their own making."""
FEWEST, MOST = 5, 60
"""Rounds, whatever the budget says, unless a caller asks for fewer."""


@dataclass(frozen=True)
class Timing:
    """Microseconds of one call: percentiles over `rounds` samples."""

    p20: float
    p50: float
    p80: float
    rounds: int


def percentiles(seconds: list[float]) -> Timing:
    """Of samples in seconds; raises ValueError for none."""
    if not seconds:
        raise ValueError("no samples to take percentiles of")
    low, middle, high = np.percentile(np.asarray(seconds) * 1e6, [20, 50, 80])
    return Timing(float(low), float(middle), float(high), len(seconds))


def compare(
    alternatives: Alternatives, budget: float = 0.3, *, device: str = "cpu", fewest: int = FEWEST
) -> dict[str, Timing]:
    """Time all alternatives in turn, for about `budget` seconds and at least `fewest` rounds after a warm-up.

    An alternative that alone would use up the budget sits out some rounds, so that a very slow one does not keep the
    others waiting; it still takes part in three.
    """
    once = {name: _spent(run, 1, device) for name, run in alternatives.items()}  # caches, code pages, allocator
    if sum(once.values()) < 1:  # of calls this long, the first tells enough
        once = {name: min(first, _spent(alternatives[name], 1, device)) for name, first in once.items()}
    repeats = max(1, min(50, math.ceil(SAMPLE_SECONDS / max(min(once.values()), 1e-9))))
    cost = {name: t * (repeats + (t < SHORT_SECONDS)) for name, t in once.items()}
    rounds = round(max(fewest, min(MOST, budget / sum(cost.values()))))
    share = max(budget, 1e-3) / len(alternatives)
    every = {name: max(1, min(rounds // 3, int(t * rounds / share / 4))) for name, t in cost.items()}
    samples: dict[str, list[float]] = {name: [] for name in alternatives}
    for number in range(rounds):
        for name, run in alternatives.items():
            if number % every[name] == 0:
                if once[name] < SHORT_SECONDS and device == "cpu":
                    run()
                samples[name].append(_spent(run, repeats, device))
    return {name: percentiles(s) for name, s in samples.items()}


def _spent(run: Callable[[], object], repeats: int, device: str) -> float:
    """Seconds of one call, the mean of `repeats`."""
    if device == "cuda":
        return sum(_on_gpu(run) for _ in range(repeats)) / repeats
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    start = clock()
    for _ in range(repeats):
        run()
    return (clock() - start) / repeats


def _on_gpu(run: Callable[[], object]) -> float:
    size = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    torch.empty(2 * size, dtype=torch.int8, device="cuda").zero_()  # what is left in L2 is not ours
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def keep_freed_memory() -> bool:
    """Let malloc keep all that is freed, for the rest of the process: no alternative then pays for fresh pages by the
    luck of its place in the heap, which makes a copy of 16 MB cost 3 ms or 10. False where it cannot be had."""
    return process.keep_freed_memory(2**31 - 1)

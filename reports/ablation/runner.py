"""Runs side by side: train what is not trained, measure what is not measured."""

from __future__ import annotations

import multiprocessing
import time
from functools import partial

import torch

from .measures import frame_comparison, measure_variant, measured
from .training import Workplace, load_corpus, train_variant, trained
from .variants import Variant, plan

_process: dict[str, object] = {}
"""What a worker process keeps from run to run: the corpus and the true pictures."""


def run_all(place: Workplace, workers: int) -> None:
    """Everything in `plan` that is not finished, in `workers` processes of one thread each."""
    waiting = [job for job in plan() if measured(place, *job) is None]
    with multiprocessing.get_context("spawn").Pool(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for done, line in enumerate(pool.imap_unordered(partial(_run, place), waiting), 1):
            print(f"{done} of {len(waiting)}: {line}", flush=True)


def _run(place: Workplace, job: tuple[Variant, int]) -> str:
    """Train and measure one variant with one seed."""
    variant, seed = job
    if not _process:
        _process.update(corpus=load_corpus(place), frames=frame_comparison(place))
    while variant.like is not None and not trained(place, variant.like, seed):
        time.sleep(2)  # jobs are handed out in order, so another process is at it
    started = time.monotonic()
    if not trained(place, variant.name, seed):
        train_variant(place, variant, seed, _process["corpus"])
    middle = time.monotonic()
    measure_variant(place, variant, seed, _process["frames"])
    return f"{variant.name} seed {seed}: trained {middle - started:.0f} s, measured {time.monotonic() - middle:.0f} s"

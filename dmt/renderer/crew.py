"""Many frames on many threads: each works on frames of its own, instead of all together on every small operator.

A frame is some hundred operators of a tenth of a millisecond. Where torch cuts each of them for its threads, these wait
for one another a hundred times a frame, spinning; and when other programs want the processors too, one spins while the
one it waits for does not get its turn: a frame took 400 ms instead of 15. Frames need not wait for one another.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait

import torch

LARGEST = 16
"""Threads of a crew; what is written in Python would keep more of them waiting."""


class Crew:
    """As many threads as torch has, made when they are first needed; they end with the crew.

    largest: threads at most; a crew of one is the caller's own thread.
    """

    def __init__(self, largest: int = LARGEST) -> None:
        self._largest = largest
        self._pool: ThreadPoolExecutor | None = None
        self._made = (0, 0)
        self._making = threading.Lock()

    def share(self, work: Callable[[slice], None], count: int, most: int) -> None:
        """Call work(rows) for consecutive slices of range(count), each of at most `most`.

        work is called from several threads at once, and none of its operators is cut for further ones; a single slice
        is left to the caller's thread, with all of torch's. Returns, or raises what the first of them raised, when
        none is at work any more. Gradients are not recorded.
        """
        workers = min(torch.get_num_threads(), self._largest)
        size = max(1, min(most, -(-count // workers)))
        parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
        if workers < 2 or len(parts) < 2:
            for rows in parts:
                work(rows)
            return
        inference = torch.is_inference_mode_enabled()

        def run(rows: slice) -> None:
            with torch.inference_mode(inference), torch.no_grad():
                work(rows)

        pool = self._threads(workers)
        begun = [pool.submit(run, rows) for rows in parts]
        try:
            for part in begun:
                part.result()
        finally:  # after Ctrl-C too, nothing goes on behind the caller's back
            for part in begun:
                part.cancel()
            wait(begun)
            del begun, part  # an exception holds this frame, which must not hold the exception

    def _threads(self, workers: int) -> ThreadPoolExecutor:
        made = (os.getpid(), workers)
        with self._making:
            if self._pool is None or self._made != made:  # torch.set_num_threads was called, or the process forked
                threads, together = torch.get_num_threads(), threading.Barrier(workers)
                self._pool = ThreadPoolExecutor(workers, "frames", _work_alone)
                wait([self._pool.submit(together.wait) for _ in range(workers)])
                # torch keeps a number for threads to come, too, which the new ones have just set.
                torch.set_num_threads(threads)
                self._made = made
            return self._pool


def _work_alone() -> None:
    """Operators of this thread are cut for no other one."""
    torch.set_num_threads(1)
    torch.get_num_threads()  # or the first operator would look up the number for threads to come

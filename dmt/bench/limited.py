"""Work in a process of its own, whose libraries use AVX2 at most: kernels of an instruction set are compared with
products of the same set, as on a processor that has no better."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import torch

from . import timing

LIBRARIES = {"MKL_ENABLE_INSTRUCTIONS": "AVX2", "ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2"}
"""Read by MKL, oneDNN and PyTorch when they are loaded, so a process cannot set them for itself."""


def active() -> bool:
    """Whether this process's libraries are limited."""
    return all(os.environ.get(name) == value for name, value in LIBRARIES.items())


def each(work: Callable[..., Iterator], *arguments: object) -> Iterator:
    """What `work(*arguments)` yields, in such a process with as many threads as torch has here. `work` is a function of
    a module, and all that goes in and out can be pickled. Raises what it raises, and RuntimeError if the process dies.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(theirs, torch.get_num_threads(), work, arguments), daemon=True)
    with _environment():
        process.start()
    theirs.close()
    try:
        while (said := _received(ours)) is not None:
            failed, value = said
            if failed:
                raise value
            yield value
        process.join()
        if process.exitcode != 0:
            raise RuntimeError(f"the process that measures with AVX2 ended with exit code {process.exitcode}")
    finally:
        process.terminate()
        process.join()
        ours.close()


def _received(pipe: Connection) -> tuple[bool, object] | None:
    try:
        return pipe.recv()
    except EOFError:
        return None


def _run(pipe: Connection, threads: int, work: Callable[..., Iterator], arguments: tuple) -> None:
    torch.set_num_threads(threads)
    timing.keep_freed_memory()
    try:
        for value in work(*arguments):
            pipe.send((False, value))
    except Exception as error:  # whatever it is, the one who asked wants to know
        pipe.send((True, error))
    pipe.close()


@contextmanager
def _environment() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in LIBRARIES}
    os.environ.update(LIBRARIES)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})

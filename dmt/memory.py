"""What a piece of work had in memory goes back to the system when it is over, in programs that go on for weeks.

Three things keep it otherwise, each as long as a thread or the process lives:

- An exception that leaves a thread is held by the future that carries it, which its own traceback holds in turn: a
  circle, with every tensor of the frames it went through, that stands until Python looks for circles.
- MKL keeps the buffers of its products for the next one, about 20 MB for each thread that ever ran the pipeline.
- glibc gives each thread an arena of its own, and at the end of each holds back up to 64 MB that are free.
"""

from __future__ import annotations

import ctypes
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


_ARENA_MAX = -8
"""M_ARENA_MAX of malloc.h."""


def one_arena() -> None:
    """Let all threads share glibc's main arena, which `trim` can empty; to be called before there are threads.

    What is allocated here is large and seldom, so threads hardly wait for one another. Without glibc: nothing.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)


def trim() -> None:
    """Hand what this thread's products kept, and what is free anywhere, back to the system; takes milliseconds.

    Without MKL, without glibc: nothing.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so")).mkl_serv_thread_free_buffers()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def traceless(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
    """work(...), to be run in a thread: whichever way it ends, nothing it held is held any longer.

    An exception passes with its traceback (lines of code) but without the variables of the frames in it; generators
    among them are closed, here and now.
    """
    try:
        return work(*arguments, **named)
    except BaseException as error:
        fault: BaseException | None = error
        while fault is not None:
            traceback.clear_frames(fault.__traceback__)
            fault = fault.__context__ if fault.__cause__ is None else fault.__cause__
        raise
    finally:
        trim()

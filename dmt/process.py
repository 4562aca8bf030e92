"""What a program of ours sets for its own process before anything else is loaded."""

from __future__ import annotations

import ctypes
import io
import os
import sys

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""How the threads of an operator wait for one another, in the words of OpenMP, of GCC's and of LLVM's and Intel's."""
TURNS = "10000"
"""That a waiting thread makes before it sleeps, about half a millisecond. GCC's OpenMP, which torch brings on Linux,
makes 300,000."""

M_MMAP_MAX, M_TRIM_THRESHOLD = -4, -1  # mallopt(3)
KEPT = 1 << 30
"""Bytes of freed memory at the end of its heap that a program of ours does not give back."""


def waiting() -> dict[str, str]:
    """What is set here of WAITING: for processes that do not inherit it, on other machines."""
    return {name: os.environ[name] for name in WAITING if name in os.environ}


def unwind(number: int, frame: object) -> None:
    """For SIGTERM in a process of ours that another ends: the stack unwinds, so that unfinished files are removed."""
    raise SystemExit(128 + number)


def keep_freed_memory(kept: int = KEPT) -> bool:
    """Let malloc use again what is freed, up to `kept` bytes, instead of giving it back and asking for fresh pages,
    which the system clears: a frame of the learned renderer takes 232 ms in place of 291 (bfloat16; float32: 741 for
    830). At its peak a program has up to a tenth more memory. What the user has set for malloc stays: False then, and
    where the C library has no mallopt."""
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    return bool(mallopt(M_MMAP_MAX, 0)) and bool(mallopt(M_TRIM_THRESHOLD, kept))


def settle(*, patient: bool = True) -> None:
    """Called first in every program, for its processes too: before torch, which reads the environment once.

    patient: threads that wait for one another soon sleep. Where other work has the core of the one that is waited for,
    turning takes the time that it needs: motion was made 10 times slower beside two busy programs. Asleep at once they
    would be as quick there, and a tenth of a second slower where nothing else runs. What the user has set stays.

    Standard output shows every file's name. Where names are not in UTF-8, Python would rather fail, after the work.
    """
    if patient and not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = TURNS
    keep_freed_memory()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")

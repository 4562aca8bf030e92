"""What a program of ours sets for its own process before anything else is loaded."""

from __future__ import annotations

import io
import os
import sys

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""How the threads of an operator wait for one another, in the words of OpenMP, of GCC's and of LLVM's and Intel's."""
TURNS = "10000"
"""That a waiting thread makes before it sleeps, about half a millisecond. GCC's OpenMP, which torch brings on Linux,
makes 300,000."""


def waiting() -> dict[str, str]:
    """What is set here of WAITING: for processes that do not inherit it, on other machines."""
    return {name: os.environ[name] for name in WAITING if name in os.environ}


def unwind(number: int, frame: object) -> None:
    """For SIGTERM in a process of ours that another ends: the stack unwinds, so that unfinished files are removed."""
    raise SystemExit(128 + number)


def settle(*, patient: bool = True) -> None:
    """Called first in every program, for its processes too: before torch, which reads the environment once.

    patient: threads that wait for one another soon sleep. Where other work has the core of the one that is waited for,
    turning takes the time that it needs: motion was made 10 times slower beside two busy programs. Asleep at once they
    would be as quick there, and a tenth of a second slower where nothing else runs. What the user has set stays.

    Standard output shows every file's name. Where names are not in UTF-8, Python would rather fail, after the work.
    """
    if patient and not any(name in os.environ for name in WAITING):
        os.environ["GOMP_SPINCOUNT"] = TURNS
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")

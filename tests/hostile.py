"""What the tests of hostile files share: a reader's answer, within bounds of time and memory."""

from __future__ import annotations

import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from readers import Reader

from dmt.errors import InputError

SECONDS = 60
"""No reader may take longer, however busy the machine."""
ROOM = 1 << 30
"""Bytes of address space that a reader may take for a file of some kilobytes (decoders reserve before they look)."""


class Hung(BaseException):
    """Not an Exception, so that no reader can take it for a damaged file."""


@contextmanager
def bounded() -> Iterator[None]:
    """Ends a reader that hangs, and refuses memory beyond `ROOM`."""

    def stop(number: int, frame: object) -> None:
        raise Hung(f"still reading after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


limited = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and time are Linux's")


def answer(reader: Reader, path: Path) -> str | None:
    """None if the file was read, else the sentence; any other exception is a failure."""
    try:
        with bounded():
            reader(path)
    except InputError as error:
        sentence = str(error)
        ours = sentence.replace(str(path), "")  # names are the user's own, however odd
        assert ours.strip() and "Traceback" not in ours and ours.isprintable() and len(ours) < 2000, sentence
        return sentence
    return None

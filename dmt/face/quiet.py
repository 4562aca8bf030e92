"""MediaPipe's C++ writes log lines straight to the process's error stream; a user's terminal is not the place."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

STDERR = 2


@contextmanager
def native_stderr_silenced() -> Iterator[None]:
    """What native code writes to file descriptor 2 goes nowhere meanwhile; exceptions pass as ever."""
    kept = os.dup(STDERR)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, STDERR)
        yield
    finally:
        os.dup2(kept, STDERR)
        os.close(kept)
        os.close(nowhere)

"""Programs for Triton's interpreter, which has to be chosen before Triton is imported: each in a fresh Python."""

from __future__ import annotations

import os
import subprocess
import sys


def interpret(program: str, *, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """`program` run with Triton interpreted; what it printed, its errors and its exit code."""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )

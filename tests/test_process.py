"""What a program sets for its process is there before torch is, in every program and every process it starts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dmt
from dmt.process import TURNS, WAITING, waiting

linux = pytest.mark.skipif(sys.platform != "linux", reason="GCC's OpenMP and /proc")


def environment(**extra: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in WAITING}
    return {**kept, "PYTHONPATH": str(Path(dmt.__file__).parents[1]), **extra}


def said(program: str, *arguments: str, **extra: str) -> str:
    """What a program prints, to both outputs, of the OpenMP that it loads too."""
    code = f"from dmt.cli import {program}; {program}()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments],
        env=environment(OMP_DISPLAY_ENV="verbose", **extra),
        capture_output=True,
        text=True,
        errors="replace",
    )
    return done.stdout + done.stderr


def spins(printed: str) -> set[int]:
    """Turns that waiting threads make before they sleep, of each OpenMP that was loaded."""
    counts = {int(count) for count in re.findall(r"GOMP_SPINCOUNT = '(\d+)'", printed)}
    if not counts:
        pytest.skip("this torch brings an OpenMP of another maker")
    return counts


@linux
@pytest.mark.parametrize(
    ("program", "arguments"),
    [
        ("main", ["generate", "-a", "absent.wav", "-o", "absent/o.mp4"]),
        ("main", ["serve", "--host", "256.0.0.1"]),
        ("main", ["web", "--host", "256.0.0.1"]),
        ("dreamtalk", ["--wav_path", "absent.wav"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else value,
)
def test_waiting_threads_soon_sleep(program, arguments):
    printed = said(program, *arguments)
    assert spins(printed) == {int(TURNS)}, printed


@linux
@pytest.mark.parametrize(
    ("name", "value", "turns"), [("GOMP_SPINCOUNT", "77777", 77_777), ("OMP_WAIT_POLICY", "active", 10**9)]
)
def test_what_the_user_has_set_stays(name, value, turns):
    assert min(spins(said("main", "demo", "-o", "absent/o.mp4", **{name: value}))) >= turns


@linux
def test_operators_are_measured_as_they_come():
    assert min(spins(said("main", "bench", "kernels", "--threads", "0"))) > int(TURNS)


@linux
def test_the_workers_of_a_batch_inherit_it(voice, tiny_checkpoint, tmp_path):
    voice(tmp_path / "a.wav", 2.0)
    (tmp_path / "jobs.csv").write_text("audio,size\na.wav,64\n")
    arguments = ["batch", str(tmp_path / "jobs.csv"), "-o", str(tmp_path / "out"), "--checkpoint", str(tiny_checkpoint)]
    command = [sys.executable, "-P", "-c", "from dmt.cli import main; main()", *arguments]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as process:
        seen: set[bytes] = set()
        while process.poll() is None:
            seen |= workers_environment(process.pid)
            time.sleep(0.01)
    assert process.returncode == 0 and f"GOMP_SPINCOUNT={TURNS}".encode() in seen


def workers_environment(parent: int) -> set[bytes]:
    """What the spawned processes of a process were started with."""
    try:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        children += [c for t in Path(f"/proc/{parent}/task").iterdir() for c in (t / "children").read_text().split()]
        workers = [c for c in children if b"spawn_main" in Path(f"/proc/{c}/cmdline").read_bytes()]
        return {entry for c in workers for entry in Path(f"/proc/{c}/environ").read_bytes().split(b"\0")}
    except OSError:  # one of them has just ended
        return set()


@pytest.mark.skipif(sys.platform != "linux", reason="names that are no text")
def test_names_that_are_no_text_are_shown(tmp_path):
    """As an archive of another system may hold them; the desktop's locale is strict about them, the C locale is not."""
    code = "from dmt.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "styles", "--picture", os.fsencode(tmp_path) + b"/\xff.png"],
        env=environment(PYTHONIOENCODING="utf-8:strict"),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0 and rb"\udcff.png" in done.stdout and not done.stderr
    assert os.listdir(os.fsencode(tmp_path)) == [b"\xff.png"]


def test_what_other_machines_are_told(monkeypatch):
    for name in WAITING:
        monkeypatch.delenv(name, raising=False)
    assert waiting() == {}
    monkeypatch.setenv("KMP_BLOCKTIME", "5")
    assert waiting() == {"KMP_BLOCKTIME": "5"}


PAGES = """
import resource
from dmt.process import settle
settle()
import numpy as np
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(100 << 20, np.uint8)
before = faults()
for _ in range(3):
    np.ones(100 << 20, np.uint8)
print(faults() - before)
"""


@linux
@pytest.mark.parametrize(
    "asked", [{}, {"MALLOC_TRIM_THRESHOLD_": "100000"}, {"GLIBC_TUNABLES": "glibc.malloc.trim_threshold=100000"}]
)
def test_freed_memory_is_used_again(asked):
    """Without fresh pages, unless the user has settings of their own."""
    kept = {name: value for name, value in environment().items() if "MALLOC" not in name and "GLIBC" not in name}
    done = subprocess.run(
        [sys.executable, "-P", "-c", PAGES], env={**kept, **asked}, capture_output=True, text=True, check=True
    )
    assert (int(done.stdout) < 50) == (not asked), done.stdout

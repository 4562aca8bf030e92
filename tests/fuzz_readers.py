"""Coverage-guided attacks on whatever reads files and messages: `make fuzz`, which brings atheris.

    python tests/fuzz_readers.py [--seconds 60] [--folder build/fuzz] [TARGET ...]
    python tests/fuzz_readers.py --again FILE TARGET

A target is a kind of file of readers.py with everything that reads it, or what messages.py says that a client may send.
atheris changes good files, keeps what reaches new lines, and goes on from there in the next run. Nothing but InputError
may leave a reader, with a short printable sentence; it must answer within `PATIENCE`, in little memory, and write
nothing. A file that breaks this is kept as FOLDER/TARGET-crash-... (or -timeout-...) and makes the exit code 1; --again
shows where it happens. Then mend the reader, and put the case into a test_hostile_*.py.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import resource
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import atheris
import torch  # noqa: F401 - see WATCHED

if TYPE_CHECKING:
    from readers import Kind

PATIENCE = 30
"""Seconds for one file, on a machine that may have other work too."""
ROOM = 2 << 30
"""Bytes of address space beyond what the program takes before it reads anything."""
LONGEST = 1 << 16
"""Bytes of a made file."""
ATTACK = "--attack"
"""First argument of the processes that do it."""
LAST = 12
"""Lines of a traceback that are shown."""
WATCHED = ["dmt", "PIL", "starlette"]
"""What is written in Python and looks into files: new lines of it count as new. zipfile and torch are loaded before."""


def targets() -> dict[str, list[Kind]]:
    """The kinds of each target, by its name. Kinds that are told apart by what is in them are one target."""
    from messages import MESSAGES
    from readers import KINDS, NUMBERS, PICTURE, SOUND

    shared = {PICTURE: "pictures", SOUND: "sounds", NUMBERS: "mat"}
    found: dict[str, list[Kind]] = {}
    for kind in (*KINDS, *MESSAGES):
        found.setdefault(shared.get(kind.readers, kind.name), []).append(kind)
    return found


def attack(name: str, folder: Path, seconds: int, again: Path | None = None) -> None:
    """Attack one target, in a process that has not loaded the readers yet; does not return, for libFuzzer ends it.

    again: read that file only.
    """
    with atheris.instrument_imports(include=WATCHED):
        kinds = targets()
        from dmt.errors import InputError
    kind, learnt = kinds[name][0], folder / "learnt" / name
    learnt.mkdir(parents=True, exist_ok=True)
    for group, seeds in kinds.items():
        # Files of other kinds too, for someone will give them; but in pictures and films faces would be searched for.
        if group == name or group not in ("pictures", "sounds", "film.mp4"):
            for seed in seeds:
                seed.write(learnt / seed.name)
    place = Path(tempfile.mkdtemp(prefix="fuzz-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    case = place / f"case{Path(kind.name).suffix}"
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))
    logging.disable()
    warnings.simplefilter("ignore")

    def one(data: bytes) -> None:
        case.write_bytes(data)
        for reader in kind.readers:
            try:
                reader(case)
            except InputError as error:
                said = str(error).replace(str(case), "")
                assert said.strip() and said.isprintable() and len(said) < 2000, said
        assert os.listdir(place) == [case.name], "a reader wrote a file"

    limits = [f"-max_total_time={seconds}", f"-timeout={PATIENCE}", "-rss_limit_mb=0", f"-max_len={LONGEST}"]
    kept = [f"-artifact_prefix={folder / name}-", "-print_final_stats=1", "-reload=0"]
    atheris.Setup([sys.argv[0], *limits, *kept, *([] if again is None else ["-runs=1"]), str(again or learnt)], one)
    atheris.Fuzz()


def report(name: str, folder: Path, seconds: int) -> bool:
    """Attack one target in a process of its own and say in a line what came of it; whether it stood."""
    log = folder / f"{name}.log"
    with log.open("w") as out:
        command = [sys.executable, __file__, ATTACK, name, str(folder), str(seconds)]
        code = subprocess.run(command, stdout=out, stderr=out, check=False).returncode
    text = log.read_text(errors="replace")
    cases = re.findall(r"number_of_executed_units: (\d+)", text)
    lines = re.findall(r"\bcov: (\d+)", text)
    print(f"{name:<20} {(cases or ['?'])[-1]:>9} files, coverage {(lines or ['?'])[-1]:>6}", end="")
    print(": stood" if code == 0 else f": FAULT, see {log}", flush=True)
    if code:
        print("\n".join(f"    {line}" for line in _fault(text)), flush=True)
    return code == 0


def _fault(text: str) -> Sequence[str]:
    """The end of the traceback, and the file that libFuzzer kept."""
    lines = text.splitlines()
    ends = [number for number, line in enumerate(lines) if line.startswith("====")]
    about = lines[: ends[-1]] if ends else lines
    return [*about[-LAST:], *(line for line in lines if "Test unit written" in line)]


def main() -> int:
    """0 if every target stood."""
    parser = argparse.ArgumentParser(description="Attack the readers; see the top of this file.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"default: all of {', '.join(targets())}")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default 60)")
    parser.add_argument("--folder", type=Path, default=Path("build/fuzz"), help="what is learnt and found")
    parser.add_argument("--again", type=Path, metavar="FILE", help="read this file only, and show what happens")
    chosen = parser.parse_args()
    folder = chosen.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if unknown := {*chosen.targets} - {*targets()}:
        parser.error(f"unknown target {', '.join(unknown)}")
    if chosen.again:
        (name,) = chosen.targets
        command = [sys.executable, __file__, ATTACK, name, str(folder), "1", str(chosen.again.absolute())]
        return subprocess.run(command, check=False).returncode
    results = [report(name, folder, chosen.seconds) for name in chosen.targets or targets()]
    return 0 if all(results) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == [ATTACK]:
        _, _, name, folder, seconds, *again = sys.argv
        attack(name, Path(folder), int(seconds), *map(Path, again))
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())

"""What became of the jobs: one small file each while they run, one report at the end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ..atomic import atomic

STATE = ".batch"
"""Folder, inside the batch's, of the files that a resumed batch reads."""


@dataclass(frozen=True)
class Outcome:
    """state: done, failed, or elsewhere (another process is making it); reason: one sentence where it failed.

    seconds: length of the video; wall_seconds: time it took; resumed: it was there already.
    """

    output: str
    state: str
    reason: str = ""
    seconds: float = 0.0
    wall_seconds: float = 0.0
    resumed: bool = False


@dataclass(frozen=True)
class Summary:
    """All outcomes, in the order of the jobs, and the report's path."""

    outcomes: tuple[Outcome, ...]
    report: Path

    def count(self, state: str) -> int:
        """How many ended in that state."""
        return sum(outcome.state == state for outcome in self.outcomes)


def recorded(folder: Path, key: str) -> Outcome | None:
    """The outcome that a job left, if any; a damaged file counts as none."""
    try:
        return Outcome(**json.loads((folder / STATE / f"{key}.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def record(folder: Path, key: str, outcome: Outcome) -> None:
    """Leave `outcome` for the report and for a batch that goes on later."""
    with atomic(folder / STATE / f"{key}.json") as part:
        part.write_text(json.dumps(asdict(outcome)), encoding="utf-8")


def write_report(folder: Path, outcomes: Sequence[Outcome]) -> Summary:
    """report.json and report.md in `folder`: counts, and each failure with its reason."""
    summary = Summary(tuple(outcomes), folder / "report.md")
    failed = [outcome for outcome in outcomes if outcome.state != "done"]
    fresh = sum(outcome.state == "done" and not outcome.resumed for outcome in outcomes)
    said = f"{len(outcomes)} jobs: {summary.count('done')} done ({fresh} in this run), {summary.count('failed')} failed"
    if summary.count("elsewhere"):
        said += f", {summary.count('elsewhere')} left to another process"
    lines = ["# Batch", "", f"{said}."]
    if failed:
        lines += ["", "| output | state | reason |", "|---|---|---|"]
        lines += [f"| {_cell(o.output)} | {o.state} | {_cell(o.reason)} |" for o in failed]
    with atomic(folder / "report.json") as part:
        part.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n", encoding="utf-8")
    with atomic(summary.report) as part:
        part.write_text("\n".join(lines) + "\n", encoding="utf-8", errors="backslashreplace")
    return summary


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

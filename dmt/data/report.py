"""One report of what `prepare` made and what it could not use, for people (report.md) and programs (report.json)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..atomic import atomic
from ..rates import FRAME_RATE
from .shards import Failure


@dataclass(frozen=True)
class PrepareReport:
    """clips: split -> words and frames of each; failures: what could not be used; left_out: names of clips that would
    have joined a person of one split with a sentence of another; shards in all, and made by this run."""

    folder: Path
    clips: dict[str, list[dict[str, Any]]]
    failures: tuple[Failure, ...]
    left_out: tuple[str, ...]
    shards: int
    made: int

    @property
    def kept(self) -> int:
        """Clips that can be trained on or measured with."""
        return sum(map(len, self.clips.values()))

    def rows(self) -> list[tuple[str, int, float, int, int]]:
        """split, clips, minutes, people and known sentences of each."""
        table = []
        for split, clips in self.clips.items():
            minutes = sum(clip["frames"] for clip in clips) / FRAME_RATE / 60
            sentences = {clip["sentence"] for clip in clips} - {None}
            table.append((split, len(clips), minutes, len({clip["identity"] for clip in clips}), len(sentences)))
        return table


def write_report(report: PrepareReport) -> None:
    """report.md and report.json in the prepared folder."""
    content = {
        "splits": [
            dict(zip(("split", "clips", "minutes", "people", "sentences"), row, strict=True)) for row in report.rows()
        ],
        "failures": [asdict(failure) for failure in report.failures],
        "left_out": list(report.left_out),
        "shards": report.shards,
    }
    with atomic(report.folder / "report.json") as part:
        part.write_text(json.dumps(content, indent=1, ensure_ascii=False), encoding="utf-8")
    with atomic(report.folder / "report.md") as part:
        part.write_text(_markdown(report), encoding="utf-8")


def _markdown(report: PrepareReport) -> str:
    lines = ["# Prepared data", "", "| split | clips | minutes | people | known sentences |", "|---|---|---|---|---|"]
    lines += [f"| {s} | {n} | {m:.1f} | {p} | {k} |" for s, n, m, p, k in report.rows()]
    if report.left_out:
        lines += ["", f"{len(report.left_out)} clips are left out: their person is in one split and their sentence in "]
        lines[-1] += "another."
    lines += ["", f"## {len(report.failures)} clips could not be used"]
    lines += ["", *(f"- `{f.name}` in {f.folder}: {f.reason}" for f in report.failures)] if report.failures else []
    return "\n".join(lines) + "\n"

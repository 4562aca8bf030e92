"""The shape of the paper's comparison: any methods' videos against references, beside the values the paper prints.

From J. Zhang and L. P. Shang, "DreamTalk-DMT: A Lightweight Sparse Mechanism Model with Dynamic Thresholds" (2025),
"Table 2 Comparison of experimental results of different methods". The paper's text calls the table "Table 3" and names
"SSIM, SIFT and PSNR"; what is printed is SSIM, LPIPS and PSNR. It states neither the variant of SSIM, the backbone of
LPIPS, the size of the pictures nor which videos were compared, so its values and ours cannot be set against each other.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import atomic
from ..errors import InputError
from .compare import Evaluation, evaluate_videos
from .config import EvaluationConfig

TABLE = "Table 2 Comparison of experimental results of different methods"

PAPER: dict[str, tuple[float, float, float]] = {
    "DMT": (0.7970, 0.1093, 28.2298),
    "DreamTalk": (0.6973, 0.4582, 20.3429),
    "SadTalker": (0.6693, 0.5348, 12.8915),
    "Wav2lip": (0.8470, 0.1277, 34.6643),
    "TANGO": (0.8758, 0.1359, 29.0019),
}
"""Method -> SSIM, LPIPS, PSNR (dB) as the paper prints them. They are the paper's measurements, not ours."""

COLUMNS = ("SSIM↑", "LPIPS↓", "PSNR↑")


@dataclass(frozen=True)
class PaperRow:
    """One method: measured here (SSIM, LPIPS, PSNR; None where it was not) and as the paper prints it, or None."""

    method: str
    measured: tuple[float | None, float | None, float | None] | None
    printed: tuple[float, float, float] | None


@dataclass(frozen=True)
class PaperTable:
    """Rows in the paper's order, then other methods; the evaluations that were run; notes a reader needs."""

    rows: tuple[PaperRow, ...]
    evaluations: dict[str, Evaluation]
    notes: tuple[str, ...]


def parse_methods(given: list[str]) -> dict[str, Path]:
    """METHOD=FOLDER words -> folders by method; the paper's spelling is used for its own methods.

    Raises InputError: not of that form, a method twice, no such folder.
    """
    methods: dict[str, Path] = {}
    spelling = {name.lower(): name for name in PAPER}
    for word in given:
        name, equals, folder = word.partition("=")
        if not equals or not name or not folder:
            raise InputError(f"expected METHOD=FOLDER (as DMT=out/dmt), got {word!r}")
        name = spelling.get(name.lower(), name)
        if name in methods:
            raise InputError(f"the method {name} is given twice")
        if not os.path.isdir(folder):
            raise InputError(f"no such folder: {folder} (of {name})")
        methods[name] = Path(folder)
    if not methods:
        raise InputError("name at least one METHOD=FOLDER of videos")
    return methods


def evaluate_paper(
    methods: Mapping[str, Path],
    reference: str | Path,
    config: EvaluationConfig,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> PaperTable:
    """Measure each method's videos against the references of the same names.

    progress: called with the method, frames done and frames in all. Raises InputError as `evaluate_videos`.
    """
    evaluations = {}
    for method, folder in methods.items():
        step = None if progress is None else (lambda done, total, m=method: progress(m, done, total))
        evaluations[method] = evaluate_videos(folder, reference, config, progress=step)
    order = [*PAPER, *(method for method in methods if method not in PAPER)]
    rows = tuple(PaperRow(m, _measured(evaluations.get(m), config), PAPER.get(m)) for m in order)
    return PaperTable(rows, evaluations, tuple(_notes(evaluations)))


def _measured(evaluation: Evaluation | None, config: EvaluationConfig) -> tuple[float | None, ...] | None:
    if evaluation is None:
        return None
    return tuple(evaluation.mean(name) for name in ("ssim_gaussian11", f"lpips_{config.lpips_net}", "psnr"))


def _notes(evaluations: dict[str, Evaluation]) -> list[str]:
    notes = []
    for method, evaluation in evaluations.items():
        frames = sum(video.frames for video in evaluation.videos)
        notes.append(f"{method}: {len(evaluation.videos)} video(s), {frames} frames")
        notes += [f"{method}: {note}" for note in evaluation.notes]
    names = [{video.pair.name for video in evaluation.videos} for evaluation in evaluations.values()]
    if any(found != names[0] for found in names):
        notes.append("the methods were measured on different videos; their rows cannot be compared")
    lpips = [name for e in evaluations.values() for name in e.missing if name.startswith("lpips")]
    if lpips:
        notes.append("LPIPS was not measured: " + next(iter(evaluations.values())).missing[lpips[0]])
    return notes


def paper_markdown(table: PaperTable, config: EvaluationConfig) -> str:
    """The table as Markdown: ours first, the paper's printed values in columns named as the paper's."""
    head = ["Methods", *(f"{c} (measured here)" for c in COLUMNS), *(f"{c} (printed in the paper)" for c in COLUMNS)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in table.rows:
        lines.append(f"| {' | '.join([row.method, *_cells(row.measured), *_cells(row.printed)])} |")
    lines += [
        "",
        f"Measured here: SSIM with Gaussian window 11 x 11 on RGB, LPIPS with {config.lpips_net}, PSNR as the mean "
        f"over frames; pictures of {config.size} x {config.size}, crop: {config.crop}. A dash: not measured.",
        "",
        f'Printed in the paper: "{TABLE}". The paper states neither the variant of SSIM, the backbone of LPIPS, the '
        "size of the pictures nor the videos; its authors measured them on other videos; they are not our results.",
        "",
        *(f"- {note}" for note in table.notes),
    ]
    return "\n".join(lines).rstrip() + "\n"


def write_paper(table: PaperTable, config: EvaluationConfig, folder: Path) -> None:
    """paper.md and paper.json in `folder`, which must be there."""
    for name, text in (
        ("paper.md", paper_markdown(table, config)),
        ("paper.json", json.dumps(paper_json(table), indent=1, ensure_ascii=False, allow_nan=False)),
    ):
        with atomic(folder / name) as part:
            part.write_text(text, encoding="utf-8")


def paper_json(table: PaperTable) -> dict[str, Any]:
    """The same for programs."""
    keys = ("ssim", "lpips", "psnr")
    return {
        "table": TABLE,
        "rows": [
            {
                "method": row.method,
                "measured_here": row.measured and dict(zip(keys, row.measured, strict=True)),
                "printed_in_the_paper": row.printed and dict(zip(keys, row.printed, strict=True)),
            }
            for row in table.rows
        ],
        "notes": list(table.notes),
    }


def _cells(values: tuple[float | None, ...] | None) -> list[str]:
    return ["—"] * 3 if values is None else ["—" if value is None else f"{value:.4f}" for value in values]

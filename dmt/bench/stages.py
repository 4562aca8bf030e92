"""The sweep behind `dmt bench pipeline`, and its tables."""

from __future__ import annotations

from collections.abc import Callable

from . import bundled, dreamtalk, machine, results, timing
from .stage import PATHS, StageRow, measure
from .tables import Table, share, x

PIPELINES = (dreamtalk.PIPELINE, bundled.PIPELINE)


def run(
    device: str = "cpu", *, frames: int = 128, rounds: int = 3, report: Callable[[StageRow], None] = lambda row: None
) -> dict[str, object]:
    """Measure every stage; the content of the JSON file. Raises `WrongOutput` before a wrong result is timed."""
    timing.keep_freed_memory()
    conditions = machine.conditions()
    rows = []
    for build in (*dreamtalk.stages(frames, device=device), *bundled.stages(min(frames, 64), device)):
        rows.append(measure(build(), rounds, device))
        report(rows[-1])
    first = bundled.begins(rounds, device)
    content = {"schema": results.SCHEMA, "kind": "pipeline", "conditions": conditions, "device": device}
    return {**content, "stages": [row.to_json() for row in rows], "first_frame": first}


def totals(rows: list[StageRow], path: str, scale: str) -> float:
    """Seconds per second of video of a whole pipeline; of the denoiser at several scales, the one asked for."""
    return sum(row.seconds(path) for row in rows if "scale" not in row.name or row.name.endswith(scale))


def tables(content: dict) -> list[Table]:
    """One per pipeline, then the first frame."""
    rows = [StageRow.from_json(row) for row in content["stages"]]
    made = [_pipeline(name, [row for row in rows if row.pipeline == name]) for name in PIPELINES]
    names = {
        "file": "from the call to the frame, the sound being a file",
        "heard": "live: sound that has to be heard before the first frame",
        "computed": "live: work from the last of that sound to the frame",
        "keeping_up": "live: work per second of sound, over the whole sentence",
    }
    lines = tuple((names[name], f"{value:.2f}") for name, value in content["first_frame"].items())
    return [*made, Table("First frame of the streaming iterator, bundled model", ("", "seconds"), lines)]


def _pipeline(name: str, rows: list[StageRow]) -> Table:
    lines = [_line(row, rows) for row in rows]
    scales = ("scale 1", "scale 2") if any("scale" in row.name for row in rows) else ("",)
    for scale in scales:
        seconds = [totals(rows, path, scale) for path in PATHS]
        label = f"in all, {scale}" if scale else "in all"
        blank = ("",) * (len(COLUMNS) - 6)
        gains = [x(seconds[0] / s) for s in seconds[1:]]
        lines.append((label, *(f"{s:.3f}" for s in seconds), *gains, *blank))
    note = (
        "Seconds of work per second of video (25 frames); a path a stage lacks is taken from the one before. Shares "
        "are of the pipeline's exact path, the denoiser's each at its own scale. Memory is what a call adds to the "
        "process."
    )
    return Table(name, COLUMNS, tuple(lines), note)


COLUMNS = (
    *("stage", "plain", "exact", "fast", "exact, times", "fast, times", "share", "GFLOP plain / exact"),
    *("peak MB", "largest error", "fast: PSNR, change of 255"),
)


def _line(row: StageRow, rows: list[StageRow]) -> tuple[str, ...]:
    cells = [f"{row.seconds(path):.3f}" if path in row.times else "" for path in PATHS]
    gains = [x(row.seconds("plain") / row.seconds(path)) if path in row.times else "" for path in PATHS[1:]]
    scale = row.name[-7:] if "scale" in row.name else "scale 1"
    whole = totals(rows, "exact", scale)
    flop = " / ".join(f"{row.gflop[path] / row.video:.1f}" for path in row.gflop if row.gflop[path])
    memory = " / ".join(f"{size / 1e6:.0f}" for size in row.peak_bytes.values() if size is not None)
    error = row.facts.get("largest_error")
    picture = row.facts.get("pictures", {}).get("fast")
    shown = f"{picture['psnr_db']} dB, {picture['largest_change']}" if picture else ""
    return (
        row.name,
        *cells,
        *gains,
        share(row.seconds("exact") / whole),
        flop,
        memory,
        "" if error is None else f"{error:.1e}",
        shown,
    )


def conditions(content: dict) -> str:
    """One paragraph that says what the figures are worth."""
    c = content["conditions"]
    gpu = f"{c['gpu']} ({c['architecture']})" if c["gpu"] else "not yet run on a GPU"
    return (
        f"{c['processor']} ({c['capability']}), {c['threads']} thread(s) ({c['clock']}), device {content['device']}, "
        f"GPU: {gpu}. torch {c['torch']}, Python {c['python']}, dmt {c['dmt']}, commit {c['commit'] or 'not known'}, "
        f"{c['date']}, load {c['load']:.1f}. DreamTalk's networks have random weights, as the released ones are not "
        "public; paths take turns in one process, after their results were compared. GFLOP per second of video."
    )


def markdown(content: dict) -> str:
    """The whole page."""
    parts = [table.markdown() for table in tables(content)]
    return "\n\n".join(["## The pipeline, measured", conditions(content), *parts]) + "\n"

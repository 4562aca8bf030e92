"""What the commands show: a bar per stage while they work, a table at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from time import monotonic
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..errors import printable

if TYPE_CHECKING:
    from ..doctor import Check
    from ..pipeline import Result
    from ..progress import Report

UNITS = {
    "audio": "samples",
    "portrait": "picture",
    "features": "rows",
    "motion": "frames",
    "render": "frames",
    "encode": "frames",
}
"""Of the stages of `dmt generate`; what others count is said by their name."""


LINE_SECONDS = 30.0
"""Where no bar can move, in a log, a line says this often how far the work is."""


@contextmanager
def progress() -> Iterator[Report]:
    """A callback (stage, done, total) that moves one bar per stage, on stderr; a fourth argument says how many seconds
    are left. Where stderr is no terminal, lines take the place of bars that move."""
    columns = (
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
    )
    console = Console(stderr=True)
    bars = Progress(*columns, console=console)
    tasks: dict[str, TaskID] = {}
    began = said = monotonic()

    def report(stage: str, done: int, total: int, left: float | None = None) -> None:
        nonlocal said
        bars.start()  # not before there is something to show: an error stays one line
        if stage not in tasks:
            tasks[stage] = bars.add_task(stage, total=total, unit=UNITS.get(stage, ""), left="")
        left_for = "" if left is None or done >= total else f"{timedelta(seconds=round(left))} left"
        bars.update(tasks[stage], completed=done, total=total, left=left_for)
        now = monotonic()
        if not console.is_terminal and now - said >= LINE_SECONDS:
            said = now
            after = f"after {timedelta(seconds=round(now - began))}"
            line = " ".join(filter(None, (stage, str(done), "of", str(total), UNITS.get(stage, ""), after, left_for)))
            console.print(line, highlight=False, soft_wrap=True)

    try:
        yield report
    finally:
        if tasks:
            bars.stop()


def show_notes(notes: Sequence[str]) -> None:
    """What the user should know, on stderr."""
    for note in notes:
        Console(stderr=True).print(f"note: {escape(note)}", highlight=False, soft_wrap=True)


def show_finding(kind: str, facts: Sequence[tuple[str, str]], takes: Sequence[str]) -> None:
    """What a file is, what it holds, and the commands that take it."""
    console = Console()
    console.print(f"[bold]{escape(printable(kind))}[/bold]", highlight=False, soft_wrap=True)
    for name, value in facts:
        console.print(f"  {escape(printable(name)):<16} {escape(printable(value))}", highlight=False, soft_wrap=True)
    for command in takes:
        console.print(f"  -> {escape(command)}", highlight=False, soft_wrap=True)


def show_result(result: Result) -> None:
    """Notes on stderr; then time per stage, real-time factor, peak memory and where the video is."""
    show_notes(result.notes)
    table = Table(title="where the time went")
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("ms per frame", justify="right")
    for stage, seconds in result.timings.items():
        table.add_row(stage, f"{seconds:.2f}", f"{1000 * seconds / result.frames:.1f}")
    table.add_section()
    table.add_row("in all", f"{result.wall_seconds:.2f}", f"{1000 * result.wall_seconds / result.frames:.1f}")
    table.add_row("real-time factor (time / length)", f"{result.real_time_factor:.2f}", "")
    table.add_row("peak memory, MB", _megabytes(result.peak_memory), "")
    if result.peak_gpu_memory is not None:
        table.add_row("peak GPU memory, MB", _megabytes(result.peak_gpu_memory), "")
    console = Console()
    console.print(table)
    # soft_wrap: a path must stay on one line, however narrow the terminal
    console.print(
        f"wrote {escape(str(result.path))}: {result.frames} frames, {result.seconds:.2f} s",
        highlight=False,
        soft_wrap=True,
    )


def _megabytes(size: int | None) -> str:
    return "not known" if size is None else f"{size / 1e6:.0f}"


def show_checks(checks: Sequence[Check]) -> None:
    """One line per check, under each fault the command that mends it, and the report in a sentence."""
    marks = {"good": "[green]ok     [/green]", "warning": "[yellow]missing[/yellow]", "bad": "[red]FAULT  [/red]"}
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{marks[check.state]} {check.name:<{width}} {escape(check.found)}")
        if check.mend:
            lines.append(f"{'':<{8 + width}} -> {escape(check.mend)}")
    Console().print("\n".join([*lines, _verdict(checks)]), highlight=False, soft_wrap=True)


def _verdict(checks: Sequence[Check]) -> str:
    count = Counter(check.state for check in checks)
    if count["bad"]:
        return (
            f"{count['bad']} to be mended before `dmt generate` can be trusted, {count['warning']} more would be nice"
        )
    if count["warning"]:
        return f"`dmt generate` works here; {count['warning']} of {len(checks)} could be better"
    return f"all {len(checks)} are well"

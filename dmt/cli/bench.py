"""`dmt bench`: kernels and pipeline, measured here and now."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import InputError

if TYPE_CHECKING:
    from ..bench.tables import Table

app = typer.Typer(help="Measure the operators (default) or the pipeline on this machine.", invoke_without_command=True)

Output = Annotated[Path, typer.Option("--output", "-o", help="Folder for the JSON, the tables and the plot.")]
Threads = Annotated[int, typer.Option(help="Threads of torch; one is timed by its processor time, more by the clock.")]
Full = Annotated[bool, typer.Option("--full", help="All seven shapes, longer; some ten minutes.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda.")]


@app.callback()
def _default(context: typer.Context) -> None:
    """Without a command: `dmt bench kernels`."""
    if context.invoked_subcommand is None:
        kernels()


@app.command()
def kernels(
    output: Output = Path("benchmark"),
    threads: Threads = 1,
    full: Full = False,
    device: Device = "auto",
    section: Annotated[list[str] | None, typer.Option(help="Only this part; may be given again.")] = None,
    shape: Annotated[list[str] | None, typer.Option(help="Only this shape, as 1024x512; may be given again.")] = None,
    zeros: Annotated[list[float] | None, typer.Option(help="Only this share of zeros; may be given again.")] = None,
    frames: Annotated[int | None, typer.Option(help="Frames the networks work on; default 32, 64 with --full.")] = None,
) -> None:
    """Every operator, dense against sparse, by share of zeros; forward and backward apart."""
    from dataclasses import replace

    from ..bench import kernels, machine, plot, results, tables

    where = _prepare(threads, device)
    plan = kernels.full(where) if full else kernels.quick(where)
    plan = replace(
        plan,
        sections=tuple(section or plan.sections),
        shapes=tuple(map(_shape, shape)) if shape else plan.shapes,
        zeros=tuple(sorted(zeros)) if zeros else plan.zeros,
        frames=frames or plan.frames,
    )
    peaks, rows = kernels.peaks(where, plan.sections), kernels.run(plan, _progress)
    made = results.Results(machine.conditions(), peaks, tuple(rows))
    results.write(made, output / "kernels.json")
    for table in (tables.measurements(made), *tables.overview(made)):
        _show(table)
    typer.echo(tables.conditions(made))
    _write(tables.markdown(made), output / "kernels.md")
    if not plot.available():
        typer.echo("no plot: matplotlib is not installed (pip install 'dreamtalk-dmt[bench]')")
        return
    for number, variant in enumerate(tables.variants(made)):
        name = "kernels.png" if number == 0 else f"kernels-{'-'.join(filter(None, variant))}.png"
        plot.draw(made, output / name, variant)
        typer.echo(f"wrote {output / name}")


@app.command()
def pipeline(
    output: Output = Path("benchmark"),
    threads: Threads = 1,
    device: Device = "auto",
    frames: Annotated[int, typer.Option(help="Frames that the denoiser makes in one call.")] = 128,
    rounds: Annotated[int, typer.Option(help="Rounds in which all paths take their turn.")] = 3,
) -> None:
    """Every stage, plain, exact and fast, and the time to the first frame; DreamTalk's at full size, and ours."""
    if frames < 1 or rounds < 1:
        raise InputError(f"frames and rounds must be at least 1, got {frames} and {rounds}")
    from ..bench import results, stages

    where = _prepare(threads, device)

    def report(row: stages.StageRow) -> None:
        seconds = ", ".join(f"{path} {row.seconds(path):.3f}" for path in row.times)
        typer.echo(f"{row.pipeline}, {row.name}: {seconds} s per s of video", err=True)

    content = stages.run(where, frames=frames, rounds=rounds, report=report)
    results.save(content, output / "pipeline.json")
    for table in stages.tables(content):
        _show(table)
    typer.echo(stages.conditions(content))
    _write(stages.markdown(content), output / "pipeline.md")


@app.command()
def report(
    source: Annotated[Path, typer.Argument(help="kernels.json or pipeline.json of an earlier run.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Markdown file; default: print it.")] = None,
    short: Annotated[bool, typer.Option("--short", help="Without the list of every measurement.")] = False,
) -> None:
    """The Markdown tables of an earlier run, made from its JSON."""
    from ..bench import results, stages, tables

    if source.name.startswith("pipeline"):
        text = stages.markdown(results.load(source, "pipeline"))
    else:
        text = tables.markdown(results.read(source), every=not short)
    if output is None:
        typer.echo(text)
    else:
        _write(text, output)


def _prepare(threads: int, device: str) -> str:
    """Set torch's threads; the device's type."""
    import torch

    from ..types import as_device

    if not 1 <= threads <= 1024:
        raise InputError(f"threads must lie in 1 .. 1024, got {threads}")
    torch.set_num_threads(threads)
    return as_device(device).type


def _shape(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if found is None:
        raise InputError(f"a shape is written as 1024x512 (rows of x, width), got {text!r}")
    return int(found[1]), int(found[2])


def _progress(section: str, row: object) -> None:
    best = "" if row.speedup is None else f"{row.speedup:6.2f}x"
    name = f"{row.op} {row.leg}"
    typer.echo(f"{section:<14}{name:<40}{row.rows:>5} x {row.width:<5}{row.zeros:>5.0%} zeros {best}", err=True)


def _show(table: Table) -> None:
    from rich.console import Console
    from rich.table import Table as Rich

    shown = Rich(title=table.title.replace("`", ""), caption=table.note.replace("`", "") or None)
    for column in table.columns:
        shown.add_column(column.replace("**", ""), justify="right")
    for line in table.lines:
        shown.add_row(*(cell.replace("**", "") for cell in line))
    console = Console()
    # a pipe has no width: whole columns beat folded ones
    (console if console.is_terminal else Console(width=230)).print(shown)


def _write(text: str, path: Path) -> None:
    from ..atomic import atomic

    with atomic(path) as part:
        part.write_text(text)
    typer.echo(f"wrote {path}")

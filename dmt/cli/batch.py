"""`dmt batch`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .generate import Checkpoint, Device, Renderer, Wav2vec

SHOWN = 5
"""Failures that are named on the screen; the report has all."""


def batch(
    jobs: Annotated[
        Path,
        typer.Argument(
            help="A .csv or .jsonl table (columns: audio, and as wished image, output, and the options of dmt generate "
            "by their names: style, seed, size ...), or a folder of voices and portraits."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder for the videos and report.md.")],
    styles: Annotated[str, typer.Option(help="Of a folder's jobs: emotions, with commas between.")] = "neutral",
    workers: Annotated[int, typer.Option(help="Processes (with --ray: actors) at a time.")] = 1,
    ray: Annotated[str | None, typer.Option(help="Run on Ray: local, or a cluster's address.")] = None,
    checkpoint: Checkpoint = None,
    renderer: Renderer = None,
    wav2vec: Wav2vec = None,
    device: Device = "auto",
) -> None:
    """Make many videos; run it again to go on where it stopped. Exit code 1 if a job failed."""
    from ..batch import Maker, read_jobs, run_batch
    from .report import progress

    listed = read_jobs(jobs, styles=[style.strip() for style in styles.split(",") if style.strip()])
    maker = Maker(_absolute(checkpoint), _absolute(renderer), wav2vec, device)
    with progress() as show:
        summary = run_batch(
            listed,
            output,
            maker,
            workers=workers,
            ray=ray,
            progress=lambda done, total: show("jobs", done, total),
        )
    failed = summary.count("failed")
    reasons = [f"{outcome.output}: {outcome.reason}" for outcome in summary.outcomes if outcome.state == "failed"]
    for reason in reasons[:SHOWN]:
        typer.echo(f"failed: {reason}", err=True)
    if failed > SHOWN:
        typer.echo(f"and {failed - SHOWN} more", err=True)
    typer.echo(
        f"{summary.count('done')} of {len(listed)} videos are in {output}; {failed} failed, see {summary.report}"
    )
    if failed:
        raise typer.Exit(1)


def _absolute(path: Path | None) -> str | None:
    return None if path is None else str(path.absolute())

"""`dmt prepare`: folders of video, sound and coefficients become training data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError


def prepare(
    folders: Annotated[list[Path], typer.Argument(help="Folders of data; each one's layout is recognised.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where shards go; a stopped run goes on there.")],
    layout: Annotated[
        str | None,
        typer.Option(help="synthetic, pirender, voxceleb, mead, hdtf, dreamtalk or videos; default: recognised."),
    ] = None,
    track: Annotated[
        bool, typer.Option("--track", help="Track the faces of videos that have no coefficients beside them (slow).")
    ] = False,
    silent: Annotated[bool, typer.Option("--silent", help="Keep clips without sound.")] = False,
    validation: Annotated[float, typer.Option(help="Share of the people held out for validation.")] = 0.1,
    test: Annotated[float, typer.Option(help="Share of the people held out for test.")] = 0.1,
    sentences: Annotated[float, typer.Option(help="Share of the shared sentences held out for each of the two.")] = 0.2,
    disjoint: Annotated[
        str, typer.Option(help="What no two splits share: identity+sentence, identity, sentence or none.")
    ] = "identity+sentence",
    seed: Annotated[int, typer.Option(help="Same seed, same split.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; 0: one per core.")] = 0,
) -> None:
    """Turn data sets into shards that `dmt train` reads; what cannot be used is skipped and reported."""
    if workers < 0 or seed < 0:
        raise InputError(f"workers and seed must be at least 0, got {workers} and {seed}")
    from ..data import PrepareConfig, SplitConfig
    from ..data import prepare as run
    from .report import progress

    split = SplitConfig(validation, test, sentences, disjoint, seed)
    config = PrepareConfig(split, layout, track, silent)
    with progress() as report:
        made = run(
            folders,
            output,
            config,
            workers=workers,
            progress=lambda done, total: report("clips", done, total),
        )
    for name, clips, minutes, people, _ in made.rows():
        typer.echo(f"{name}: {clips} clips, {minutes:.1f} minutes, {people} people")
    if made.left_out:
        typer.echo(f"left out, to keep people and sentences apart: {len(made.left_out)} clips")
    if made.failures:
        typer.echo(f"could not be used: {len(made.failures)} clips; the reasons are in {made.folder / 'report.md'}")
    if not made.kept:
        raise InputError(f"none of the clips could be used; the reasons are in {made.folder / 'report.md'}")

"""`dmt inspect` and `dmt styles`: what files and emotions there are, in words and as a picture."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

Picture = Annotated[Path | None, typer.Option("--picture", "-p", help="Draw it into this PNG as well.")]


def inspect(
    file: Annotated[Path, typer.Argument(help="Any file: style, pose, motion, checkpoint, sound, film, picture.")],
    picture: Picture = None,
) -> None:
    """Say what a file is, what it holds, and which command takes it."""
    from ..inspection import check_png, draw, write_png
    from ..inspection import inspect as look
    from .report import show_finding

    if picture is not None:
        check_png(picture)
    found = look(file)
    show_finding(found.kind, found.facts, [use.format(shlex.quote(str(file))) for use in found.takes])
    if picture is not None:
        write_png(draw(found), picture)
        typer.echo(f"wrote {picture}")


def styles(picture: Picture = None) -> None:
    """List the bundled emotions, which `dmt generate --style` takes by name."""
    from ..face.styles import emotion_names, load_style
    from ..rates import FRAME_RATE

    if picture is not None:
        from ..inspection import check_png, emotions_strip, write_png

        check_png(picture)
    for name in emotion_names():
        frames = int((~load_style(name).padding).sum())
        typer.echo(f"{name:<10} {frames} frames, {frames / FRAME_RATE:.2f} s")
    if picture is not None:
        write_png(emotions_strip(), picture)
        typer.echo(f"wrote {picture}")

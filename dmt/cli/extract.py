"""`dmt extract`: one's own style clip and head pose from a film."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError


def extract(
    video: Annotated[Path, typer.Argument(help="A film that shows one face from the front.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Style clip to write: .mat (also a pose), .npy [T, 73] or .txt [T, 64]."),
    ],
    pose: Annotated[Path | None, typer.Option(help="Head pose to write as well (.mat).")] = None,
    start: Annotated[float, typer.Option(help="Seconds of the film to leave out.")] = 0.0,
    seconds: Annotated[float | None, typer.Option(help="Seconds to use; default: all.")] = None,
) -> None:
    """Expression, head pose and crop of the face in a film, in DreamTalk's files."""
    if pose is not None and pose.suffix.lower() != ".mat":
        raise InputError(f"the pose must be named *.mat, got {pose.name!r}")
    if pose is not None and pose.resolve() == output.resolve():
        raise InputError(f"{pose} is named twice; a .mat written with --output is a pose already")
    from ..tracking import Stretch, check_targets, write_clip
    from ..tracking import extract as run
    from .report import progress, show_notes

    check_targets(output, pose)
    with progress() as report:
        found = run(video, Stretch(start, seconds), report=report)
    show_notes(found.notes)
    for path in filter(None, (output, pose)):
        write_clip(path, found.expression, found.pose)
    frames = len(found.expression)
    typer.echo(f"{found.pictures} pictures followed with {found.tracker}, {found.bridged} of them interpolated")
    for path in filter(None, (output, pose)):
        typer.echo(f"wrote {path}: {frames} frames, {frames / 25:.2f} s")

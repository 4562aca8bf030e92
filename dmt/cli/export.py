"""`dmt export`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..dreamtalk.denoiser import DreamTalkDenoiser
    from ..model import MotionModel


def export(
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx file to write; an older one is replaced.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Denoiser: ours (.safetensors) or DreamTalk's (.pth); default: the bundled one.")
    ] = None,
    renderer: Annotated[
        Path | None, typer.Option(help="Export this renderer (DreamTalk's renderer.pt) instead of a denoiser.")
    ] = None,
    size: Annotated[int, typer.Option(help="Side of the renderer's picture in pixels, a multiple of 32.")] = 256,
) -> None:
    """Write a network as ONNX: one denoiser step, or the learned renderer."""
    from ..errors import InputError

    if checkpoint is not None and renderer is not None:
        raise InputError("give --checkpoint or --renderer: one file holds one network")
    if renderer is not None:
        from ..dreamtalk import load_renderer
        from ..export import export_renderer

        path = export_renderer(load_renderer(renderer), output, size=size)
    else:
        from ..export import export_denoiser

        path = export_denoiser(_denoiser(checkpoint), output)
    from ..inspection import inspect
    from .report import show_finding

    found = inspect(path)
    show_finding(found.kind, found.facts, found.takes)
    typer.echo(f"wrote {path}: {path.stat().st_size / 1e6:.1f} MB")


def _denoiser(checkpoint: Path | None) -> MotionModel | DreamTalkDenoiser:
    from ..checkpoint import load_model
    from ..dreamtalk import load_denoiser
    from ..dreamtalk.checkpoint import is_foreign
    from ..scene import asset

    if checkpoint is not None and is_foreign(checkpoint):
        return load_denoiser(checkpoint)
    return load_model(asset("demo.safetensors") if checkpoint is None else checkpoint)

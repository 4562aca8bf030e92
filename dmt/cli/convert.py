"""`dmt convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def convert(
    source: Annotated[Path, typer.Argument(help="DreamTalk's denoiser or renderer: .pth, .pt or .safetensors.")],
    target: Annotated[Path, typer.Argument(help="What to write; its suffix names the format.")],
    force: Annotated[bool, typer.Option("--force", "-f", help="Replace TARGET if it exists.")] = False,
) -> None:
    """Turn DreamTalk's checkpoints into safetensors, or back; the weights are checked on the way."""
    from ..dreamtalk.convert import convert as run

    kind = run(source, target, force=force)
    typer.echo(f"wrote {target}: a {kind}")

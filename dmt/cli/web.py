"""`dmt web`."""

from __future__ import annotations

from typing import Annotated

import typer

from .generate import Checkpoint, Device, Renderer
from .serve import Host, web_missing


def web(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")] = 7860,
    workers: Annotated[int, typer.Option(min=1, help="Videos made at once; whoever comes later queues.")] = 1,
    waiting: Annotated[int, typer.Option(min=1, help="Visitors that may queue.")] = 20,
    longest: Annotated[float, typer.Option(min=0.04, help="Seconds of sound that a video may have.")] = 120.0,
    upload: Annotated[int, typer.Option(min=1, help="Megabytes of one upload.")] = 50,
    checkpoint: Checkpoint = None,
    renderer: Renderer = None,
    device: Device = "auto",
) -> None:
    """A page in the browser: speak, choose a face and a mood, watch."""
    try:
        from ..web import Bounds, launch
    except ModuleNotFoundError as error:
        raise web_missing(error) from None
    from ..pipeline import load

    bounds = Bounds(workers=workers, waiting=waiting, sound=longest, upload=upload)
    launch(load(checkpoint, device, renderer=renderer), host, port, bounds)

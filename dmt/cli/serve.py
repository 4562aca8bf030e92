"""`dmt serve`."""

from __future__ import annotations

from typing import Annotated

import typer

from ..errors import InputError
from .generate import Checkpoint, Device, Renderer

Host = Annotated[
    str, typer.Option(help="Address to listen on; 0.0.0.0: every one, for whoever can reach this machine.")
]


def serve(
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")] = 8000,
    workers: Annotated[int, typer.Option(min=1, help="Jobs made at once.")] = 1,
    waiting: Annotated[int, typer.Option(min=0, help="Jobs that may wait for a worker.")] = 32,
    live: Annotated[int, typer.Option(min=1, help="Live sessions at once.")] = 2,
    longest: Annotated[float, typer.Option(min=0.04, help="Seconds of sound that a job may have.")] = 600.0,
    keep: Annotated[float, typer.Option(min=1, help="Seconds that a finished video stays.")] = 3600.0,
    upload: Annotated[int, typer.Option(min=1, help="Megabytes of one upload.")] = 100,
    checkpoint: Checkpoint = None,
    renderer: Renderer = None,
    device: Device = "auto",
) -> None:
    """Serve jobs over HTTP and live sessions over WebSocket."""
    try:
        from ..service import Limits
        from ..service import serve as run
    except ModuleNotFoundError as error:
        raise web_missing(error) from None
    from ..pipeline import load

    limits = Limits(workers=workers, waiting=waiting, live=live, sound=longest, keep=keep, upload=round(1e6 * upload))
    run(load(checkpoint, device, renderer=renderer), host, port, limits)


def web_missing(error: ModuleNotFoundError) -> InputError:
    """The sentence for an installation without the extra; a module of ours that is missing is a bug and stays one."""
    if (error.name or "").split(".")[0] == "dmt":
        raise error
    return InputError(f'{error.name} is not installed; run: pip install "dreamtalk-dmt[web]"')

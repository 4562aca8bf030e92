"""Running the service: one process, a socket, a clean end."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING

import uvicorn

from ..errors import InputError
from ..memory import one_arena
from .app import app
from .limits import Limits

if TYPE_CHECKING:
    from ..pipeline import Pipeline


def serve(pipeline: Pipeline, host: str = "127.0.0.1", port: int = 8000, limits: Limits | None = None) -> None:
    """Serve until SIGINT or SIGTERM: then nothing new is taken, running work is cancelled, files are removed.

    InputError: the address cannot be listened on.
    """
    limits = limits or Limits()
    one_arena()
    with listening(host, port, limits) as listener:
        name, taken = listener.getsockname()[:2]
        print(f"the service is at http://{f'[{name}]' if ':' in name else name}:{taken}", flush=True)
        server(pipeline, limits).run(sockets=[listener])


def server(pipeline: Pipeline, limits: Limits) -> uvicorn.Server:
    """uvicorn with the bounds that belong to it."""
    config = uvicorn.Config(
        app(pipeline, limits),
        log_level="info",
        ws="websockets-sansio",
        ws_max_size=limits.message,
        # A client stopped by back-pressure cannot answer pings; sessions have timeouts of their own.
        ws_ping_interval=None,
        ws_per_message_deflate=False,  # pictures and speech do not shrink
        timeout_keep_alive=10,
        timeout_graceful_shutdown=5,
    )
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    return uvicorn.Server(config)


def _is_news(record: logging.LogRecord) -> bool:
    """False for what uvicorn calls an error: a WebSocket refused by a whole HTTP response, as it should be."""
    return record.msg != "ASGI callable returned without completing handshake."


def listening(host: str, port: int, limits: Limits) -> socket.socket:
    """A bound socket. Where the system can, it gives up connections whose client takes nothing."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=128)
    except (OSError, OverflowError) as error:
        raise InputError(f"cannot listen on {host} port {port} ({error}); choose another --host or --port") from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * limits.stuck))
    return listener

"""Pages of other sites may not use the service: a browser would let any page reach what listens on this machine."""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket


class SameOrigin:
    """Refuses, with status 403, what a browser sends on behalf of a page of another host.

    Programs send no `Origin` and pass. Behind a proxy, the proxy must keep the `Host` header.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] not in ("http", "websocket") or _own(Headers(scope=scope)):
            return await self._app(scope, receive, send)
        refusal = JSONResponse({"error": "this page's site may not use the service"}, 403)
        if scope["type"] == "websocket":
            return await WebSocket(scope, receive, send).send_denial_response(refusal)
        return await refusal(scope, receive, send)


def _own(headers: Headers) -> bool:
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")

"""The pipeline behind HTTP and WebSocket: jobs that wait their turn, and sound that becomes frames while it is spoken.

    POST   /v1/jobs            audio, portrait and options as a form; 202 and the job's state
    GET    /v1/jobs/ID         queued, running (with progress), done, failed or cancelled
    GET    /v1/jobs/ID/video   the mp4
    DELETE /v1/jobs/ID         cancel, and remove what there is
    WS     /v1/live            a JSON hello, then 16 kHz sound in; JPEG frames or fragmented mp4 out
    GET    /health, /metrics   for probes and for Prometheus

Needs the extra [web]. `app` makes the ASGI application, `serve` runs it.
"""

from .app import app
from .limits import Limits
from .server import serve

__all__ = ["Limits", "app", "serve"]

"""The routes, and what lives as long as the service: jobs, their folder, the tasks."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import FileResponse, JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.datastructures import FormData
from starlette.exceptions import HTTPException

from .. import __version__
from ..errors import InputError
from .jobs import Full, Job, Jobs
from .limits import Limits
from .live import Session
from .metrics import Metrics
from .origin import SameOrigin
from .request import read_request
from .uploads import TooLarge, TooSlow, read_form, split, store

if TYPE_CHECKING:
    from ..pipeline import Pipeline

ROUTES = {
    "POST /v1/jobs": "a form with the file `audio`, as wished `image`, `style`, `pose` and options; the job's state",
    "GET /v1/jobs/ID": "the job's state",
    "GET /v1/jobs/ID/video": "the mp4",
    "DELETE /v1/jobs/ID": "cancel, or remove what is done",
    "WS /v1/live": "a JSON hello, then 16 kHz sound in; JPEG frames or fragmented mp4 out",
    "GET /health": "up, and how busy",
    "GET /metrics": "for Prometheus",
}
"""What `GET /` answers; docs/service.md says more."""


def app(pipeline: Pipeline, limits: Limits | None = None) -> FastAPI:
    """The ASGI application around a pipeline. What it holds is made when it starts and removed when it stops."""
    service = _Service(pipeline, limits or Limits())
    made = FastAPI(title="DreamTalk-DMT", version=__version__, lifespan=service.lifespan)
    made.add_middleware(SameOrigin)
    made.add_exception_handler(InputError, service.refuse)
    made.add_exception_handler(HTTPException, service.say)
    made.add_exception_handler(Full, service.refuse)
    made.get("/")(service.index)
    made.post("/v1/jobs", status_code=202)(service.post)
    made.get("/v1/jobs/{name}")(service.show)
    made.get("/v1/jobs/{name}/video")(service.video)
    made.delete("/v1/jobs/{name}")(service.delete)
    made.websocket("/v1/live")(service.live)
    made.get("/health")(service.health)
    made.get("/metrics")(service.scrape)
    return made


class _Service:
    """The handlers of the routes, over one pipeline."""

    def __init__(self, pipeline: Pipeline, limits: Limits) -> None:
        self._pipeline, self._limits, self._metrics = pipeline, limits, Metrics()
        self._live = 0
        self._metrics.live.set_function(lambda: self._live)

    @asynccontextmanager
    async def lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        """Leaving it cancels all jobs, waits for their threads, and removes every file."""
        self._live_workers = anyio.CapacityLimiter(self._limits.live)
        with tempfile.TemporaryDirectory(prefix="dmt-serve-") as folder:
            async with anyio.create_task_group() as group:
                self._jobs = Jobs(self._pipeline, self._limits, self._metrics, Path(folder), group)
                group.start_soon(self._jobs.expire)
                yield
                group.cancel_scope.cancel()

    async def index(self) -> dict[str, Any]:
        """What there is, for whoever opens the address."""
        return {"service": "DreamTalk-DMT", "version": __version__, "routes": ROUTES}

    async def post(self, request: Request) -> JSONResponse:
        """A form: `audio` (file), `image`, `style`, `pose` (files, or names for the last two), and options."""
        self._jobs.check_room()  # before anything is taken in
        form = await read_form(request, self._limits)
        try:
            job = await self._accept(form)
        finally:
            await form.close()
        return JSONResponse(self._state(job), 202, headers={"location": f"/v1/jobs/{job.id}"})

    async def _accept(self, form: FormData) -> Job:
        """A checked form as a queued job with files of its own."""
        files, fields = split(form)
        if "audio" not in files:
            raise InputError("the file `audio` is missing: send a sound or video file under that name")
        options = read_request(fields, self._limits)
        folder = self._jobs.new_folder()
        try:
            return self._jobs.add(options, folder, await anyio.to_thread.run_sync(store, files, folder))
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    async def show(self, name: str) -> dict[str, Any]:
        """The state of a job."""
        return self._state(self._job(name))

    async def video(self, name: str) -> FileResponse:
        """The mp4 of a job that is done."""
        job = self._job(name)
        if job.state != "done":
            raise HTTPException(
                409, f"the job is {job.state}; there is no video" + (f": {job.error}" if job.error else "")
            )
        return FileResponse(job.video, media_type="video/mp4", filename="talking.mp4")

    async def delete(self, name: str) -> dict[str, Any]:
        """Cancel a job, or remove one that is over."""
        job = self._job(name)
        over = job.over
        self._jobs.remove(job)
        return {"id": job.id, "state": "removed" if over else job.state}

    async def live(self, socket: WebSocket) -> None:
        """A session; refused with status 503 where not even the queue has room."""
        if self._live >= self._limits.live + self._limits.live_waiting:
            self._metrics.refused.labels("503").inc()
            await socket.send_denial_response(_error(503, "too many live sessions; try again later"))
            return
        self._live += 1
        outcome = "gone"
        try:
            await socket.accept()
            session = Session(socket, self._pipeline, self._limits, self._metrics, self._live_workers)
            outcome = await session.run()
        finally:
            self._live -= 1
            self._metrics.sessions.labels(outcome).inc()

    async def health(self) -> dict[str, Any]:
        """Up, and how busy."""
        return {
            "status": "ok",
            "version": __version__,
            "device": str(self._pipeline.device),
            "queued": self._jobs.count("queued"),
            "running": self._jobs.count("running"),
            "live": self._live,
        }

    async def scrape(self) -> Response:
        """Metrics in Prometheus' text format."""
        return Response(generate_latest(self._metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def refuse(self, _: Request, error: Exception) -> JSONResponse:
        """A sentence and a status for what the client did, or for a queue that is full."""
        if isinstance(error, Full):
            status, said = 503, "the queue is full; try again later"
        else:
            status, said = {TooLarge: 413, TooSlow: 408}.get(type(error), 422), str(error)
        self._metrics.refused.labels(str(status)).inc()
        return _error(status, said)

    async def say(self, _: Request, error: HTTPException) -> JSONResponse:
        """Every error has the same shape."""
        if error.status_code == 404 and error.detail == "Not Found":  # starlette's, for a path without a route
            error.detail = "there is nothing here; GET / lists what there is"
        self._metrics.refused.labels(str(error.status_code)).inc()
        return _error(error.status_code, str(error.detail))

    def _job(self, name: str) -> Job:
        job = self._jobs.get(name)
        if job is None:
            raise HTTPException(404, "no such job: it never was, or it has expired")
        return job

    def _state(self, job: Job) -> dict[str, Any]:
        state: dict[str, Any] = {"id": job.id, "state": job.state}
        if job.state == "queued":
            state["before"] = self._jobs.position(job)
        if job.state == "running":
            state |= {"stage": job.stage, "progress": round(job.progress, 4)}
        if job.error is not None:
            state["error"] = job.error
        if job.result is not None and job.state == "done":
            state |= {
                "video": f"/v1/jobs/{job.id}/video",
                "frames": job.result.frames,
                "seconds": job.result.seconds,
                "wall_seconds": round(job.result.wall_seconds, 3),
                "timings": {stage: round(spent, 3) for stage, spent in job.result.timings.items()},
                "notes": list(job.result.notes),
                "expires_in": round(max(0.0, (job.ended or 0.0) + self._limits.keep - time.time()), 1),
            }
        return state


def _error(status: int, sentence: str) -> JSONResponse:
    headers = {"retry-after": "10"} if status == 503 else None
    return JSONResponse({"error": sentence}, status, headers=headers)

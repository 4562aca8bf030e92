"""A real uvicorn on a port of its own, around the tiny model; clients talk to it through the network."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

import dmt
from dmt.pipeline import Pipeline

pytest.importorskip("fastapi", reason="the service comes with the extra [web]")
pytest.importorskip("prometheus_client", reason="the service comes with the extra [web]")

from dmt.service.limits import Limits
from dmt.service.server import listening, server

SMALL = {"size": "64", "steps": "1"}
"""Options of the cheapest video."""


@dataclass(frozen=True)
class Running:
    """A service that answers. http: a client of it; live: the address of its WebSocket."""

    http: httpx.Client
    live: str

    def post(self, audio, **fields) -> httpx.Response:
        """POST a job of the cheapest kind."""
        return self.http.post("/v1/jobs", files={"audio": audio}, data=SMALL | fields)

    def over(self, job: str, seconds: float = 20.0) -> dict:
        """The state of a job once it is neither queued nor running."""
        return self.until(
            lambda: self.http.get(f"/v1/jobs/{job}").json(),
            lambda state: state["state"] not in ("queued", "running"),
            seconds,
        )

    def until(self, ask: Callable, is_so: Callable, seconds: float = 20.0):
        """Ask until the answer is right."""
        deadline = time.monotonic() + seconds
        while not is_so(answer := ask()):
            assert time.monotonic() < deadline, f"still {answer}"
            time.sleep(0.02)
        return answer

    def metric(self, name: str) -> float:
        """One value of /metrics."""
        for line in self.http.get("/metrics").text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[-1])
        raise AssertionError(f"no metric {name}")


@contextmanager
def serving(pipeline: Pipeline, limits: Limits) -> Iterator[Running]:
    """Start, wait until it answers, and stop as a signal would."""
    listener = listening("127.0.0.1", 0, limits)
    port = listener.getsockname()[1]
    service = server(pipeline, limits)
    thread = threading.Thread(target=service.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            while not service.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield Running(http, f"ws://127.0.0.1:{port}/v1/live")
    finally:
        service.should_exit = True
        thread.join(20)
        listener.close()
    assert not thread.is_alive(), "the service did not stop"


@contextmanager
def program(checkpoint: Path, *arguments: str, folder: Path) -> Iterator[tuple[subprocess.Popen, Running]]:
    """`dmt serve` as a process of its own, once it answers; killed on leaving if it still runs.

    folder: for its temporary files, and for `log.txt`, what it says.
    """
    port = free_port()
    where = ("--port", str(port), "--checkpoint", str(checkpoint), "--device", "cpu")
    with (folder / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", "from dmt.cli import main; main()", "serve", *where, *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(dmt.__file__).parents[1]),
                "OMP_NUM_THREADS": "1",
                "TMPDIR": str(folder),
            },
        )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            deadline = time.monotonic() + 60
            while not _answers(http):
                assert time.monotonic() < deadline and process.poll() is None
                time.sleep(0.1)
            yield process, Running(http, f"ws://127.0.0.1:{port}/v1/live")
    finally:
        process.kill()
        process.wait()


def _answers(http: httpx.Client) -> bool:
    try:
        return http.get("/health").json()["status"] == "ok"
    except httpx.ConnectError:
        return False


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]

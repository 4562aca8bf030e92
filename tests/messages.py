"""What strangers may send to the service, as files that hold it: a form with a job, the first message of a session."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
from readers import TONE, Kind, write_mat, write_picture
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message

from dmt.service.limits import Limits
from dmt.service.live import _portrait
from dmt.service.request import read_hello, read_request
from dmt.service.uploads import read_form, split, store

LIMITS = Limits(upload=1 << 20)
HEAD = b'--x\r\nContent-Disposition: form-data; name="%s"'
FIELDS = {b"pose": b"still", b"intensity": b"1.5", b"seed": b"3", b"blink": b"no", b"steps": b"4", b"size": b"128"}


def hello(path: Path) -> None:
    """As dmt.service.live takes it. What is no UTF-8 does not come so far."""
    with tempfile.TemporaryDirectory() as folder:
        _portrait(read_hello(path.read_bytes().decode("utf-8", "replace"), LIMITS), Path(folder))


def form(path: Path) -> None:
    """As dmt.service.app takes it; a form that is none is starlette's to refuse."""
    with suppress(HTTPException), tempfile.TemporaryDirectory() as folder:
        anyio.run(_take, path.read_bytes(), Path(folder))


async def _take(body: bytes, folder: Path) -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", b"multipart/form-data; boundary=x")]
    taken = await read_form(Request({"type": "http", "headers": headers, "app": None}, receive), LIMITS)
    try:
        files, fields = split(taken)
        read_request(fields, LIMITS)
        store(files, folder)
    finally:
        await taken.close()
    assert all(file.parent == folder for file in folder.rglob("*"))


def written(write: Callable[[Path], object], suffix: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        write(path)
        return path.read_bytes()


def write_form(path: Path) -> None:
    files = {
        (b"audio", b"a.wav"): TONE[:100].tobytes(),
        (b"image", b"b.png"): written(write_picture, ".png")[:3000],
        (b"style", b"c.mat"): written(write_mat(), ".mat")[:200],
    }
    parts = [HEAD % name + b"\r\n\r\n" + value for name, value in FIELDS.items()]
    parts += [HEAD % name + b'; filename="%s"\r\n\r\n' % named + content for (name, named), content in files.items()]
    path.write_bytes(b"\r\n".join(parts) + b"\r\n--x--\r\n")


def write_hello(path: Path) -> None:
    path.write_text('{"frames": "mp4", "latency": 0.6, "options": {"style": "sad", "seed": 4}, "portrait": null}')


MESSAGES = (Kind("form.body", write_form, (form,)), Kind("hello.message", write_hello, (hello,)))

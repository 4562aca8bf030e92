"""Uploads: bounded while they come in, and under names of our own when they are here."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import anyio
from PIL import Image
from starlette.datastructures import FormData, UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message, Receive

from ..errors import InputError
from .limits import Limits

FILES = {
    "audio": "the audio sent",
    "image": "the portrait sent",
    "style": "the style clip sent",
    "pose": "the pose sent",
}
"""Fields of a form that may be files, and what sentences call them."""

PICTURES = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF")

_SUFFIXES = {"style": (".mat", ".txt"), "pose": (".mat",)}
"""Of the files whose kind goes by their name; the others are told by their content."""


class TooLarge(InputError):
    """More bytes than the limit."""


class TooSlow(InputError):
    """The upload took longer than the limit."""


async def read_form(request: Request, limits: Limits) -> FormData:
    """The form of a request, its files spooled to disk. InputError: no form, too large, too slow, too many fields."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.upload:
        raise TooLarge(_too_large(limits))
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise InputError("a form with the file `audio` was expected (multipart/form-data)")
    bounded = Request(request.scope, _bounded(request.receive, limits))
    try:
        with anyio.fail_after(limits.upload_seconds):
            return await bounded.form(max_files=len(FILES), max_fields=16, max_part_size=4096)
    except ClientDisconnect:
        raise InputError("the upload broke off") from None
    except TimeoutError:
        raise TooSlow(f"the upload took more than {limits.upload_seconds:g} s") from None


def _bounded(receive: Receive, limits: Limits) -> Receive:
    """The same messages until they hold more than the limit, whatever the header said."""
    taken = 0

    async def next_message() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > limits.upload:
            raise TooLarge(_too_large(limits))
        return message

    return next_message


def _too_large(limits: Limits) -> str:
    return f"the upload is too large: {limits.upload / 1e6:g} MB are allowed in all"


def split(form: FormData) -> tuple[dict[str, UploadFile], dict[str, Any]]:
    """Files and plain fields of a form; a file field that was left empty in a browser counts as left out."""
    files, fields = {}, {}
    for name, value in form.multi_items():
        if name in files or name in fields:
            raise InputError(f"the field {name[:40]!r} came twice")
        if not isinstance(value, UploadFile):
            fields[name] = value
        elif name not in FILES:
            raise InputError(f"unknown file {name[:40]!r}: expected {', '.join(FILES)}")
        elif value.filename:
            files[name] = value
    return files, fields


def store(files: dict[str, UploadFile], folder: Path) -> dict[str, Path]:
    """Write the uploads into `folder`; a client's file name decides nothing but a suffix out of a list."""
    stored = {}
    for name, upload in files.items():
        target = folder / (name + _suffix(name, upload.filename or ""))
        with target.open("wb") as file:
            shutil.copyfileobj(upload.file, file)
        stored[name] = target
    if "image" in stored:
        check_picture(stored["image"])
    return stored


def _suffix(name: str, sent: str) -> str:
    kinds = _SUFFIXES.get(name, ("",))
    for kind in kinds:
        if sent.lower().endswith(kind):
            return kind
    raise InputError(f"{FILES[name]} must be named {' or '.join('*' + kind for kind in kinds)}, got {sent[-40:]!r}")


def check_picture(path: Path) -> None:
    """InputError unless the header says that it is one of `PICTURES`, whose readers run no other program."""
    Image.init()  # or only the commonest formats are known by name
    try:
        with Image.open(path, formats=PICTURES):
            pass
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise InputError(f"{FILES['image']} is no picture: expected {', '.join(PICTURES)}") from None


def plain(sentence: str, stored: dict[str, Path]) -> str:
    """A sentence with our paths replaced by what they are to the client."""
    for name, path in stored.items():
        sentence = sentence.replace(str(path), FILES[name])
    return sentence

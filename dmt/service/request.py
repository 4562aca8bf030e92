"""The options of a request, whichever way they came: one meaning, one sentence where they are wrong."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ..errors import InputError
from ..face.styles import emotion_names
from .limits import Limits


class Request(BaseModel):
    """How the face acts: the fields of `dmt.scene.Options` that mean the same everywhere.

    Only names of bundled emotions and poses are taken here. A file of one's own is sent, never named, so that no
    client can have the server open a path.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    style: str = "neutral"
    intensity: float = Field(1.0, ge=0, le=3, allow_inf_nan=False)
    pose: Literal["natural", "still"] = "natural"
    blink: bool = True
    seed: int = Field(0, ge=0, lt=2**60)
    steps: int = Field(10, ge=1)
    guidance: float = Field(1.0, ge=0, le=20, allow_inf_nan=False)
    size: int | None = Field(None, ge=64)
    watermark: bool = False


class Hello(BaseModel):
    """The first message of a live session.

    frames: `jpeg`, a message a frame, or `mp4`, fragments with the sound. latency: seconds, as in `Pipeline.stream`.
    quality: of the JPEG. portrait: a picture, base64; None: the bundled one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    frames: Literal["jpeg", "mp4"] = "jpeg"
    latency: float = Field(0.5, ge=0.04, le=10)
    quality: int = Field(85, ge=1, le=95)
    portrait: str | None = None
    options: Request = Request()


def read_request(fields: dict[str, Any], limits: Limits) -> Request:
    """Form fields as a request. InputError: an unknown field, a value outside its range or the limits."""
    try:
        return _limited(Request.model_validate(fields), limits)
    except ValidationError as error:
        raise InputError(_sentence(error)) from None


def read_hello(text: str, limits: Limits) -> Hello:
    """A live session's first message. InputError as in `read_request`, or no JSON."""
    try:
        hello = Hello.model_validate(json.loads(text))
    except ValidationError as error:
        raise InputError(_sentence(error)) from None
    except (ValueError, RecursionError):
        raise InputError('the first message must be JSON such as {"frames": "jpeg"}') from None
    _limited(hello.options, limits)
    return hello


def _limited(request: Request, limits: Limits) -> Request:
    if request.style not in emotion_names():
        names = ", ".join(emotion_names())
        raise InputError(f"unknown emotion {request.style[:40]!r}: expected one of {names}, or send a clip's file")
    if request.size is not None and request.size > limits.size:
        raise InputError(f"size is limited to {limits.size} pixels here, got {request.size}")
    if request.steps > limits.steps:
        raise InputError(f"steps are limited to {limits.steps} here, got {request.steps}")
    return request


def _sentence(error: ValidationError) -> str:
    """The first fault in words: where, what was expected, what came."""
    fault = error.errors()[0]
    where = ".".join(str(part) for part in fault["loc"]) or "the message"
    if fault["type"] == "extra_forbidden":
        known = ", ".join(sorted({*Request.model_fields, *Hello.model_fields} - {"options"}))
        return f"unknown field {where[:40]!r}: expected some of {known}"
    return f"{where[:40]}: {fault['msg'][0].lower()}{fault['msg'][1:]}, got {str(fault['input'])[:40]!r}"

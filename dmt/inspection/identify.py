"""Telling files apart by their first bytes, never by running what is inside them."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError
from .arrays import from_mat, from_npy, from_npz, from_text
from .checkpoints import from_onnx, from_safetensors, from_torch
from .finding import Finding
from .recordings import from_media, from_picture

PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"BM", b"GIF8", b"II*\x00", b"MM\x00*", b"qoif", b"P5", b"P6")
SOUNDS = (b"RIFF", b"fLaC", b"OggS", b"ID3", b"\x1a\x45\xdf\xa3", b"FORM", b"\xff\xfb", b"\xff\xf3", b"\xff\xf1")
"""Also films: RIFF is wav or avi, 1A45DFA3 is webm or mkv."""
KNOWN = (
    "a style clip or pose (.mat, .npy, .txt), a face motion (.npy), a checkpoint (.safetensors, .pth, .pt), a network "
    "(.onnx), landmarks (.npz, .npy), a sound, a film or a picture"
)


def inspect(path: str | Path) -> Finding:
    """What `path` is. InputError, in one sentence: absent, a folder, empty, damaged, or of no kind known here."""
    path = Path(path)
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; name a file in it")
    if not os.path.exists(path):
        raise InputError(f"no such file: {path}")
    if not os.path.isfile(path):
        raise InputError(f"{path} is a pipe or a device; save it to a file first")
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if not start:
        raise InputError(f"{path} is empty")
    return _reader(path, start)(path)


def _reader(path: Path, start: bytes) -> Callable[[Path], Finding]:
    suffix = path.suffix.lower()
    if start.startswith(b"MATLAB") or suffix == ".mat":
        return from_mat
    if start.startswith(b"\x93NUMPY") or suffix == ".npy":
        return from_npy
    if suffix == ".npz":
        return from_npz
    if suffix == ".onnx":
        return from_onnx
    if suffix in (".pth", ".pt", ".ckpt", ".bin") or start.startswith((b"PK\x03\x04", b"\x80\x02")):
        return from_torch
    if suffix == ".safetensors" or start[8:10] == b'{"':
        return from_safetensors
    if (start.startswith(SOUNDS) and start[8:12] != b"WEBP") or start[4:8] == b"ftyp":
        return from_media
    if start.startswith(PICTURES) or start[8:12] == b"WEBP":
        return from_picture
    if suffix in (".txt", ".csv"):
        return from_text
    return _media_or_nothing


def _media_or_nothing(path: Path) -> Finding:
    try:
        return from_media(path)
    except InputError:
        raise InputError(f"{path} is of no kind known here; expected {KNOWN}") from None

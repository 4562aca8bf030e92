"""What a video says of its own making, in tags that players and ffprobe show."""

from __future__ import annotations

import hashlib
import json
import os
from functools import cache
from pathlib import Path

from . import __version__
from .scene import FilePath, Options

TITLE = "Synthetic video of a talking face"
SOURCE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's term for media made by a trained model, which C2PA manifests use too."""


def provenance(options: Options, checkpoint: FilePath | None) -> dict[str, str]:
    """Tags of an mp4: title, and as description one JSON object of program, version, seed, model and kind of source.

    The model is the SHA-256 of its checkpoint, None where no file is known. Nothing names the user's files.
    """
    made = {
        "digitalSourceType": SOURCE,
        "generator": "DreamTalk-DMT",
        "version": __version__,
        "seed": options.seed,
        "checkpoint_sha256": None if checkpoint is None else _digest(*_state(checkpoint)),
        "visible_mark": options.watermark,
    }
    return {"title": TITLE, "description": json.dumps(made)}


def _state(path: FilePath) -> tuple[str, int, int]:
    stat = os.stat(path)
    return str(Path(path).resolve()), stat.st_size, stat.st_mtime_ns


@cache
def _digest(path: str, size: int, changed: int) -> str:
    """Of the file's content; size and time of change are there for the cache, a service hashes once."""
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()

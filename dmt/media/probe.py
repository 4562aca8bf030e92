"""Looking into a container without decoding it."""

from __future__ import annotations

import os

from .reading import _open


def has_sound(path: str | os.PathLike[str]) -> bool:
    """Whether the file has a sound track. InputError: no such file, or none that can be opened."""
    with _open(path) as container:
        return bool(container.streams.audio)

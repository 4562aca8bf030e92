"""The layouts that can be read, each a pair of functions: what is in a folder, and one clip of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError
from . import dreamtalk, filmed, pirender, synthetic
from .clip import Clip
from .source import Source
from .tracks import Tracker


@dataclass(frozen=True)
class Layout:
    """find: folder -> sources, empty where it is another layout; read: source and tracker -> clip."""

    find: Callable[[Path], list[Source]]
    read: Callable[[Source, Tracker], Clip]


LAYOUTS: dict[str, Layout] = {
    "synthetic": Layout(synthetic.find, synthetic.read),
    "pirender": Layout(pirender.find, pirender.read),
    "voxceleb": Layout(filmed.find_voxceleb, filmed.read),
    "mead": Layout(filmed.find_mead, filmed.read),
    "hdtf": Layout(filmed.find_hdtf, filmed.read),
    "dreamtalk": Layout(dreamtalk.find, dreamtalk.read),
    "videos": Layout(filmed.find_videos, filmed.read),
}
"""From the most telling to the least: a folder is taken for the first that finds something in it."""


def find_sources(folder: str | Path, layout: str | None = None) -> list[Source]:
    """The clips of a folder, sorted by name. layout: one of `LAYOUTS`; None recognises it.

    Raises InputError: no such folder, unknown layout, nothing of that layout in it.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise InputError(f"no such folder: {folder}")
    if layout is not None and layout not in LAYOUTS:
        raise InputError(f"unknown layout {layout!r}: expected one of {', '.join(LAYOUTS)}")
    for name in [layout] if layout else LAYOUTS:
        sources = LAYOUTS[name].find(folder)
        if sources:
            return sorted(sources, key=lambda source: source.name)
    wanted = f"of the layout {layout}" if layout else "that can be read"
    raise InputError(f"{folder} holds nothing {wanted}; expected {', '.join(LAYOUTS)} (see docs/data.md)")


def read_clip(source: Source, tracker: Tracker) -> Clip:
    """One clip, checked, at 25 frames a second. Raises InputError for files that are broken or do not fit."""
    return LAYOUTS[source.layout].read(source, tracker).check().at_frame_rate()

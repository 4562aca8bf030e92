"""What a reader finds in a folder: where a clip's parts lie and what its name says. Nothing is decoded yet."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

VIDEOS = (".mp4", ".mov", ".mkv", ".avi", ".webm", ".m4v", ".mpg")
SOUNDS = (".wav", ".flac", ".m4a", ".mp3", ".aac", ".ogg", ".opus", ".wma")
PICTURES = (".png", ".jpg", ".jpeg")

EMOTIONS = ("angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised")
"""Names that layouts spell out in their paths (MEAD's, which are also the bundled styles')."""


@dataclass(frozen=True)
class Source:
    """One clip of a data set before it is read.

    layout: the reader's name; name: unique in the data set; motion: file with coefficients, or None; pictures: video
    or folder of pictures, or None; sound: file with the voice, or None (the video's own track may do); features: file
    with rows of a speech encoder, or None; item: which part of `motion` is meant, where it holds many clips.
    Identity, sentence, emotion and partition are as in `Clip`.
    """

    layout: str
    name: str
    identity: str
    motion: Path | None = None
    pictures: Path | None = None
    sound: Path | None = None
    features: Path | None = None
    sentence: str | None = None
    emotion: str | None = None
    partition: str | None = None
    item: str = ""


def files_below(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    """Files with one of the suffixes (any case) in `folder` and below, sorted by path; hidden ones are left alone."""
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in suffixes and not hidden and os.path.isfile(path):
            yield path


def sound_named(stem: str, *folders: Path) -> Path | None:
    """The sound file of that stem in the first of `folders` that has one."""
    for folder in folders:
        for suffix in SOUNDS:
            candidate = folder / (stem + suffix)
            if os.path.isfile(candidate):
                return candidate
    return None


def name_of(path: Path, folder: Path) -> str:
    """The clip's name: its path below `folder` without the suffix, with slashes on every system."""
    return path.relative_to(folder).with_suffix("").as_posix()


_FILMED = re.compile(r"^(?P<identity>[A-Z]\d{3})_.*?(?P<emotion>" + "|".join(EMOTIONS) + r")_level\d_(?P<number>\d+)$")


def said_by_name(stem: str) -> tuple[str | None, str | None, str | None]:
    """Identity, sentence and emotion that a name as M030_front_angry_level3_001 tells; Nones where it is another."""
    found = _FILMED.match(stem)
    if found is None:
        return None, None, None
    return found["identity"], mead_sentence(found["number"]), found["emotion"]


def mead_sentence(number: str) -> str:
    """The sentence behind a MEAD file number.

    The same number may be another sentence under another emotion; taking equal numbers for equal sentences can only
    keep more apart than needed.
    """
    return f"mead-{int(number):03d}"

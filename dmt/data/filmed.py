"""Data sets of films: VoxCeleb as First Order Motion Model crops it, MEAD, HDTF, and any folder of videos.

Their coefficients come from a tracker (`tracks.py`). The films' own frame rates are kept; `prepare` brings all to 25.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, brief, damaged
from ..rates import SAMPLE_RATE
from .clip import Clip
from .source import EMOTIONS, PICTURES, VIDEOS, Source, files_below, mead_sentence, name_of, sound_named
from .tracks import Tracker

_VOX = re.compile(r"^(?P<person>[^#]+)#(?P<video>[^#]+)#\d+#\d+$")
_HDTF = re.compile(r"^(?P<identity>(RD|WDA|WRA)_.+?)(_\d+)?$")
METADATA = "vox-metadata.csv"


def find_voxceleb(folder: Path) -> list[Source]:
    """train/ and test/ with PERSON#VIDEO#START#END.mp4, or folders of pictures of that name.

    vox-metadata.csv, where it is there, tells the partition of each; else the folder does. Sound is looked for beside
    the film, and in `audio/` or `wav/` at the top: First Order Motion Model keeps none.
    """
    partitions = _vox_partitions(folder / METADATA)
    sources = []
    for path in [*files_below(folder, VIDEOS), *_picture_folders(folder)]:
        stem = path.stem if path.is_file() else path.name.removesuffix(".mp4").removesuffix(".png")
        found = _VOX.match(stem)
        if found is None:
            continue
        place = path.parent.name if path.parent.name in ("train", "test") else None
        sources.append(
            Source(
                "voxceleb",
                name_of(path, folder) if path.is_file() else path.relative_to(folder).as_posix(),
                found["person"],
                pictures=path,
                sound=_sound(path, stem, folder),
                partition=partitions.get(found["video"], place),
            )
        )
    return sorted(sources, key=lambda source: source.name)


def find_mead(folder: Path) -> list[Source]:
    """PERSON/video/VIEW/EMOTION/level_N/NUMBER.mp4 with PERSON/audio/EMOTION/level_N/NUMBER.m4a."""
    sources = []
    for path in files_below(folder, VIDEOS):
        parts = path.relative_to(folder).parts
        if len(parts) < 6 or parts[-5] != "video" or parts[-3] not in EMOTIONS or not path.stem.isdigit():
            continue
        person = path.parents[4]
        spoken = person / "audio" / parts[-3] / parts[-2]
        sources.append(
            Source(
                "mead",
                name_of(path, folder),
                parts[-6],
                pictures=path,
                sound=sound_named(path.stem, path.parent, spoken),
                sentence=mead_sentence(path.stem),
                emotion=parts[-3],
            )
        )
    return sources


def find_hdtf(folder: Path) -> list[Source]:
    """RD_NAME_000.mp4, WDA_NAME_000.mp4, WRA_NAME_000.mp4: NAME is who speaks (for RD the broadcast)."""
    sources = []
    for path in files_below(folder, VIDEOS):
        found = _HDTF.match(path.stem)
        if found is not None:
            name = name_of(path, folder)
            sources.append(
                Source("hdtf", name, found["identity"], pictures=path, sound=_sound(path, path.stem, folder))
            )
    return sources


def find_videos(folder: Path) -> list[Source]:
    """Any videos: each folder below the top is a person, at the top each file is one."""
    return [
        Source(
            "videos",
            name_of(path, folder),
            path.stem if path.parent == folder else path.relative_to(folder).parts[0],
            pictures=path,
            sound=_sound(path, path.stem, folder),
        )
        for path in files_below(folder, VIDEOS)
    ]


def read(source: Source, tracker: Tracker) -> Clip:
    """Motion from the tracker, the voice from its own file or the film's sound track (None where neither is).

    Sound that is over before the track begins is an InputError.
    """
    from ..media import read_audio

    assert source.pictures is not None
    track = tracker(source.pictures)
    spoken = source.sound or _own_track(source.pictures)
    return Clip(
        source.name,
        source.identity,
        track.coefficients,
        track.pose,
        fps=track.fps,
        wave=None if spoken is None else _heard_from(read_audio(spoken), track.start, spoken),
        sentence=source.sentence,
        emotion=source.emotion,
        partition=source.partition,
    )


def _heard_from(wave: NDArray[np.float32], start: float, spoken: Path) -> NDArray[np.float32]:
    """The voice [S] from `start` seconds on, so that it begins with the first row of the track."""
    first = round(start * SAMPLE_RATE)
    if first >= len(wave):
        raise InputError(f"{spoken} ends {len(wave) / SAMPLE_RATE:.1f} s into the film, before its face is first seen")
    return wave[first:]


def _own_track(pictures: Path) -> Path | None:
    """The film itself if it has a sound track."""
    if pictures.is_dir():
        return None
    from ..media.probe import has_sound

    return pictures if has_sound(pictures) else None


def _sound(path: Path, stem: str, folder: Path) -> Path | None:
    """A sound of that stem beside the film or in audio/ or wav/ at the top."""
    return sound_named(stem, path.parent, folder / "audio", folder / "wav")


def _picture_folders(folder: Path) -> list[Path]:
    """Folders that hold pictures; of FOMM's .png format, whose names may end in .png or .mp4 themselves."""
    return sorted({path.parent for path in files_below(folder, PICTURES)})


def _vox_partitions(path: Path) -> dict[str, str]:
    """Film -> train or test, from vox-metadata.csv; empty without one."""
    if not path.is_file():
        return {}
    with damaged(path, "a table of films"), path.open(newline="", encoding="utf-8") as handle:
        rows = csv.DictReader(handle)
        if rows.fieldnames is None or not {"video_id", "partition"} <= set(rows.fieldnames):
            raise InputError(f"{path} must have the columns video_id and partition, got {brief(rows.fieldnames)}")
        return {row["video_id"]: row["partition"] for row in rows}

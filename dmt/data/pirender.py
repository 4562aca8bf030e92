"""PIRender's LMDB of VoxCeleb: pictures with coefficients, {video}-{frame:07d}, {video}-length, {video}-coeff_3dmm."""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, damaged, why
from ..face.matfile import FULL_WIDTH, finite_rows
from .clip import Clip, pose_rows
from .source import Source, sound_named
from .tracks import Tracker

COLUMNS = 260
"""Columns of `coeff_3dmm`: DreamTalk's 257, then three of the crop."""

LISTS = {"train": "train_list.txt", "test": "test_list.txt"}


def find(folder: Path) -> list[Source]:
    """The videos of train_list.txt and test_list.txt; sounds lie as VIDEO.wav beside the base or in audio/ or wav/."""
    if not (folder / "data.mdb").is_file():
        return []
    sources = []
    for partition, file in LISTS.items():
        if not (folder / file).is_file():
            continue
        with damaged(folder / file, "a list of videos"):
            videos = (folder / file).read_text(encoding="utf-8").splitlines()
        for video in filter(None, map(str.strip, videos)):
            sources.append(
                Source(
                    "pirender",
                    video,
                    video.split("#")[0],
                    motion=folder,
                    sound=sound_named(video, folder, folder / "audio", folder / "wav"),
                    partition=partition,
                    item=video,
                )
            )
    if not sources:
        raise InputError(f"{folder} holds an LMDB but neither {LISTS['train']} nor {LISTS['test']} names its videos")
    return sorted(sources, key=lambda source: source.name)


def read(source: Source, tracker: Tracker) -> Clip:
    """Coefficients and pose from the base, 25 frames a second; the pictures stay where they are."""
    from ..media import read_audio

    assert source.motion is not None
    rows = _coefficients(source.motion, source.item)
    pose = pose_rows(rows[:, 224:227], rows[:, 254:257], rows[:, FULL_WIDTH:], len(rows))
    wave = None if source.sound is None else read_audio(source.sound)
    return Clip(source.name, source.identity, rows[:, 80:144], pose, wave=wave, partition=source.partition)


def read_pictures(folder: Path, video: str, frames: range) -> list[bytes]:
    """The JPEG files of some frames, as stored; InputError for one that is not there."""
    with _open(folder).begin() as look:
        return [_get(look, f"{video}-{frame:07d}", folder) for frame in frames]


def _coefficients(folder: Path, video: str) -> NDArray[np.float32]:
    with _open(folder).begin() as look:
        length = _get(look, f"{video}-length", folder)
        raw = _get(look, f"{video}-coeff_3dmm", folder)
    if not length.strip().isdigit():
        raise InputError(f"{video}-length in {folder} is not a number")
    frames = int(length)
    if frames < 1 or len(raw) != 4 * COLUMNS * frames:
        raise InputError(
            f"{video}-coeff_3dmm in {folder} has {len(raw)} bytes; {frames} frames of {COLUMNS} float32 were expected"
        )
    return finite_rows(np.frombuffer(raw, np.float32).reshape(frames, COLUMNS), COLUMNS, f"{video} in {folder}")


def _get(look: Any, key: str, folder: Path) -> bytes:
    value = look.get(key.encode())
    if value is None:
        raise InputError(f"{folder} has no entry {key}")
    return bytes(value)


@lru_cache(maxsize=2)
def _open(folder: Path) -> Any:
    if find_spec("lmdb") is None:
        raise InputError("reading an LMDB needs the package lmdb: pip install 'dreamtalk-dmt[lmdb]'")
    import lmdb

    try:
        return lmdb.open(str(folder), readonly=True, lock=False, readahead=False, meminit=False)
    except lmdb.Error as error:
        raise InputError(f"{folder} cannot be opened as an LMDB: {why(error)}") from None

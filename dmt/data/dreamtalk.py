"""DreamTalk's own files: .mat clips with sound of the same name, and what its command leaves behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..errors import InputError, damaged, file_at
from .clip import Clip
from .source import VIDEOS, Source, files_below, name_of, said_by_name, sound_named
from .tracks import Tracker, read_motion

MOTION = "facemotion.npy"
SOUND_FOLDERS = ("audio", "wav", "wavs", "../audio", "../wav", "../wavs")


def find(folder: Path) -> list[Source]:
    """Every .mat and every *facemotion.npy below `folder`.

    A .mat takes the sound of its own stem beside it or in a folder `audio` or `wav`; NAME_facemotion.npy takes
    NAME_16K.wav and NAME_wav2vec.npy (or audio_16k.wav and wav2vec.npy). A .mat beside a video of its own stem is
    that video's (layout `videos`).
    """
    clips = [_mat(path, folder) for path in files_below(folder, (".mat",)) if not _beside_video(path)]
    return clips + [_run(path, folder) for path in files_below(folder, (".npy",)) if path.name.endswith(MOTION)]


def read(source: Source, tracker: Tracker) -> Clip:
    """The clip; 25 frames a second, as all of DreamTalk's files."""
    from ..media import read_audio

    assert source.motion is not None
    coefficients, pose = read_motion(source.motion)
    features = None if source.features is None else _features(source.features)
    wave = None if source.sound is None else read_audio(source.sound)
    return Clip(
        source.name,
        source.identity,
        coefficients,
        pose,
        wave=wave,
        features=features,
        sentence=source.sentence,
        emotion=source.emotion,
    )


def _mat(path: Path, folder: Path) -> Source:
    identity, sentence, emotion = said_by_name(path.stem)
    sound = sound_named(path.stem, path.parent, *(path.parent / name for name in SOUND_FOLDERS))
    return Source(
        "dreamtalk",
        name_of(path, folder),
        identity or _owner(path, folder),
        motion=path,
        sound=sound,
        sentence=sentence,
        emotion=emotion,
    )


def _run(path: Path, folder: Path) -> Source:
    prefix = path.name.removesuffix(MOTION)
    sounds = (f"{prefix}16K.wav", f"{prefix}16k.wav", f"{prefix}audio_16k.wav")
    sound = next((path.parent / name for name in sounds if (path.parent / name).is_file()), None)
    features = path.parent / f"{prefix}wav2vec.npy"
    name = name_of(path.parent / (prefix.rstrip("_") or path.stem), folder)
    return Source(
        "dreamtalk",
        name,
        _owner(path, folder),
        motion=path,
        sound=sound,
        features=features if features.is_file() else None,
    )


def _beside_video(path: Path) -> bool:
    return any(path.with_suffix(suffix).is_file() for suffix in VIDEOS)


def _owner(path: Path, folder: Path) -> str:
    """Who it is where the name does not say: the folder the clip lies in, or at the top the clip itself."""
    return path.stem if path.parent == folder else path.parent.relative_to(folder).as_posix()


def _features(path: Path) -> np.ndarray:
    file_at(path, "a .npy file of speech features")
    with damaged(path, "speech features (.npy)"):
        rows = np.load(path, allow_pickle=False, mmap_mode="r")  # mapped: the file may hold less than it promises
    if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.dtype.kind != "f" or not rows.size:
        raise InputError(f"{path} must hold speech features (rows, width), got shape {getattr(rows, 'shape', None)}")
    return rows.astype(np.float32)

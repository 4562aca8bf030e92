"""A built corpus, read back as arrays."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, damaged

_ARRAYS = ("wave", "coefficients", "style", "lips", "sounds", "emotion", "language")


@dataclass(frozen=True)
class Corpus:
    """All clips of one split, N of T frames.

    wave [N, S] int16; coefficients [N, T, 64], style [N, 128, 64], lips [N, T, 2] float16; sounds [N, 2T] int8;
    emotion, language [N] int; closures [M, 3] int32: clip, first and last frame of a /p b m/.
    """

    wave: np.ndarray
    coefficients: np.ndarray
    style: np.ndarray
    lips: np.ndarray
    sounds: np.ndarray
    emotion: np.ndarray
    language: np.ndarray
    closures: np.ndarray

    def __len__(self) -> int:
        return len(self.wave)

    @staticmethod
    def speakers(folder: str | Path) -> list[str]:
        """Names of the voices made from recordings that speak in the corpus, besides espeak-ng's."""
        note = Path(folder) / "corpus.json"
        with damaged(note, "the note of a corpus"):
            return list(json.loads(note.read_text()).get("speakers", [])) if note.exists() else []

    @staticmethod
    def load(folder: str | Path, split: str = "train", *, shards: int | None = None) -> Corpus:
        """Read the split `train` or `validation` (the first `shards` shards) into memory: 260 kB a clip.

        Raises InputError where there is no such corpus.
        """
        paths = sorted(Path(folder).glob(f"{split}-*.npz"))[:shards]
        if not paths:
            raise InputError(f"{folder} holds no {split} shards of a corpus: run `dmt corpus {folder}` first")
        parts: dict[str, list[np.ndarray]] = {name: [] for name in (*_ARRAYS, "closures")}
        clips = 0
        for path in paths:
            with damaged(path, "a shard of a corpus"), np.load(path, allow_pickle=False) as data:
                for name in _ARRAYS:
                    parts[name].append(data[name])
                parts["closures"].append(data["closures"] + np.array([[clips, 0, 0]], np.int32))
            clips += len(parts["wave"][-1])
        with damaged(folder, "one corpus"):
            return Corpus(**{name: np.concatenate(arrays) for name, arrays in parts.items()})

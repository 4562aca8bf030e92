"""The synthetic corpus (`dmt corpus`) as one more data set."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np

from ..corpus.expression import emotions
from ..errors import damaged
from .clip import Clip, pose_rows
from .source import Source
from .tracks import Tracker

NOTE = "corpus.json"


def find(folder: Path) -> list[Source]:
    """Every clip of every shard.

    Shards do not say which voice speaks. No voice and no sentence is in both splits, so each split counts as one
    identity and keeps its partition.
    """
    if not (folder / NOTE).is_file():
        return []
    with damaged(folder / NOTE, "the note of a corpus"):
        clips = int(json.loads((folder / NOTE).read_text()).get("shard_clips", 0))
    sources = []
    for partition in ("train", "validation"):
        for path in sorted(folder.glob(f"{partition}-*.npz")):
            for index in range(clips):
                name = f"{path.stem}-{index:02d}"
                who = f"synthetic {partition} voices"
                sources.append(Source("synthetic", name, who, motion=path, partition=partition, item=str(index)))
    return sources


def read(source: Source, tracker: Tracker) -> Clip:
    """The clip with its style, sounds and closures."""
    assert source.motion is not None
    arrays, index = _shard(source.motion), int(source.item)
    coefficients = arrays["coefficients"][index].astype(np.float32)
    closures = arrays["closures"]
    return Clip(
        source.name,
        source.identity,
        coefficients,
        pose_rows(None, None, None, len(coefficients)),
        wave=arrays["wave"][index].astype(np.float32) / 32768.0,
        emotion=emotions()[int(arrays["emotion"][index])],
        partition=source.partition,
        style=arrays["style"][index].astype(np.float32),
        sounds=arrays["sounds"][index],
        closures=closures[closures[:, 0] == index, 1:],
    )


@lru_cache(maxsize=1)
def _shard(path: Path) -> dict[str, np.ndarray]:
    with damaged(path, "a shard of a corpus"), np.load(path, allow_pickle=False) as data:
        return {name: data[name] for name in data.files}

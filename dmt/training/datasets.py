"""Training and validation clips of a run's data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ..corpus import Corpus
from ..data import Clip, open_clips
from ..errors import InputError
from .clips import CorpusClips
from .config import TrainingConfig

PREPARED = "data.json"
"""What `dmt prepare` leaves in its folder."""


def open_splits(config: TrainingConfig) -> tuple[Sequence[Clip], Sequence[Clip]]:
    """Clips to learn from and clips held out, of what `dmt prepare` or `dmt corpus` made in the folder `config.corpus`.

    Raises InputError where it holds neither, or nothing of one of the splits.
    """
    folder = Path(config.corpus)
    if os.path.isfile(folder / PREPARED):
        return open_clips(folder), open_clips(folder, "validation")
    if not any(folder.glob("train-*.npz")):
        raise InputError(
            f"{folder} holds no training data; make it with: dmt prepare FOLDERS -o {folder}, or: dmt corpus {folder}"
        )
    learned = Corpus.load(folder, shards=config.shards)
    return CorpusClips(learned), CorpusClips(Corpus.load(folder, "validation", shards=config.shards))

"""Training and validation clips of a run's data."""

from __future__ import annotations

from collections.abc import Sequence

from ..corpus import Corpus
from ..data import Clip
from .clips import CorpusClips
from .config import TrainingConfig


def open_splits(config: TrainingConfig) -> tuple[Sequence[Clip], Sequence[Clip]]:
    """Clips to learn from and clips held out, of the data in `config.corpus`; InputError where there are none."""
    learned = Corpus.load(config.corpus, shards=config.shards)
    held_out = Corpus.load(config.corpus, "validation", shards=config.shards)
    return CorpusClips(learned), CorpusClips(held_out)

"""Rows and samples: which samples a feature row sees, and how long audio is cut so that memory stays flat.

Both branches obey one clock: row r sees samples 320 r .. 320 r + 399, the receptive
field of wav2vec 2.0's seven convolutions, so S samples give (S - 400) // 320 + 1 rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..config import SpeechConfig
from ..errors import InputError
from ..rates import FEATURE_RATE, SAMPLES_PER_ROW

RECEPTIVE_SAMPLES = 400
"""Samples one feature row sees."""


def rows_for(samples: int) -> int:
    """Feature rows of `samples` samples; fewer than 400 samples are padded to one row."""
    return (max(samples, RECEPTIVE_SAMPLES) - RECEPTIVE_SAMPLES) // SAMPLES_PER_ROW + 1


def samples_for(rows: int) -> int:
    """The fewest samples that give `rows` rows (0 rows: 0 samples)."""
    return SAMPLES_PER_ROW * (rows - 1) + RECEPTIVE_SAMPLES if rows > 0 else 0


def check_wave(wave: Tensor) -> Tensor:
    """`wave` [B, S] as float32, padded with zeros to at least 400 samples.

    Raises InputError where it is empty, not [B, S], or has samples that are not finite.
    """
    if wave.dim() != 2:
        raise InputError(f"speech must be a tensor [batch, samples], but its shape is {tuple(wave.shape)}")
    if wave.numel() == 0:
        raise InputError("speech has no samples; give a recording with at least one")
    wave = wave.float()
    if not torch.isfinite(wave).all():
        raise InputError("speech has NaN or infinite samples; repair or export the recording again")
    return torch.nn.functional.pad(wave, (0, max(0, RECEPTIVE_SAMPLES - wave.shape[-1])))


@dataclass(frozen=True)
class Span:
    """Rows first .. stop - 1 of a recording, encoded from rows read_first .. read_stop - 1."""

    first: int
    stop: int
    read_first: int
    read_stop: int

    def cut(self, encoded: Tensor) -> Tensor:
        """The span's own rows out of `encoded` [B, read_stop - read_first, D]."""
        return encoded[:, self.first - self.read_first : self.stop - self.read_first]


@dataclass(frozen=True)
class Chunking:
    """How audio is cut into spans; all lengths in feature rows (50 per second).

    whole: recordings up to this length are encoded at once; core: rows kept of each chunk
    of a longer one; before, after: context around the core, encoded and thrown away.
    """

    whole: int
    core: int
    before: int
    after: int

    def __post_init__(self) -> None:
        if self.core < 1 or min(self.whole, self.before, self.after) < 0:
            raise InputError(f"chunks need at least one row and no negative context, but got {self}")

    @classmethod
    def from_config(cls, config: SpeechConfig) -> Chunking:
        """The lengths of `config`, which are in seconds."""
        context = round(config.context_seconds * FEATURE_RATE)
        whole = round(config.whole_clip_seconds * FEATURE_RATE)
        return cls(whole, round(config.chunk_seconds * FEATURE_RATE), context, context)

    @classmethod
    def low_latency(cls, seconds: float, *, before_seconds: float = 2.0) -> Chunking:
        """Chunks whose rows come at most `seconds` after their sound, half of it look-ahead."""
        core = max(1, round(seconds * FEATURE_RATE / 2))
        return cls(0, core, round(before_seconds * FEATURE_RATE), core)

    def next_span(self, first: int, known: int, *, ended: bool) -> Span | None:
        """The span that begins at row `first` once `known` rows have been heard.

        None: wait for more audio, or all rows are done. The spans do not depend on how the audio
        arrived, so a recording and a stream of it are cut alike.
        """
        begun = first > 0 or known > self.whole
        if begun and known - first > self.core + self.after:
            stop = first + self.core
        elif ended and known > first:
            stop = known
        else:
            return None
        return Span(first, stop, max(0, first - self.before), min(known, stop + self.after))

    def spans(self, rows: int) -> Iterator[Span]:
        """All spans of a recording of `rows` rows, in order."""
        first = 0
        while span := self.next_span(first, rows, ended=True):
            yield span
            first = span.stop


def encode_spans(wave: Tensor, chunking: Chunking, encode: Callable[[Tensor], Tensor]) -> Tensor:
    """`encode` (samples [B, S'] -> rows [B, R', D]) over `wave` [B, S], span by span: [B, R, D]."""
    pieces = []
    for span in chunking.spans(rows_for(wave.shape[-1])):
        samples = wave[:, SAMPLES_PER_ROW * span.read_first : samples_for(span.read_stop)]
        pieces.append(span.cut(encode(samples)))
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim=1)

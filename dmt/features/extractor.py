"""Both branches on one clock: a wave, or a stream of blocks of it, becomes `Features`.

How far chunks are from the whole clip at once: attention in wav2vec 2.0 sees the whole clip, so a chunk with
context is close to it, not equal. On 47 s of real speech in four languages, chunks of 20 s with 4 s of context
differ from the whole by a root mean square of 2 % of the rows' standard deviation (worst row: cosine 0.999) with
3 layers of width 192 and by 11 % (0.986) in the full size, both with random weights; look-ahead of 1 s gives 3.5 %
(0.997) and of 0.2 s 8 % (0.986) in the smaller one. The Tacotron branch, whose memory is short, agrees to 1e-5 from 1 s
of look-ahead on, and to 0.6 % with 0.2 s. Running statistics add to this until the level is known: 5 % in all on a
recording of one speaker with 0.5 s of look-ahead, 15 % on five different recordings in a row.
`benchmarks/chunk_deviation.py` prints these numbers for a recording and a checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import InputError
from ..rates import FEATURE_RATE, SAMPLE_RATE, SAMPLES_PER_ROW
from ..types import Features
from .alignment import CtcHead
from .chunks import Chunking, Span, check_wave, encode_spans, rows_for, samples_for
from .speech import SpeechEncoder
from .statistics import BandStatistics, WaveStatistics
from .stream import Heard, spans_as_heard
from .tacotron import TacotronEncoder
from .windows import WindowBuffer, pad_blocks, windows

MEASURED_ROWS = 1000
"""Rows whose statistics are taken at a time (20 s), so that an hour needs no more memory than a minute."""


@dataclass(frozen=True)
class Statistics:
    """What a recording is normalised by; bands is None without a Tacotron branch."""

    wave: WaveStatistics
    bands: BandStatistics | None


class FeatureExtractor(nn.Module):
    """wav2vec 2.0 and, where the model has one, the Tacotron branch.

    Audio up to `whole_clip_seconds` is encoded at once, longer audio in overlapping chunks.
    ctc: reads text off the wav2vec rows; needed only for transcripts.
    """

    def __init__(
        self, speech: SpeechEncoder, tacotron: TacotronEncoder | None = None, ctc: CtcHead | None = None
    ) -> None:
        super().__init__()
        self.speech = speech
        self.tacotron = tacotron
        self.ctc = ctc

    @property
    def chunking(self) -> Chunking:
        """How this model's configuration cuts long audio."""
        return self.speech.chunking

    def forward(self, wave: Tensor, transcripts: Sequence[str] | None = None) -> Features:
        """wave [B, S] at 16 kHz -> Features of (S - 400) // 320 + 1 rows; gradients flow through both branches.

        Each clip is normalised by its own statistics. transcripts: what is said in each clip; the
        Tacotron branch then reads the text, aligned to the sound, in place of the log-mel.
        Raises InputError for empty input, samples that are not finite, or text that cannot be read.
        """
        wave = check_wave(wave)
        statistics = self._measured(wave)
        acoustic = encode_spans(wave, self.chunking, lambda cut: self.speech.encode(cut, statistics.wave))
        if transcripts is not None:
            return Features(acoustic, self._read(acoustic, transcripts))
        if self.tacotron is None:
            return Features(acoustic)
        return Features(
            acoustic, encode_spans(wave, self.chunking, lambda cut: self.tacotron.encode(cut, statistics.bands))
        )

    def stream(
        self,
        blocks: Iterable[np.ndarray | Tensor],
        *,
        chunking: Chunking | None = None,
        statistics: Statistics | None = None,
    ) -> Iterator[Features]:
        """Blocks [n] of 16 kHz samples, any n -> consecutive Features with B = 1, without gradients.

        Memory does not grow with the audio. By default nothing is yielded before the audio has ended or
        `whole_clip_seconds` have come, and a clip no longer than that gives what `forward` gives;
        `Chunking.low_latency(0.4)` yields rows at most 0.4 s after their sound.

        A longer recording cannot be normalised by a whole nobody has heard: each chunk uses what came up to
        its end, older sound fading over `whole_clip_seconds`; a stream that starts within five seconds
        leans on the level speech usually has. `statistics` from `measure` replaces all this by a fixed
        normalisation, which for a file (read twice) is that of `forward`.
        Raises InputError for an empty stream or samples that are not finite.
        """
        chunking = chunking or self.chunking
        heard, running = Heard(), _Running(self)
        for span in spans_as_heard(blocks, heard, chunking):
            yield self._span(span, heard, statistics or running.at(span, heard, chunking))
            heard.forget(max(0, span.stop - chunking.before))

    def measure(self, blocks: Iterable[np.ndarray | Tensor]) -> Statistics:
        """Statistics of a whole recording in flat memory, for `stream`; the same that `forward` uses."""
        heard, running = Heard(), _Running(self, fades=False)
        for span in spans_as_heard(blocks, heard, Chunking(0, MEASURED_ROWS, 0, 0)):
            running.hear(span.stop, samples_for(span.stop), heard)
            heard.forget(span.stop)
        running.hear(heard.rows, heard.samples, heard)
        return running.statistics

    @torch.no_grad()
    def transcribe(self, wave: Tensor) -> list[str]:
        """The greedy transcript of each clip of wave [B, S], from the CTC head."""
        acoustic = self(wave).acoustic
        return [self._head.transcribe(rows) for rows in self._head(acoustic)]

    @property
    def _head(self) -> CtcHead:
        if self.ctc is None:
            raise InputError("transcripts need a CTC head; load one with CtcHead.from_pretrained, or give none")
        return self.ctc

    @property
    def _device(self) -> torch.device:
        return next(self.speech.parameters()).device

    def _read(self, acoustic: Tensor, transcripts: Sequence[str]) -> Tensor:
        """Text states at the rows where the CTC head hears each character: [B, R, D]."""
        if self.tacotron is None:
            raise InputError("this model has no Tacotron branch, so it cannot read transcripts; give none")
        if len(transcripts) != acoustic.shape[0]:
            raise InputError(f"{len(transcripts)} transcripts were given for {acoustic.shape[0]} clips; give one each")
        with torch.no_grad():
            emissions = self._head(acoustic)
        states = [
            self.tacotron.read(self._head.align(rows, text), rows.shape[0])
            for rows, text in zip(emissions, transcripts, strict=True)
        ]
        return torch.stack(states)

    def _measured(self, wave: Tensor) -> Statistics:
        """Statistics of each clip of `wave` [B, S], taken in pieces."""
        bands = None
        for first in range(0, rows_for(wave.shape[-1]), MEASURED_ROWS) if self.tacotron is not None else ():
            cut = wave[:, SAMPLES_PER_ROW * first : samples_for(first + MEASURED_ROWS)]
            bands = self.tacotron.statistics(cut, bands)
        return Statistics(self.speech.statistics(wave), bands)

    @torch.no_grad()
    def _span(self, span: Span, heard: Heard, statistics: Statistics) -> Features:
        samples = heard.rows_between(span.read_first, span.read_stop).to(self._device)
        acoustic = span.cut(self.speech.encode(samples, statistics.wave))
        if self.tacotron is None:
            return Features(acoustic)
        return Features(acoustic, span.cut(self.tacotron.encode(samples, statistics.bands)))


class _Running:
    """Statistics of a stream, taken at the ends of spans: how it is cut into blocks does not matter."""

    def __init__(self, extractor: FeatureExtractor, *, fades: bool = True) -> None:
        self._tacotron = extractor.tacotron
        self._memory = extractor.speech.config.whole_clip_seconds if fades else None
        self._device = extractor._device
        self._rows = self._samples = 0
        self.statistics = Statistics(WaveStatistics.none(1, self._device), None)

    def at(self, span: Span, heard: Heard, chunking: Chunking) -> Statistics:
        """What to normalise `span` by."""
        last = span.stop == heard.rows
        rows = heard.rows if last else max(span.read_stop, chunking.whole)
        self.hear(rows, heard.samples if last else samples_for(rows), heard)
        if last and span.first == 0:
            return self.statistics
        return Statistics(self.statistics.wave.expecting_speech(), self.statistics.bands)

    def hear(self, rows: int, samples: int, heard: Heard) -> None:
        """Include the sound up to row `rows` and sample `samples`."""
        wave, bands = self.statistics.wave, self.statistics.bands
        if samples > self._samples:
            memory = None if self._memory is None else round(self._memory * SAMPLE_RATE)
            wave = wave.including(heard.between(self._samples, samples).to(self._device), memory=memory)
        if rows > self._rows and self._tacotron is not None:
            memory = None if self._memory is None else round(self._memory * FEATURE_RATE)
            cut = heard.rows_between(self._rows, rows).to(self._device)
            bands = self._tacotron.statistics(cut, bands, memory=memory)
        self.statistics = Statistics(wave, bands)
        self._rows, self._samples = max(rows, self._rows), max(samples, self._samples)


__all__ = ["FeatureExtractor", "Statistics", "WindowBuffer", "pad_blocks", "windows"]

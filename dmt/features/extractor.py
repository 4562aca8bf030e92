"""Both branches on one clock: a wave becomes `Features`."""

from __future__ import annotations

from torch import Tensor, nn

from ..types import Features
from .chunks import Chunking, check_wave, rows_for
from .speech import SpeechEncoder
from .tacotron import TacotronEncoder
from .windows import windows


class FeatureExtractor(nn.Module):
    """wav2vec 2.0 and, where the model has one, the Tacotron branch.

    Audio up to `whole_clip_seconds` is encoded at once, longer audio in overlapping chunks.
    """

    def __init__(self, speech: SpeechEncoder, tacotron: TacotronEncoder | None = None) -> None:
        super().__init__()
        self.speech = speech
        self.tacotron = tacotron

    @property
    def chunking(self) -> Chunking:
        """How this model's configuration cuts long audio."""
        return self.speech.chunking

    def forward(self, wave: Tensor) -> Features:
        """wave [B, S] at 16 kHz -> Features of (S - 400) // 320 + 1 rows; gradients flow through both branches.

        Raises InputError for empty input or samples that are not finite.
        """
        wave = check_wave(wave)
        acoustic = self.speech(wave)
        if self.tacotron is None:
            return Features(acoustic)
        return Features(acoustic, self.tacotron(wave, rows_for(wave.shape[-1])))


__all__ = ["FeatureExtractor", "windows"]

"""The Tacotron branch: a convolution bank and a BiLSTM over the log-mel of the voice, or over its text.

The encoder is that of Tacotron 2 (three convolutions of width 5, then a bidirectional LSTM), with a
layer norm over the channels of each row in place of its batch norm: a row then depends neither on
the rest of the batch nor on where a long recording was cut.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torchaudio
from torch import Tensor, nn

from ..config import TacotronConfig
from ..errors import InputError
from ..rates import SAMPLE_RATE, SAMPLES_PER_ROW
from .alignment import CharacterSpan, spread
from .chunks import RECEPTIVE_SAMPLES, check_wave, samples_for
from .statistics import BandStatistics

SPECTRUM_POINTS = 1024
LOWEST_HERTZ, HIGHEST_HERTZ = 60.0, 7600.0
QUIETEST = 1e-12
"""Power of a band below which there is silence (-120 dB of full scale; 16 bits reach about as far)."""

EXPECTED_LEVEL, EXPECTED_TILT, EXPECTED_SPREAD = -40.0, -35.0, 10.0
"""Bands of ordinary speech (-25 dB of full scale): dB in the lowest, dB from it to the highest, spread."""

DROPOUT = 0.2


class LogMel(nn.Module):
    """Log-mel spectrum with one row for each wav2vec row, from exactly the 400 samples that row sees."""

    def __init__(self, mels: int) -> None:
        super().__init__()
        with torch.device("cpu"):  # tables of constants, whose making looks at their values: also under "meta"
            window = torch.hann_window(RECEPTIVE_SAMPLES, periodic=False)
            bank = torchaudio.functional.melscale_fbanks(
                SPECTRUM_POINTS // 2 + 1, LOWEST_HERTZ, HIGHEST_HERTZ, mels, SAMPLE_RATE
            )
            scale = 2.0 / (SPECTRUM_POINTS * window.square().sum())  # all bins' powers add up to the mean square
            expected = EXPECTED_LEVEL + EXPECTED_TILT * torch.linspace(0, 1, mels)
        self.register_buffer("window", window, persistent=False)
        self.register_buffer("bank", bank * scale, persistent=False)
        self.register_buffer("expected", expected, persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """wave [B, S] -> bands in dB of full scale [B, R, M]; float32 even where the rest is autocast."""
        frames = wave.unfold(-1, RECEPTIVE_SAMPLES, SAMPLES_PER_ROW)
        frames = (frames - frames.mean(-1, keepdim=True)) * self.window  # [B, R, 400]
        spectrum = torch.fft.rfft(frames, SPECTRUM_POINTS).abs().square()  # [B, R, 513]
        with torch.autocast(wave.device.type, enabled=False):  # powers go down to -120 dB, halves do not
            return 10 * torch.log10(spectrum @ self.bank + QUIETEST)

    def nothing_heard(self, batch: int) -> BandStatistics:
        """Statistics before the first row."""
        return BandStatistics.none(batch, self.expected, EXPECTED_SPREAD)


class ConvolutionBank(nn.Module):
    """Tacotron's convolutions over rows: [B, R, C] -> [B, R, C]."""

    def __init__(self, width: int, layers: int, kernel: int) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(nn.Conv1d(width, width, kernel, padding=kernel // 2) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(layers))

    def forward(self, rows: Tensor) -> Tensor:
        for convolution, norm in zip(self.convolutions, self.norms, strict=True):
            rows = norm(convolution(rows.transpose(1, 2)).transpose(1, 2))
            rows = nn.functional.dropout(nn.functional.relu(rows), DROPOUT, self.training)
        return rows


class TacotronEncoder(nn.Module):
    """Prosodic features at 50 rows per second.

    Raises InputError for a width that two directions cannot share or an even kernel.
    """

    def __init__(self, config: TacotronConfig) -> None:
        super().__init__()
        if config.width % 2 or config.kernel % 2 == 0:
            raise InputError(
                f"the Tacotron branch needs an even width and an odd kernel, not {config.width} and {config.kernel}"
            )
        self.config = config
        self.mel = LogMel(config.mels)
        self.from_mel = nn.Linear(config.mels, config.conv_width)
        self.from_text = nn.Embedding(len(config.alphabet), config.conv_width) if config.alphabet else None
        self.bank = ConvolutionBank(config.conv_width, config.conv_layers, config.kernel)
        self.recurrent = nn.LSTM(config.conv_width, config.width // 2, batch_first=True, bidirectional=True)

    def forward(self, wave: Tensor, rows: int) -> Tensor:
        """wave [B, S] at 16 kHz -> exactly `rows` rows [B, rows, D]; the wave is cut or padded to them."""
        wave = check_wave(wave)[:, : samples_for(rows)]
        wave = nn.functional.pad(wave, (0, samples_for(rows) - wave.shape[-1]))
        return self.encode(wave, self.statistics(wave))

    def statistics(
        self, wave: Tensor, past: BandStatistics | None = None, *, memory: int | None = None
    ) -> BandStatistics:
        """Statistics of every band over `past` and the rows of `wave` [B, S]; memory in rows."""
        past = past or self.mel.nothing_heard(wave.shape[0])
        with torch.no_grad():
            return past.including(self.mel(wave), memory=memory)

    def encode(self, wave: Tensor, statistics: BandStatistics) -> Tensor:
        """wave [B, S] -> [B, R, D] with the bands normalised by `statistics`."""
        return self._states(self.from_mel(statistics.normalise(self.mel(wave))))

    def read(self, characters: Sequence[tuple[str, CharacterSpan]], rows: int) -> Tensor:
        """Text and where each character is heard -> [rows, D]; zeros in pauses.

        Raises InputError if this branch has no alphabet or lacks one of the characters.
        """
        if self.from_text is None:
            raise InputError("this model's Tacotron branch has no alphabet and reads the log-mel only; give no text")
        places = [self.config.alphabet.find(c.lower()) for c, _ in characters]
        if -1 in places:
            raise InputError(
                f"this model's Tacotron branch does not know {characters[places.index(-1)][0]!r}; "
                f"its alphabet is {self.config.alphabet!r}"
            )
        if not places:
            return self.from_text.weight.new_zeros(rows, self.config.width)
        inputs = self.from_text(torch.tensor(places, device=self.from_text.weight.device))[None]  # [1, N, C]
        return spread(self._states(inputs)[0], [span for _, span in characters], rows)

    def _states(self, inputs: Tensor) -> Tensor:
        """[B, R, conv_width] -> [B, R, D]."""
        states, _ = self.recurrent(self.bank(inputs))
        return states

"""The first stage: each speech encoder learns to name the sound and to move the lips, by heads dropped later.

Framewise classes make the encoders listen to what is said rather than to how a
synthesiser says it; that is what carries over to real voices.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from ..corpus import Corpus
from ..corpus.phonemes import Sound
from ..features import SpeechEncoder, TacotronEncoder, rows_for
from ..rates import ROWS_PER_FRAME, SAMPLES_PER_FRAME
from .config import StageConfig
from .loop import Stage
from .variation import varied

LIP_SPREAD = torch.tensor([0.06, 0.04])
"""Spread of opening and width in eye distances; the lip heads predict in these units."""

PORTION = 16
"""Clips that are encoded together where nothing is learned."""


class Heads(nn.Module):
    """Linear read-outs of rows [B, R, D]: sound classes [B, R, 18] and lips [B, T, 2] (every other row)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sounds = nn.Linear(width, len(Sound))
        self.lips = nn.Linear(width, 2)

    def losses(self, rows: Tensor, sounds: Tensor, lips: Tensor) -> tuple[Tensor, Tensor]:
        """Cross-entropy of the sounds [B, R] and smooth L1 of the lips [B, T, 2] in units of their spread."""
        logits = self.sounds(rows)
        classes = nn.functional.cross_entropy(
            logits.flatten(0, 1), sounds[:, : rows.shape[1]].flatten(), label_smoothing=0.05
        )
        moved = self.lips(rows[:, ::ROWS_PER_FRAME])
        return classes, nn.functional.smooth_l1_loss(moved, lips[:, : moved.shape[1]] / LIP_SPREAD)


class _Read(nn.Module):
    """An encoder and its heads; the convolutions of the prosodic branch have heads of their own."""

    def __init__(self, encoder: nn.Module, width: int, inner: int | None) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = Heads(width)
        self.inner_heads = Heads(inner) if inner else None


class _EncoderStage(Stage):
    """What both encoders' stages share: the labels, the loss and its measures."""

    def __init__(self, corpus: Corpus, validation: Corpus, settings: StageConfig, module: _Read) -> None:
        self.corpus, self.validation, self.settings, self.module = corpus, validation, settings, module

    def crop(self, generator: torch.Generator) -> tuple[Tensor, int]:
        """Clips [B] and the first frame of the stretch taken from all of them."""
        clips = torch.randint(len(self.corpus), (self.settings.clips,), generator=generator)
        last = self.corpus.lips.shape[1] - self.settings.frames
        return clips, int(torch.randint(last + 1, (), generator=generator))

    def labels(self, clips: Tensor, first: int) -> tuple[Tensor, Tensor]:
        frames = slice(first, first + self.settings.frames)
        rows = slice(ROWS_PER_FRAME * frames.start, ROWS_PER_FRAME * frames.stop)
        sounds = torch.from_numpy(self.corpus.sounds[clips.numpy(), rows]).long()
        return sounds, torch.from_numpy(self.corpus.lips[clips.numpy(), frames].astype(np.float32))

    def total(self, rows: Tensor, sounds: Tensor, lips: Tensor, heads: Heads) -> tuple[Tensor, dict[str, float]]:
        classes, moved = heads.losses(rows, sounds, lips)
        return 0.3 * classes + 2.0 * moved, {"sounds": float(classes.detach()), "lips": float(moved.detach())}

    def measures(self, rows: Tensor, heads: Heads) -> dict[str, float]:
        """Opening correlation and sound accuracy on the validation clips, from their rows [N, R, D]."""
        opening = heads.lips(rows[:, ::ROWS_PER_FRAME])[..., 0].numpy().ravel()
        truth = self.validation.lips[: len(rows), :, 0].astype(np.float32).ravel()
        guess = heads.sounds(rows).argmax(-1).numpy()
        right = (guess == self.validation.sounds[: len(rows), : rows.shape[1]]).mean()
        return {"validation_opening": float(np.corrcoef(opening, truth)[0, 1]), "validation_sounds": float(right)}


class ProsodicStage(_EncoderStage):
    """The Tacotron branch. Its log-mel does not learn, so it is computed once for the whole corpus."""

    name = "prosodic"

    def __init__(self, encoder: TacotronEncoder, corpus: Corpus, validation: Corpus, settings: StageConfig) -> None:
        module = _Read(encoder, encoder.config.width, encoder.config.conv_width)
        super().__init__(corpus, validation, settings, module)
        self.bands = bands(encoder, corpus)
        self.validation_bands = bands(encoder, validation)

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        clips, first = self.crop(generator)
        sounds, lips = self.labels(clips, first)
        rows = slice(ROWS_PER_FRAME * first, ROWS_PER_FRAME * (first + self.settings.frames))
        seen = varied(self.bands[clips, rows].float(), generator)
        encoder = self.module.encoder
        inner = encoder.bank(encoder.from_mel(seen))
        inner_loss, _ = self.total(inner, sounds, lips, self.module.inner_heads)
        loss, values = self.total(encoder.recurrent(inner)[0], sounds, lips, self.module.heads)
        return loss + 0.5 * inner_loss, values

    def validate(self, module: nn.Module) -> dict[str, float]:
        encoder = module.encoder
        parts = [
            encoder.recurrent(encoder.bank(encoder.from_mel(b.float())))[0]
            for b in self.validation_bands.split(PORTION)
        ]
        return self.measures(torch.cat(parts), module.heads)


class AcousticStage(_EncoderStage):
    """The wav2vec branch, from the samples themselves."""

    name = "acoustic"

    def __init__(self, encoder: SpeechEncoder, corpus: Corpus, validation: Corpus, settings: StageConfig) -> None:
        super().__init__(corpus, validation, settings, _Read(encoder, encoder.config.width, None))

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        clips, first = self.crop(generator)
        sounds, lips = self.labels(clips, first)
        samples = slice(SAMPLES_PER_FRAME * first, SAMPLES_PER_FRAME * (first + self.settings.frames) + 80)
        wave = torch.from_numpy(self.corpus.wave[clips.numpy(), samples].astype(np.float32) / 32768.0)
        sign = torch.randint(0, 2, (len(clips), 1), generator=generator) * 2 - 1  # recordings may be inverted
        return self.total(self.module.encoder(wave * sign), sounds, lips, self.module.heads)

    def validate(self, module: nn.Module) -> dict[str, float]:
        return self.measures(acoustic_rows(module.encoder, self.validation, clips=32).float(), module.heads)


def waves(corpus: Corpus, clips: int | None = None) -> Iterator[Tensor]:
    """The clips' sound in portions [b, S] float32."""
    for start in range(0, min(len(corpus), clips or len(corpus)), PORTION):
        yield torch.from_numpy(corpus.wave[start : start + PORTION].astype(np.float32) / 32768.0)


@torch.no_grad()
def bands(encoder: TacotronEncoder, corpus: Corpus) -> Tensor:
    """Normalised log-mel of every clip, [N, R, M] float16."""
    return torch.cat([encoder.statistics(w).normalise(encoder.mel(w)).half() for w in waves(corpus)])


@torch.no_grad()
def acoustic_rows(encoder: SpeechEncoder, corpus: Corpus, clips: int | None = None) -> Tensor:
    """The encoder's rows for every clip, [N, R, D] float16."""
    return torch.cat([encoder(w).half() for w in waves(corpus, clips)])


@torch.no_grad()
def prosodic_rows(encoder: TacotronEncoder, corpus: Corpus) -> Tensor:
    """The encoder's rows for every clip, [N, R, D] float16."""
    return torch.cat([encoder(w, rows_for(w.shape[1])).half() for w in waves(corpus)])

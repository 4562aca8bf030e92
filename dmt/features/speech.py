"""wav2vec 2.0: the acoustic features, through transformers' own network.

Built from a configuration without touching the network; weights come from our checkpoint, or from
`SpeechEncoder.from_pretrained`. The clip is encoded at once up to `whole_clip_seconds`, as DreamTalk
does, and beyond it in overlapping chunks.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..config import SpeechConfig
from ..errors import InputError
from .chunks import Chunking, check_wave, encode_spans
from .statistics import WaveStatistics
from .weights import check_architecture, read_weights

if TYPE_CHECKING:
    from transformers import Wav2Vec2Config

CONVOLUTIONS = 7


def architecture(config: SpeechConfig) -> Wav2Vec2Config:
    """The large XLSR-53 family (pre-norm, layer norm in the front end) at the sizes of `config`."""
    from transformers import Wav2Vec2Config  # takes seconds to import, and most commands build no encoder

    if config.width % config.heads or config.width % config.positional_groups:
        raise InputError(
            f"speech width {config.width} must be a multiple of its {config.heads} heads "
            f"and its {config.positional_groups} positional groups"
        )
    return Wav2Vec2Config(
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        intermediate_size=config.feed_forward,
        conv_dim=(config.conv_width,) * CONVOLUTIONS,
        conv_kernel=(10, 3, 3, 3, 3, 2, 2),
        conv_stride=(5, 2, 2, 2, 2, 2, 2),
        conv_bias=True,
        num_conv_pos_embeddings=config.positional_kernel,
        num_conv_pos_embedding_groups=config.positional_groups,
        do_stable_layer_norm=True,
        feat_extract_norm="layer",
        layerdrop=0.0,
        apply_spec_augment=False,
        mask_time_prob=0.0,
        mask_feature_prob=0.0,
        attn_implementation="sdpa",
    )


class SpeechEncoder(nn.Module):
    """Acoustic features at 50 rows per second: the last hidden state of wav2vec 2.0."""

    def __init__(self, config: SpeechConfig) -> None:
        super().__init__()
        from transformers import Wav2Vec2Model

        self.config = config
        self.chunking = Chunking.from_config(config)
        self.network = Wav2Vec2Model(architecture(config))

    @classmethod
    def from_pretrained(cls, config: SpeechConfig) -> SpeechEncoder:
        """With the weights `config.pretrained` names: a hub name, a transformers folder or a safetensors file.

        Raises InputError where they cannot be had (and says how to get them) or are of another network.
        """
        check_architecture(config.pretrained, architecture(config))
        found = read_weights(config.pretrained)
        encoder = cls(config)
        expected = encoder.network.state_dict()
        wrong = sorted(n for n, w in expected.items() if n not in found or found[n].shape != w.shape)
        if wrong:
            raise InputError(
                f"{config.pretrained} does not fit: {len(wrong)} of {len(expected)} weights are missing or of "
                f"another shape, the first is {wrong[0]}; give a wav2vec 2.0 model of the configured size"
            )
        encoder.network.load_state_dict({n: found[n].float() for n in expected})
        return encoder

    def forward(self, wave: Tensor) -> Tensor:
        """wave [B, S] at 16 kHz -> [B, R, D], R = (S - 400) // 320 + 1 (S < 400 is padded to 400).

        Raises InputError for empty input or samples that are not finite.
        """
        wave = check_wave(wave)
        statistics = self.statistics(wave)
        return encode_spans(wave, self.chunking, lambda samples: self.encode(samples, statistics))

    def statistics(self, wave: Tensor) -> WaveStatistics:
        """Mean and variance of each clip in `wave` [B, S]."""
        return WaveStatistics.none(wave.shape[0], wave.device).including(wave)

    def encode(self, wave: Tensor, statistics: WaveStatistics) -> Tensor:
        """wave [B, S] at once -> [B, R, D], normalised by `statistics`. No attention mask, as DreamTalk."""
        rows = self._front_end(statistics.normalise(wave))
        hidden, _ = self.network.feature_projection(rows)
        return self.network.encoder(hidden).last_hidden_state

    def _front_end(self, wave: Tensor) -> Tensor:
        """The seven convolutions [B, S] -> [B, R, C], in float32 even where the rest is autocast:

        the first ones work on single samples, whose small differences half precision would round away.
        """
        with torch.autocast(wave.device.type, enabled=False), _exact_convolutions():
            hidden = wave.float()[:, None]
            for layer in self.network.feature_extractor.conv_layers:
                hidden = layer(hidden)
        return hidden.transpose(1, 2)


@contextmanager
def _exact_convolutions() -> Iterator[None]:
    """Convolutions without TF32 on GPUs that would use it."""
    convolutions = torch.backends.cudnn.conv
    usual = convolutions.fp32_precision
    convolutions.fp32_precision = "ieee"
    try:
        yield
    finally:
        convolutions.fp32_precision = usual

"""The denoiser: noisy coefficients, speech and style in, the network's prediction of clean coefficients out.

Frames are independent of one another: frame i sees its own window of speech, its own
64 noisy numbers, the style and the time. Any split of frames over calls is exact.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..config import DenoiserConfig, SparsityConfig
from ..decoder import DecoupledDecoder
from ..rates import COEFFICIENTS, STYLE_FRAMES
from ..sparsity import decoder_site
from .blocks import initialise, time_embedding
from .content import ContentEncoder
from .prepared import Prepared, prepare, step
from .style import StyleEncoder


class Denoiser(nn.Module):
    """One class for every preset. With `decoder="plain"` and sparsity off, names and maths are DreamTalk's.

    input_width: width of the speech features (1024 for the large wav2vec 2.0).
    """

    def __init__(self, config: DenoiserConfig, sparsity: SparsityConfig, input_width: int) -> None:
        super().__init__()
        self.config = config
        width = config.width
        timeless = replace(sparsity, time_buckets=1)  # the encoders do not see diffusion time
        self.content_encoder = ContentEncoder(config, timeless, input_width)
        self.style_encoder = StyleEncoder(config, timeless)
        self.decoder = DecoupledDecoder(config, sparsity)
        self.content_xt_to_decoder_input_wo_time = nn.Sequential(
            nn.Linear(width + COEFFICIENTS, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, width),
        )
        memory_sites = [decoder_site(sparsity, width) for _ in range(2)]
        # Before the second and the third layer, whose inputs a ReLU has thinned out already.
        self.memory_thresholds = None if memory_sites[0] is None else nn.ModuleList(memory_sites)
        self.time_embed_net = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        for part in (
            self.content_encoder,
            self.style_encoder,
            self.decoder.upper_decoder,
            self.decoder.lower_decoder,
        ):
            initialise(part)

    def encode_style(self, style: Tensor, padding: Tensor) -> Tensor:
        """style [B, 256, 64], padding [B, 256] bool (True where padded) -> style code [B, D]."""
        return self.style_encoder(style, padding)

    def encode_time(self, t: Tensor) -> Tensor:
        """Diffusion times [B] in 1..T -> [B, D]."""
        return self.time_embed_net(time_embedding(t, self.config.width))

    def null_style(self, clips: int) -> tuple[Tensor, Tensor]:
        """The style of no style: a clip of zeros with nothing padded, for `clips` clips."""
        device = self.decoder.order.device
        return (
            torch.zeros(clips, STYLE_FRAMES, COEFFICIENTS, device=device),
            torch.zeros(clips, STYLE_FRAMES, dtype=torch.bool, device=device),
        )

    def forward(self, x_t: Tensor, t: Tensor, windows: Tensor, style: Tensor, padding: Tensor) -> Tensor:
        """The meaning: predict from x_t [B, L, 64] at times t [B].

        windows [B, L, 11, D_in] speech features; style [B, 256, 64], padding [B, 256]
        bool, True where padded -> [B, L, 64].
        """
        content = self.content_encoder(windows)  # [B, L, 11, D]
        noisy = x_t[:, :, None].expand(-1, -1, content.shape[2], -1)
        memory = self._memory(torch.cat([content, noisy], dim=-1), t)
        memory = memory + self.encode_time(t)[:, None, None]
        code = self.encode_style(style, padding)
        return self.decoder(memory, code, content[:, :, content.shape[2] // 2], t)

    def _memory(self, tokens: Tensor, t: Tensor) -> Tensor:
        """Content and noisy coefficients [B, L, 11, D + 64] -> the decoders' memory, without time: [B, L, 11, D]."""
        mlp = self.content_xt_to_decoder_input_wo_time
        if self.memory_thresholds is None:
            return mlp(tokens)
        hidden = self.memory_thresholds[0].linear(torch.relu(mlp[0](tokens)), mlp[2], t)
        return self.memory_thresholds[1].linear(torch.relu(hidden), mlp[4], t)

    @torch.no_grad()
    def prepare(self, windows: Tensor, style: Tensor, padding: Tensor, *, guided: bool = False) -> Prepared:
        """All work that no diffusion step changes, done once; evaluation only, no gradients.

        Arguments as `forward` takes them. guided: prepare the null style as well, for `step_pair`.
        """
        return prepare(self, self.content_encoder(windows), style, padding, guided)

    @torch.no_grad()
    def prepare_rows(
        self, rows: Tensor, first_frame: int, frames: int, style: Tensor, padding: Tensor, *, guided: bool = False
    ) -> Prepared:
        """`prepare` for frames first_frame .. + frames of rows [B, R, D_in] at 50 per second, each projected once."""
        return prepare(self, self.content_encoder.from_rows(rows, first_frame, frames), style, padding, guided)

    @torch.no_grad()
    def step(self, prepared: Prepared, x_t: Tensor, t: Tensor) -> Tensor:
        """forward() for x_t [B, L, 64] at t [B], from what `prepare` kept -> [B, L, 64]."""
        return step(self, prepared, x_t, t)[: x_t.shape[0]]

    @torch.no_grad()
    def step_pair(self, prepared: Prepared, x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """(with the style, with the null style), each [B, L, 64]; needs `prepare(..., guided=True)`."""
        if not prepared.guided:
            raise ValueError("step_pair needs prepare(..., guided=True)")
        conditional, unconditional = step(self, prepared, x_t, t).chunk(2)
        return conditional, unconditional

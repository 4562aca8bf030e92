"""The motion model: where the rooms meet. Speech features and a style clip in, expression coefficients out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .config import ModelConfig
from .denoiser import Denoiser
from .diffusion import SAMPLERS, NoiseSchedule, guided
from .errors import InputError
from .features import FeatureExtractor, SpeechEncoder, TacotronEncoder, windows
from .fusion import GatedFusion
from .hub import OnHub
from .rates import COEFFICIENTS, ROWS_PER_FRAME
from .types import Features, StyleClip


@dataclass(frozen=True)
class NoisedPrediction:
    """One training step's view of the network.

    output: what the network predicted, target: what it should have, both [B, L, 64]
    normalised (x0, or noise where the model predicts noise); coefficients: the x0 that
    output means, in coefficient units [B, L, 64]; t: diffusion times [B].
    """

    output: Tensor
    target: Tensor
    coefficients: Tensor
    t: Tensor


@dataclass(frozen=True)
class Chance:
    """What is random in a training step: diffusion times [B], noise [B, L, 64], styles dropped [B] bool."""

    t: Tensor
    noise: Tensor
    dropped: Tensor

    def to(self, device: torch.device) -> Chance:
        return Chance(self.t.to(device), self.noise.to(device), self.dropped.to(device))


class MotionModel(OnHub, nn.Module):
    """Features, fusion, denoiser and noise schedule of one configuration.

    Diffusion runs on (coefficients - coefficient_mean) / coefficient_std, buffers [64] that are
    0 and 1 unless `config.normalised`; style clips are normalised alike. Everything that
    enters or leaves is in coefficient units.

    speech: the speech encoder to use. If None it is built with random weights where the
    checkpoint holds them (`config.speech.pretrained` is None), and otherwise fetched at the
    first use of `features`: a model that only samples never builds it.
    """

    chunk_frames = 64
    """Frames sent through the denoiser together; the result does not depend on it."""

    def __init__(self, config: ModelConfig, speech: SpeechEncoder | None = None) -> None:
        super().__init__()
        self.config = config
        if speech is None and config.speech.pretrained is None:
            speech = SpeechEncoder(config.speech)
        self.speech = speech
        self.tacotron = TacotronEncoder(config.tacotron) if config.tacotron else None
        self.fusion = GatedFusion(config.speech.width, config.tacotron.width) if config.tacotron else None
        self.denoiser = Denoiser(config.denoiser, config.sparsity, config.speech.width)
        self.schedule = NoiseSchedule(config.diffusion)
        self.register_buffer("coefficient_mean", torch.zeros(COEFFICIENTS))
        self.register_buffer("coefficient_std", torch.ones(COEFFICIENTS))

    @property
    def features(self) -> FeatureExtractor:
        """The speech encoders, which share their parameters with this model; fetches pretrained weights once."""
        if self.speech is None:
            speech = SpeechEncoder.from_pretrained(self.config.speech)
            self.speech = speech.to(self.coefficient_mean.device).train(self.training)
        return FeatureExtractor(self.speech, self.tacotron).train(self.training)

    def condition(self, features: Features) -> Tensor:
        """Features of R rows -> what the denoiser reads, [B, R, D_w2v]: fused, or the acoustic rows alone."""
        if self.fusion is None:
            return features.acoustic
        if features.prosodic is None:
            raise InputError("this model fuses two speech encoders; the features have no prosodic (Tacotron) rows")
        return self.fusion(features.acoustic, features.prosodic)

    def set_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Fix the normalisation: mean and std [64] of the training coefficients, std > 0."""
        if not self.config.normalised:
            raise ValueError("this configuration is not normalised; its statistics stay 0 and 1")
        if not (bool(torch.isfinite(mean).all()) and bool((std > 0).all())):
            raise ValueError("statistics must be finite, with every standard deviation above 0")
        self.coefficient_mean.copy_(mean)
        self.coefficient_std.copy_(std)

    def normalise(self, coefficients: Tensor) -> Tensor:
        """Coefficients [..., 64] in the space that diffusion runs in."""
        return (coefficients - self.coefficient_mean) / self.coefficient_std

    def denormalise(self, x: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return x * self.coefficient_std + self.coefficient_mean

    def noised_prediction(
        self,
        coefficients: Tensor,
        windows: Tensor,
        style: Tensor,
        padding: Tensor,
        *,
        generator: torch.Generator | None = None,
    ) -> NoisedPrediction:
        """Noise the clean coefficients at random times, drop some styles, and let the network predict.

        coefficients [B, L, 64]; windows [B, L, 11, D]; style [B, 256, 64]; padding [B, 256]
        bool. Times, noise and dropped styles (`config.diffusion.style_dropout`) come from generator.
        """
        source = coefficients.device if generator is None else generator.device
        chance = self.draw_chance(*coefficients.shape[:2], generator=generator, device=source)
        return self.prediction_at(coefficients, windows, style, padding, chance.to(coefficients.device))

    def draw_chance(
        self, clips: int, frames: int, *, generator: torch.Generator | None = None, device: torch.device | str = "cpu"
    ) -> Chance:
        """All that is random in a training step of [clips, frames]."""
        t = torch.randint(1, self.schedule.steps + 1, (clips,), generator=generator, device=device)
        noise = torch.randn(clips, frames, COEFFICIENTS, generator=generator, device=device)
        dropped = torch.rand(clips, generator=generator, device=device) < self.config.diffusion.style_dropout
        return Chance(t, noise, dropped)

    def prediction_at(
        self, coefficients: Tensor, windows: Tensor, style: Tensor, padding: Tensor, chance: Chance
    ) -> NoisedPrediction:
        """`noised_prediction` with the times, noise and dropped styles given."""
        t, noise, dropped = chance.t, chance.noise, chance.dropped
        style = torch.where(dropped[:, None, None], 0.0, self.normalise(style))
        padding = padding & ~dropped[:, None]
        x0 = self.normalise(coefficients)
        x_t = self.schedule.add_noise(x0, t, noise)
        output = self.denoiser(x_t, t, windows, style, padding)
        if self.config.diffusion.prediction == "x0":
            return NoisedPrediction(output, x0, self.denormalise(output), t)
        return NoisedPrediction(output, noise, self.denormalise(self.schedule.to_x0(x_t, t, output)), t)

    @torch.no_grad()
    def sample(
        self,
        condition: Tensor,
        style: StyleClip,
        *,
        frames: range | None = None,
        steps: int = 10,
        guidance: float = 1.0,
        sampler: str = "ddim",
        noise: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Expression coefficients [B, L, 64] for the speech in `condition`; evaluation mode only.

        condition: rows [B, R, D] at 50 per second, or windows [B, L, 11, D]. frames: which
        frames of rows to make (R // 2 from 0 if None). noise [B, L, 64]: the start; drawn from
        `generator` (torch's CPU generator if None) where it is not given. A frame depends
        on its own window, noise and style only, so frames may be made in any portions
        (`ddpm` draws more noise as it goes, for all frames of the call).
        """
        if sampler not in SAMPLERS:
            raise InputError(f"unknown sampler {sampler!r}: expected one of {', '.join(SAMPLERS)}")
        clips, spans = self._spans(condition, frames)
        total = sum(len(span) for span in spans)
        if noise is None:
            source = "cpu" if generator is None else generator.device
            noise = torch.randn(clips, total, COEFFICIENTS, generator=generator, device=source)
        if tuple(noise.shape) != (clips, total, COEFFICIENTS):
            raise InputError(f"noise must be [{clips}, {total}, {COEFFICIENTS}], got {list(noise.shape)}")
        if not total:
            return noise.to(condition.device)
        coefficients, padding = self._style(style, clips)
        prepared = [
            self.denoiser.prepare_rows(condition, span.start, len(span), coefficients, padding, guided=guidance != 1)
            if condition.dim() == 3
            else self.denoiser.prepare(
                condition[:, span.start : span.stop], coefficients, padding, guided=guidance != 1
            )
            for span in spans
        ]
        sizes = [len(span) for span in spans]

        def conditional(x: Tensor, t: int) -> Tensor:
            times = torch.full((clips,), t, device=x.device)
            parts = zip(prepared, x.split(sizes, dim=1), strict=True)
            return self._as_x0(x, times, torch.cat([self.denoiser.step(p, part, times) for p, part in parts], 1))

        def pair(x: Tensor, t: int) -> tuple[Tensor, Tensor]:
            times = torch.full((clips,), t, device=x.device)
            parts = zip(prepared, x.split(sizes, dim=1), strict=True)
            halves = zip(*[self.denoiser.step_pair(p, part, times) for p, part in parts], strict=True)
            with_style, without = (self._as_x0(x, times, torch.cat(half, 1)) for half in halves)
            return with_style, without

        run = SAMPLERS[sampler]
        x0 = run(
            guided(conditional, pair, guidance), noise.to(condition.device), self.schedule, steps, generator=generator
        )
        return self.denormalise(x0)

    @torch.no_grad()
    def sample_plain(
        self, windows: Tensor, style: StyleClip, noise: Tensor, *, steps: int = 10, guidance: float = 1.0
    ) -> Tensor:
        """The meaning of `sample` with DDIM: the whole network at every step, both guided halves, nothing hoisted.

        windows [B, L, 11, D], noise [B, L, 64] -> [B, L, 64]. For tests and benchmarks.
        """
        clips = windows.shape[0]
        coefficients, padding = self._style(style, clips)
        null, nothing = self.denoiser.null_style(clips)
        both = torch.cat([windows, windows]), torch.cat([coefficients, null]), torch.cat([padding, nothing])

        def denoise(x: Tensor, t: int) -> Tensor:
            times = torch.full((2 * clips,), t, device=x.device)
            output = self._as_x0(torch.cat([x, x]), times, self.denoiser(torch.cat([x, x]), times, *both))
            condition, unconditional = output.chunk(2)
            return unconditional + guidance * (condition - unconditional)

        return self.denormalise(SAMPLERS["ddim"](denoise, noise, self.schedule, steps))

    def _as_x0(self, x: Tensor, t: Tensor, output: Tensor) -> Tensor:
        return output if self.config.diffusion.prediction == "x0" else self.schedule.to_x0(x, t, output)

    def _style(self, style: StyleClip, clips: int) -> tuple[Tensor, Tensor]:
        """The clip on this device, normalised, once per clip of the batch: [B, 256, 64], [B, 256]."""
        if bool(style.padding.all(-1).any()):  # where the clip is, usually the host: asking a GPU means waiting for it
            raise InputError("the style clip has no frames: every one of its 256 is padding")
        device = self.coefficient_mean.device
        coefficients, padding = style.coefficients.to(device), style.padding.to(device)
        return self.normalise(coefficients).expand(clips, -1, -1), padding.expand(clips, -1)

    def _spans(self, condition: Tensor, frames: range | None) -> tuple[int, list[range]]:
        """The batch size, and the frames to make in portions of `chunk_frames`."""
        if condition.dim() not in (3, 4) or condition.shape[-1] != self.config.speech.width:
            raise InputError(
                f"condition must be rows [B, R, {self.config.speech.width}] or windows "
                f"[B, L, 11, {self.config.speech.width}], got {list(condition.shape)}"
            )
        if self.training:
            raise RuntimeError("sample() is for evaluation: call eval() first")
        if condition.dim() == 4:
            frames = range(condition.shape[1]) if frames is None else frames
            if frames.stop > condition.shape[1]:
                raise InputError(f"frames {frames} reach beyond the {condition.shape[1]} windows given")
        frames = range(condition.shape[1] // ROWS_PER_FRAME) if frames is None else frames
        size = self.chunk_frames
        return condition.shape[0], [frames[i : i + size] for i in range(0, len(frames), size)]


__all__ = ["Chance", "MotionModel", "NoisedPrediction", "windows"]

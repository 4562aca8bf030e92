"""A stage of the paper's schedule: some parts of the model learn on the whole loss, the others are fixed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..features import FeatureExtractor, samples_for
from ..model import MotionModel
from ..rates import COEFFICIENTS, ROWS_PER_FRAME, SAMPLES_PER_FRAME, STYLE_FRAMES, WINDOW
from ..sparsity import watch_crowding
from ..types import Features, StyleClip
from .clips import ClipSet, Order, RowCache
from .config import PaperSchedule, StageConfig, TrainingConfig
from .drawing import Draw, draw, style_clips
from .loop import Stage
from .losses import MotionLoss
from .quality import expression_quality

ENCODERS = ("speech", "tacotron")


@dataclass(frozen=True)
class Plan:
    """Name of a stage, its sizes, and the peak rate of each part of the model that learns in it."""

    name: str
    settings: StageConfig
    rates: dict[str, float]


def plan(model: MotionModel, schedule: PaperSchedule, *, sound: bool) -> list[Plan]:
    """The schedule's stages for this model; those without anything to learn are left out.

    sound: whether all clips have their voice. With features alone the encoders are not fine-tuned.
    """
    encoders = {part: schedule.encoder_rate for part in ENCODERS if sound and getattr(model, part) is not None}
    stages = []
    if encoders and schedule.encoders.steps:
        stages.append(Plan("encoders", schedule.encoders, {**encoders, "denoiser": schedule.encoders.rate}))
    for number in range(1, schedule.rounds + 1):
        if model.fusion is not None:
            stages.append(Plan(f"fusion-{number}", schedule.fusion, {"fusion": schedule.fusion.rate}))
        stages.append(Plan(f"decoders-{number}", schedule.decoders, {"denoiser": schedule.decoders.rate}))
    return [stage for stage in stages if stage.settings.steps]


class EndToEndStage(Stage):
    """The parts named in `plan.rates` learn; everything else is fixed and in evaluation mode.

    Speech encoders that learn see crops of sound; fixed ones encode each clip once, whole.
    """

    watched = "validation_quality"

    def __init__(
        self, plan: Plan, model: MotionModel, clips: ClipSet, validation: ClipSet, config: TrainingConfig
    ) -> None:
        schedule = config.schedule
        self.name, self.settings, self.rates = plan.name, plan.settings, plan.rates
        self.model, self.clips, self.validation, self.schedule = model, clips, validation, schedule
        self.patience, self.least_gain = schedule.patience, schedule.least_gain
        self.device = model.coefficient_mean.device
        self.motion_loss = MotionLoss(config.losses)
        watch_crowding(model, config.losses.crowding > 0)
        self.order = Order(len(clips), zlib.crc32(f"{config.seed}/{plan.name}".encode()))
        self.learning_sound = any(part in plan.rates for part in ENCODERS)
        self.module = nn.ModuleDict({part: getattr(model, part) for part in plan.rates})
        model.eval().requires_grad_(False)
        self.module.requires_grad_(True)
        if model.config.speech.pretrained is not None and "speech" in plan.rates:
            # As its authors fine-tune it: the convolutions on the samples stay.
            model.speech.network.feature_extractor.requires_grad_(False)
        self.rows = RowCache(clips, model.speech, model.tacotron, schedule.cache_gigabytes)

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        return [([p for p in self.module[part].parameters() if p.requires_grad], r) for part, r in self.rates.items()]

    def batches(self, generator: torch.Generator, step: int, parts: int) -> list[Draw]:
        chosen = self.order.take(step * self.settings.clips, self.settings.clips)
        whole = draw(self.model, self.clips, chosen, self.settings, self.schedule.crop, generator)
        return whole.split(parts)

    def loss(self, batch: Draw) -> tuple[Tensor, dict[str, float]]:
        frames = zip(batch.clips.tolist(), batch.frames, strict=True)
        truth = torch.stack([torch.from_numpy(self.clips[clip].coefficients)[at] for clip, at in frames])
        style, padding = (x.to(self.device) for x in style_clips(self.clips, batch, STYLE_FRAMES))
        prediction = self.model.prediction_at(
            truth.to(self.device), self._windows(batch), style, padding, batch.chance.to(self.device)
        )
        return self.motion_loss(self.model, prediction, truth.to(self.device))

    def _windows(self, batch: Draw) -> Tensor:
        """What the denoiser reads of every frame, [B, L, 11, D]; zeros beyond the rows there are."""
        if self.learning_sound:
            features = self._encode(batch)
            rows = [(features.acoustic[i], _row(features.prosodic, i)) for i in range(len(batch.clips))]
            frames = batch.frames - batch.first[:, None]
        else:
            cached = [self.rows[clip] for clip in batch.clips.tolist()]
            rows, frames = [(f.acoustic, f.prosodic) for f in cached], batch.frames
        acoustic = torch.stack([_gather(a, at) for (a, _), at in zip(rows, frames, strict=True)])
        prosodic = None
        if self.model.fusion is not None:
            prosodic = torch.stack([_gather(p, at) for (_, p), at in zip(rows, frames, strict=True)]).to(self.device)
        inside = torch.stack([_inside(len(a), at) for (a, _), at in zip(rows, frames, strict=True)])
        condition = self.model.condition(Features(acoustic.to(self.device), prosodic))
        return condition * inside.to(self.device)[..., None]  # fused zeros are not zero

    def _encode(self, batch: Draw) -> Features:
        """Rows of the crops' sound, [B, 2 crop, D], with gradients."""
        waves = []
        for index, first in zip(batch.clips.tolist(), batch.first.tolist(), strict=True):
            start = SAMPLES_PER_FRAME * first
            wave = torch.from_numpy(self.clips[index].wave)[start : start + samples_for(ROWS_PER_FRAME * batch.crop)]
            waves.append(nn.functional.pad(wave, (0, samples_for(ROWS_PER_FRAME * batch.crop) - len(wave))))
        extractor = FeatureExtractor(self.model.speech, self.model.tacotron).train(self.module.training)
        return extractor(torch.stack(waves).to(self.device))

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Expression quality of motion sampled for held-out clips with the averaged weights."""
        with replaced(self.model, module) as model:
            model.eval()
            rows = RowCache(self.validation, model.speech, model.tacotron, gigabytes=0.0)
            made, truth = [], []
            for index in range(min(self.schedule.validation_clips, len(self.validation))):
                made.append(self._sample(model, rows[index], index))
                truth.append(torch.from_numpy(self.validation[index].coefficients)[: len(made[-1])])
        return expression_quality(made, truth, model.coefficient_mean, model.coefficient_std)

    def _sample(self, model: MotionModel, rows: Features, index: int) -> Tensor:
        """Motion [T, 64] of one held-out clip, from noise of its own that is the same every time."""
        generator = torch.Generator().manual_seed(index)
        frames = int(self.validation.frames[index])
        prosodic = None if rows.prosodic is None else rows.prosodic[None].float().to(self.device)
        condition = model.condition(Features(rows.acoustic[None].float().to(self.device), prosodic))
        one = draw(model, self.validation, torch.tensor([index]), self.settings, self.schedule.crop, generator)
        style, padding = style_clips(self.validation, one, STYLE_FRAMES)
        noise = torch.randn(1, 1, COEFFICIENTS, generator=generator).expand(-1, frames, -1)
        clip = StyleClip(style, padding)
        steps = self.schedule.sampler_steps
        return model.sample(condition, clip, frames=range(frames), steps=steps, noise=noise)[0].cpu()


@contextmanager
def replaced(model: MotionModel, parts: nn.ModuleDict) -> Iterator[MotionModel]:
    """`model` with other parts in the place of its own, for a while."""
    own = {name: getattr(model, name) for name in parts}
    for name, part in parts.items():
        setattr(model, name, part)
    try:
        yield model
    finally:
        for name, part in own.items():
            setattr(model, name, part)


def _row(rows: Tensor | None, index: int) -> Tensor | None:
    return None if rows is None else rows[index]


def _places(frames: Tensor) -> Tensor:
    """Row numbers [L, 11] of the windows of frames [L]."""
    return ROWS_PER_FRAME * frames[:, None] + torch.arange(WINDOW) - WINDOW // 2


def _inside(rows: int, frames: Tensor) -> Tensor:
    place = _places(frames)
    return (place >= 0) & (place < rows)


def _gather(rows: Tensor, frames: Tensor) -> Tensor:
    """Rows [R, D] -> windows [L, 11, D] float32, the nearest row where there is none."""
    return rows[_places(frames).clamp(0, len(rows) - 1).to(rows.device)].float()

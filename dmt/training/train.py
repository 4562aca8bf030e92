"""`train`: the stages one after the other, each picked up where a run stopped, then the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from ..checkpoint import save_model
from ..config import replace, to_dict
from ..corpus import Corpus
from ..errors import InputError
from ..features import SpeechEncoder
from ..model import MotionModel
from ..rates import FRAME_RATE
from ..types import as_device
from .clips import ClipSet
from .config import TrainingConfig
from .curriculum import STAGES, load_splits, new_model, train_curriculum, train_encoder
from .datasets import open_splits
from .end_to_end import EndToEndStage, Plan, plan
from .journal import Journal, Progress
from .loop import run_stage
from .ranks import Ranks, joined
from .start import start_from


@dataclass(frozen=True)
class TrainingReport:
    """Where the checkpoint and the plot are (None without matplotlib), and the last measures of every stage.

    notes: sentences the user should read: what was left out, skipped, or started from.
    first: whether this process is the one of its ranks that wrote and should speak.
    """

    checkpoint: Path
    plot: Path | None
    measures: dict[str, dict[str, float]]
    notes: tuple[str, ...] = ()
    first: bool = True


def train(config: TrainingConfig, progress: Progress | None = None) -> TrainingReport:
    """Train a model, or go on with a run that stopped; writes `model.safetensors`.

    The folder `config.output` receives the configuration (`training.json`), one log (JSONL) and one resumable
    state for each stage, plots, and the checkpoint with the record of the run. Under torchrun every process
    calls this; the first one writes, and all return the same.
    Raises InputError for missing data, a folder with another run, or settings that do not go together.
    """
    _check(config)
    with joined(as_device(config.device)) as (ranks, device):
        if ranks.count > 1 and config.schedule is None:
            raise InputError("the bundled model's stages train in one process; torchrun needs --schedule paper")
        journal = Journal(config, progress, ranks)
        try:
            if config.schedule is None:
                return _bundled(config, journal, progress)
            return _by_schedule(config, journal, ranks, device)
        finally:
            journal.close()


def _check(config: TrainingConfig) -> None:
    if config.accumulate < 1:
        raise InputError(f"accumulate must be at least 1, got {config.accumulate}")
    if config.precision == "float16" and not config.device.startswith("cuda"):
        raise InputError("float16 training needs a GPU; use bfloat16 or float32 on a CPU")
    if config.schedule is not None:
        return
    if config.model.tacotron is None or config.model.speech.pretrained is not None:
        raise InputError(
            "the bundled model's stages train a model with its own speech encoders (preset demo); "
            "use the paper's schedule for this one"
        )
    if config.start or config.device != "cpu" or config.accumulate > 1:
        raise InputError("the bundled model's stages start from nothing, on a CPU, with whole batches")


def _bundled(config: TrainingConfig, journal: Journal, progress: Progress | None) -> TrainingReport:
    corpus, validation = load_splits(config)
    model = train_curriculum(config, corpus, validation, journal, progress)
    measures = {name: _last(journal, name) for name in STAGES}
    checkpoint = journal.folder / "model.safetensors"
    voices = ["espeak-ng", *Corpus.speakers(config.corpus)]
    data = f"synthetic: speech of {', '.join(voices)} with lip targets from phoneme times (dmt corpus)"
    minutes = len(corpus) * corpus.coefficients.shape[1] / FRAME_RATE / 60
    save_model(checkpoint, model.eval(), _record(config, data, len(corpus), minutes, measures), half=True)
    return TrainingReport(checkpoint, journal.plot(STAGES), measures)


def _by_schedule(config: TrainingConfig, journal: Journal, ranks: Ranks, device: torch.device) -> TrainingReport:
    learned, held_out = open_splits(config)
    clips, validation = ClipSet(learned), ClipSet(held_out)
    model, notes = _starting_model(config, clips, device)
    if clips.left_out:
        notes.append(f"{clips.left_out} clips are too short or silent and were left out")
    stages = plan(model, config.schedule, sound=clips.has_sound and validation.has_sound)
    if not any(stage.name == "encoders" for stage in stages):
        notes.append("the speech encoders were not fine-tuned: the data has features in place of sound, or 0 steps")
    for stage in stages:
        _train_stage(stage, model, clips, validation, config, journal, ranks)
    measures = {stage.name: _last(journal, stage.name) for stage in stages}
    checkpoint = journal.folder / "model.safetensors"
    if ranks.first:
        if any("speech" in stage.rates for stage in stages):
            _own_speech(model)
        record = _record(config, f"{config.corpus}", len(clips), clips.minutes, measures)
        save_model(checkpoint, model.eval(), record)
    ranks.wait()
    return TrainingReport(checkpoint, journal.plot([s.name for s in stages]), measures, tuple(notes), ranks.first)


def _starting_model(config: TrainingConfig, clips: ClipSet, device: torch.device) -> tuple[MotionModel, list[str]]:
    """The model before its first step, and what to say about it."""
    model, notes = new_model(config), []
    if model.speech is None and (clips.has_sound or model.tacotron is not None):
        model.speech = SpeechEncoder.from_pretrained(config.model.speech)
    if config.model.normalised:
        model.set_statistics(*clips.statistics())
    if config.start:
        notes.append(start_from(model, config.start))
    return model.to(device), notes


def _train_stage(
    stage: Plan,
    model: MotionModel,
    clips: ClipSet,
    validation: ClipSet,
    config: TrainingConfig,
    journal: Journal,
    ranks: Ranks,
) -> None:
    """Train one stage and leave its best weights in `model`."""
    if stage.settings.clips % (config.accumulate * ranks.count):
        raise InputError(
            f"the {stage.settings.clips} clips of a step cannot be cut into {config.accumulate} parts on each of "
            f"{ranks.count} processes; choose numbers that divide it"
        )
    run = EndToEndStage(stage, model, clips, validation, config)
    for name, part in run_stage(run, config, journal, ranks).items():
        getattr(model, name).load_state_dict(part.state_dict())


def _own_speech(model: MotionModel) -> None:
    """Fine-tuned speech weights are no longer those on the hub: they belong in the checkpoint."""
    model.config = replace(model.config, speech=replace(model.config.speech, pretrained=None))


def _last(journal: Journal, stage: str) -> dict[str, float]:
    """The last validation measures in a stage's log."""
    rows = [row for row in journal.rows(stage) if any(key.startswith("validation") for key in row)]
    return {key: value for key, value in (rows[-1] if rows else {}).items() if key.startswith("validation")}


def _record(config: TrainingConfig, data: str, clips: int, minutes: float, measures: dict) -> dict:
    """What a reader of the checkpoint wants to know about how it came to be."""
    aside = ("model", "corpus", "output", "save_every")
    settings = {k: v for k, v in to_dict(config).items() if k not in aside}
    return {"data": data, "clips": clips, "minutes": round(minutes, 1), "settings": settings, "measures": measures}


__all__ = ["STAGES", "TrainingReport", "load_splits", "new_model", "train", "train_encoder"]

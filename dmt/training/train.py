"""`train`: the stages one after the other, each picked up where a run stopped, then the checkpoint."""

from __future__ import annotations

import multiprocessing
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from ..checkpoint import save_model
from ..config import to_dict
from ..corpus import Corpus
from ..errors import InputError
from ..model import MotionModel
from ..rates import FRAME_RATE
from .config import TrainingConfig
from .denoiser import DenoiserStage
from .encoders import AcousticStage, ProsodicStage
from .fusion import FusionStage, fused_rows
from .journal import Journal, Progress
from .loop import run_stage

VALIDATION_SHARDS = 2
_SPAWN = multiprocessing.get_context("spawn")

STAGES = ("prosodic", "acoustic", "fusion", "denoiser")


@dataclass(frozen=True)
class TrainingReport:
    """Where the checkpoint and the plot are (None without matplotlib), and the last measures of every stage."""

    checkpoint: Path
    plot: Path | None
    measures: dict[str, dict[str, float]]


def new_model(config: TrainingConfig) -> MotionModel:
    """The untrained model of a run: the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return MotionModel(config.model)


def train(config: TrainingConfig, progress: Progress | None = None) -> TrainingReport:
    """Train a model from a built corpus, or go on with a run that stopped; writes `model.safetensors`.

    The folder `config.output` receives the configuration, one log (JSONL) and one resumable state
    for each stage, the plot `losses.png` and the checkpoint (matrices in float16) with the record.
    Raises InputError for a missing corpus, a folder with another run, or a model whose parts
    the stages do not cover (pretrained speech, no Tacotron branch).
    """
    if config.model.tacotron is None or config.model.speech.pretrained is not None:
        raise InputError("this schedule trains a model with its own speech encoders; use the preset demo")
    journal = Journal(config, progress)
    corpus, validation = load_splits(config)
    model = new_model(config)
    _train_encoders(config, model, progress)
    model.eval()  # encoders are used, not trained, from here on: no dropout in what is cached
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        fusion = FusionStage(model, corpus, validation, config.fusion)
    model.fusion.load_state_dict(run_stage(fusion, config, journal)["fusion"].state_dict())
    rows, held_out = (fused_rows(model.fusion, r) for r in (fusion.rows, fusion.validation_rows))
    del fusion
    stage = DenoiserStage(model, rows, held_out, corpus, validation, config.denoiser, config.losses)
    model.denoiser.load_state_dict(run_stage(stage, config, journal).state_dict())
    measures = {name: _last(journal, name) for name in STAGES}
    checkpoint = journal.folder / "model.safetensors"
    save_model(checkpoint, model.eval(), _record(config, corpus, measures), half=True)
    return TrainingReport(checkpoint, journal.plot(STAGES), measures)


def load_splits(config: TrainingConfig) -> tuple[Corpus, Corpus]:
    """The corpus to learn from and the held-out clips that are looked at on the way."""
    return (
        Corpus.load(config.corpus, shards=config.shards),
        Corpus.load(config.corpus, "validation", shards=VALIDATION_SHARDS),
    )


def _train_encoders(config: TrainingConfig, model: MotionModel, progress: Progress | None) -> None:
    """Train both encoders and load them into `model`."""
    names = ("prosodic", "acoustic")
    if config.parallel:
        # Fresh interpreters: threads do not survive a fork. Progress is the first encoder's, which takes longest.
        workers = [_SPAWN.Process(target=_encoder_process, args=(config, name), daemon=True) for name in names[1:]]
        for worker in workers:
            worker.start()
        try:
            train_encoder(config, names[0], progress)
            for worker in workers:
                worker.join()
        finally:
            for worker in workers:
                worker.terminate()
    for name, encoder in zip(names, (model.tacotron, model.speech), strict=True):
        # Finished stages return at once; after a failed process this is where the error shows.
        encoder.load_state_dict(train_encoder(config, name, progress).state_dict())


def _encoder_process(config: TrainingConfig, name: str) -> None:
    torch.set_num_threads(1)
    train_encoder(config, name)


def _last(journal: Journal, stage: str) -> dict[str, float]:
    """The last validation measures in a stage's log."""
    rows = [row for row in journal.rows(stage) if any(key.startswith("validation") for key in row)]
    return {key: value for key, value in (rows[-1] if rows else {}).items() if key.startswith("validation")}


def _record(config: TrainingConfig, corpus: Corpus, measures: dict[str, dict[str, float]]) -> dict:
    """What a reader of the checkpoint wants to know about how it came to be."""
    settings = {k: v for k, v in to_dict(config).items() if k not in ("model", "corpus", "output", "save_every")}
    data = "synthetic: espeak-ng speech with lip targets from its phoneme times (dmt corpus)"
    minutes = len(corpus) * corpus.coefficients.shape[1] / FRAME_RATE / 60
    return {
        "data": data,
        "clips": len(corpus),
        "minutes": round(minutes, 1),
        "settings": settings,
        "measures": measures,
    }


def train_encoder(config: TrainingConfig, name: str, progress: Progress | None = None) -> nn.Module:
    """Train (or finish) the encoder `prosodic` or `acoustic` on its own and return it."""
    journal = Journal(config, progress)
    model = new_model(config)
    corpus, validation = load_splits(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)  # the heads' first weights
        if name == "prosodic":
            stage = ProsodicStage(model.tacotron, corpus, validation, config.prosodic)
        else:
            stage = AcousticStage(model.speech, corpus, validation, config.acoustic)
    return run_stage(stage, config, journal).encoder

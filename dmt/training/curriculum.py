"""The bundled model's stages: encoders taught by heads, then fusion, then the denoiser; from nothing pretrained."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

import torch
from torch import nn

from ..corpus import Corpus
from ..model import MotionModel
from ..process import unwind
from .config import TrainingConfig
from .denoiser import DenoiserStage
from .encoders import AcousticStage, ProsodicStage
from .fusion import FusionStage, fused_rows
from .journal import Journal, Progress
from .loop import run_stage

VALIDATION_SHARDS = 2
_SPAWN = multiprocessing.get_context("spawn")

STAGES = ("prosodic", "acoustic", "fusion", "denoiser")


def new_model(config: TrainingConfig) -> MotionModel:
    """The untrained model of a run: the same for the same seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return MotionModel(config.model)


def load_splits(config: TrainingConfig) -> tuple[Corpus, Corpus]:
    """The corpus to learn from and the held-out clips that are looked at on the way."""
    return (
        Corpus.load(config.corpus, shards=config.shards),
        Corpus.load(config.corpus, "validation", shards=VALIDATION_SHARDS),
    )


def train_curriculum(
    config: TrainingConfig, corpus: Corpus, validation: Corpus, journal: Journal, progress: Progress | None
) -> MotionModel:
    """All four stages; the trained model."""
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
    return model


def _train_encoders(config: TrainingConfig, model: MotionModel, progress: Progress | None) -> None:
    """Train both encoders and load them into `model`."""
    names = ("prosodic", "acoustic")
    if config.parallel:
        # Fresh interpreters: threads do not survive a fork. Progress is the first encoder's, which takes longest.
        workers = [_SPAWN.Process(target=_encoder_process, args=(config, name), daemon=True) for name in names[1:]]
        with _deaf_to_interrupts():
            for worker in workers:
                worker.start()
        try:
            train_encoder(config, names[0], progress)
            for worker in workers:
                worker.join()
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:  # which may have to take an unfinished file away
                worker.join()
    for name, encoder in zip(names, (model.tacotron, model.speech), strict=True):
        # Finished stages return at once; after a failed process this is where the error shows.
        encoder.load_state_dict(train_encoder(config, name, progress).state_dict())


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Children started here never hear Ctrl-C, which a terminal sends to all: whoever started them ends them.

    A signal mask is inherited, so it holds from the child's first moment, imports included.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    resource_tracker.ensure_running()  # starting it later would unblock the signal again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _encoder_process(config: TrainingConfig, name: str) -> None:
    signal.signal(signal.SIGTERM, unwind)
    torch.set_num_threads(1)
    train_encoder(config, name)


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
    try:
        return run_stage(stage, config, journal).encoder
    finally:
        journal.close()

"""What all variants share, made once: corpus, finished speech encoders and fusion, their rows, held-out clips."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from dmt.atomic import atomic
from dmt.bench.machine import commit
from dmt.checkpoint import load_model, read_record
from dmt.corpus import Corpus, build_corpus
from dmt.errors import InputError
from dmt.features import silence_after
from dmt.media import read_audio
from dmt.model import MotionModel
from dmt.rates import COEFFICIENTS
from dmt.training import TrainingConfig
from dmt.training.curriculum import load_splits, new_model, train_encoder
from dmt.training.denoiser import statistics
from dmt.training.encoders import acoustic_rows, prosodic_rows
from dmt.training.fusion import FusionStage, fused_rows
from dmt.training.journal import Journal
from dmt.training.loop import run_stage

from .heldout import unseen_languages
from .training import Workplace, save_json
from .variants import PROSODIC_WIDTH, SPEECH

MINUTES, CORPUS_SEED = 170.0, 0
"""Of the training corpus."""

HELD_OUT_MINUTES, HELD_OUT_SEED, HELD_OUT_CLIPS = 9.0, 20_000, 48
"""Well recorded clips of held-out voices; the seed is one that no training uses."""


def prepare(place: Workplace, english: Path | None, finished: Path | None) -> None:
    """Make whatever is missing. finished: a checkpoint of the demo preset to take speech encoders and fusion from;
    None trains them from the corpus by their own stages, which is some hours of one CPU core."""
    place.folder.mkdir(parents=True, exist_ok=True)
    if place.rows.exists() and place.held_out.exists():
        return
    build_corpus(place.corpus, minutes=MINUTES, seed=CORPUS_SEED)
    model = train_encoders(place) if finished is None else take_encoders(place, finished)
    if not place.rows.exists():
        corpus = Corpus.load(place.corpus)
        rows = {f"train_{name}": r for name, r in corpus_rows(model, corpus).items()}
        save_atomically(rows | {"statistics": torch.stack(statistics(corpus))}, place.rows)
    if not place.held_out.exists():
        save_atomically(_held_out(place, model, english), place.held_out)


def take_encoders(place: Workplace, finished: Path) -> MotionModel:
    """The checkpoint's model. What it is and how it was trained is kept in `encoders.json` for the report."""
    model = load_model(finished)
    tacotron = model.config.tacotron
    widths = (model.config.speech.width, tacotron.width if tacotron else None)
    if widths != (SPEECH.width, PROSODIC_WIDTH):
        raise InputError(
            f"the experiment needs encoders of widths {SPEECH.width} and {PROSODIC_WIDTH}; {finished} has {widths}"
        )
    known = {"sha256": sha256(finished.read_bytes()).hexdigest(), "commit": commit()}
    save_json(known | read_record(finished), place.encoders)
    return model


def train_encoders(place: Workplace) -> MotionModel:
    """The demo preset with its speech encoders and fusion trained by their own stages."""
    config = TrainingConfig(str(place.corpus), str(place.folder / "encoders"))
    model = new_model(config)
    for name, encoder in (("prosodic", model.tacotron), ("acoustic", model.speech)):
        encoder.load_state_dict(train_encoder(config, name).state_dict())
    model.eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        stage = FusionStage(model, *load_splits(config), config.fusion)
    model.fusion.load_state_dict(run_stage(stage, config, Journal(config))["fusion"].state_dict())
    return model.eval()


def corpus_rows(model: MotionModel, corpus: Corpus) -> dict[str, Tensor]:
    """What the variants may be conditioned on: rows [N, R, D] float16 of every clip."""
    acoustic, prosodic = acoustic_rows(model.speech, corpus), prosodic_rows(model.tacotron, corpus)
    return {
        "acoustic": acoustic,
        "prosodic": prosodic,
        "fused": fused_rows(model.fusion, (acoustic, prosodic)),
    }


def _held_out(place: Workplace, model: MotionModel, english: Path | None) -> dict[str, Tensor]:
    folder = place.folder / "heldout"
    build_corpus(folder, minutes=HELD_OUT_MINUTES, seed=HELD_OUT_SEED, clean_validation=True)
    parts = {"voices": first_clips(Corpus.load(folder, "validation"), HELD_OUT_CLIPS), "languages": unseen_languages()}
    tensors = {}
    for part, corpus in parts.items():
        tensors |= {f"{part}_{name}": rows for name, rows in corpus_rows(model, corpus).items()}
        for name in ("coefficients", "style", "lips", "closures"):
            tensors[f"{part}_{name}"] = torch.from_numpy(getattr(corpus, name))
    return tensors if english is None else tensors | _english(model, english)


def first_clips(corpus: Corpus, clips: int) -> Corpus:
    """The first `clips` clips of a corpus."""
    arrays = {name: getattr(corpus, name)[:clips] for name in corpus.__dataclass_fields__ if name != "closures"}
    return Corpus(**arrays, closures=corpus.closures[corpus.closures[:, 0] < clips])


@torch.no_grad()
def _english(model: MotionModel, folder: Path) -> dict[str, Tensor]:
    """A filmed English speaker: audio_16k.wav and facemotion.npy [T, >= 64]; measured with, never learned from."""
    wave = read_audio(folder / "audio_16k.wav")
    padded = np.concatenate([wave, np.zeros(silence_after(len(wave)), np.float32)])
    features = model.features(torch.from_numpy(padded)[None])
    filmed = np.load(folder / "facemotion.npy", allow_pickle=False)[:, :COEFFICIENTS]
    return {
        "english_acoustic": features.acoustic.half(),
        "english_prosodic": features.prosodic.half(),
        "english_fused": model.condition(features).half(),
        "english_coefficients": torch.from_numpy(filmed.astype(np.float32))[None],
    }


def save_atomically(tensors: dict[str, Tensor], path: Path) -> None:
    """As safetensors, whole or not at all."""
    with atomic(path) as part:
        save_file({name: t.contiguous() for name, t in tensors.items()}, part)

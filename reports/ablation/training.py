"""Training of one variant on rows made beforehand, resumable."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor, nn

from dmt.atomic import atomic
from dmt.corpus import Corpus
from dmt.model import MotionModel
from dmt.sparsity import DynamicThreshold
from dmt.training.curriculum import new_model
from dmt.training.denoiser import DenoiserStage
from dmt.training.journal import Journal
from dmt.training.loop import run_stage
from dmt.training.state import restore

from .masks import TopK, level, masks, replace_masks
from .variants import Variant

LEVEL_BATCHES = 20
"""Training batches over which the kept shares of a finished run are averaged."""


@dataclass(frozen=True)
class Workplace:
    """The folder of the whole experiment."""

    folder: Path

    @property
    def corpus(self) -> Path:
        return self.folder / "corpus"

    @property
    def rows(self) -> Path:
        return self.folder / "rows.safetensors"

    @property
    def held_out(self) -> Path:
        return self.folder / "heldout.safetensors"

    @property
    def encoders(self) -> Path:
        """What is known of a checkpoint that the encoders were taken from."""
        return self.folder / "encoders.json"

    def run(self, name: str, seed: int) -> Path:
        return self.folder / "runs" / f"{name}-seed{seed}"


def save_json(data: object, path: Path) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic(path) as part:
        part.write_text(json.dumps(data, indent=1) + "\n")


class AblationStage(DenoiserStage):
    """The denoiser's stage without looks at held-out clips on the way: nothing is chosen by them."""

    def validate(self, module: nn.Module) -> dict[str, float]:
        return {}


def load_rows(place: Workplace, name: str) -> Tensor:
    """By name: rows train_{acoustic,prosodic,fused} [N, R, D] float16; statistics [2, 64]."""
    with safe_open(place.rows, "pt") as file:
        return file.get_tensor(name)


def load_corpus(place: Workplace) -> Corpus:
    """The training clips without their sound, which the rows stand for."""
    corpus = Corpus.load(place.corpus)
    return replace(corpus, wave=corpus.wave[:, :1].copy())


def trained(place: Workplace, name: str, seed: int) -> bool:
    """Whether the run is finished."""
    return (place.run(name, seed) / "sites.json").exists()


def new_variant(place: Workplace, variant: Variant, seed: int) -> MotionModel:
    """The untrained model of a run."""
    model = new_model(variant.training(str(place.corpus), "", seed))
    if variant.mask != "dynamic":
        peer = json.loads((place.run(variant.like, seed) / "sites.json").read_text())
        replace_masks(model.denoiser, variant.mask, peer)
    return model


def train_variant(place: Workplace, variant: Variant, seed: int, corpus: Corpus) -> None:
    """Train, or finish training; leaves its state, its log and `sites.json` in the run's folder."""
    folder = place.run(variant.name, seed)
    config = variant.training(str(place.corpus), str(folder), seed)
    model = new_variant(place, variant, seed)
    rows = load_rows(place, f"train_{variant.condition}")
    stage = AblationStage(model, rows, rows[:0], corpus, corpus, config.denoiser, config.losses)
    model.denoiser = run_stage(stage, config, Journal(config))
    save_json(_levels(model, stage), folder / "sites.json")


def load_trained(place: Workplace, variant: Variant, seed: int) -> MotionModel:
    """The finished model of a run, in evaluation mode."""
    model = new_variant(place, variant, seed)
    state = Journal(variant.training(str(place.corpus), str(place.run(variant.name, seed)), seed)).load("denoiser")
    restore(model.denoiser, state["averaged"])
    model.set_statistics(*load_rows(place, "statistics"))
    return model.eval()


@torch.no_grad()
def _levels(model: MotionModel, stage: AblationStage) -> dict[str, dict[str, float]]:
    """Of every threshold of the finished model: its value, theta' and the mean kept share on training batches."""
    model.eval()
    found = masks(model.denoiser)
    kept = dict.fromkeys(found, 0.0)
    for batch in range(LEVEL_BATCHES if found else 0):
        stage.loss(torch.Generator().manual_seed(batch))
        for name, mask in found.items():
            kept[name] += float(mask.kept) / LEVEL_BATCHES
    return {name: {"kept": kept[name]} | _threshold(mask) for name, mask in found.items()}


def _threshold(mask: DynamicThreshold | TopK) -> dict[str, float]:
    if isinstance(mask, TopK):
        return {}
    return {"threshold": level(mask), "theta": float(torch.sigmoid(mask.theta))}

"""The second stage: the fusion learns to join two finished encoders; both are fixed."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..corpus import Corpus
from ..fusion import GatedFusion
from ..model import MotionModel
from ..rates import ROWS_PER_FRAME
from .config import StageConfig
from .encoders import Heads, acoustic_rows, prosodic_rows
from .loop import Stage

FIRST_SCALE = 2.0


class FusionStage(Stage):
    """Gate, projection and scale, taught by the same heads as the encoders, on the fused rows.

    Encoded rows are kept in half precision (about 300 kB a clip).
    """

    name = "fusion"

    def __init__(self, model: MotionModel, corpus: Corpus, validation: Corpus, settings: StageConfig) -> None:
        self.corpus, self.validation, self.settings = corpus, validation, settings
        with torch.no_grad():
            # A finished acoustic model keeps its meaning at scale 0; here both branches are new and both are needed.
            model.fusion.scale.fill_(FIRST_SCALE)
        self.module = nn.ModuleDict({"fusion": model.fusion, "heads": Heads(model.config.speech.width)})
        self.rows = acoustic_rows(model.speech, corpus), prosodic_rows(model.tacotron, corpus)
        self.validation_rows = acoustic_rows(model.speech, validation), prosodic_rows(model.tacotron, validation)

    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        clips = torch.randint(len(self.corpus), (self.settings.clips,), generator=generator)
        acoustic, prosodic = (rows[clips].float() for rows in self.rows)
        sounds = torch.from_numpy(self.corpus.sounds[clips.numpy()]).long()
        lips = torch.from_numpy(self.corpus.lips[clips.numpy()].astype(np.float32))
        classes, moved = self.module["heads"].losses(self.module["fusion"](acoustic, prosodic), sounds, lips)
        values = {"sounds": float(classes.detach()), "lips": float(moved.detach())}
        return 0.3 * classes + 2.0 * moved, values

    def validate(self, module: nn.Module) -> dict[str, float]:
        rows = module["fusion"](*(r.float() for r in self.validation_rows))
        opening = module["heads"].lips(rows[:, ::ROWS_PER_FRAME])[..., 0].numpy().ravel()
        truth = self.validation.lips[:, :, 0].astype(np.float32).ravel()
        return {"validation_opening": float(np.corrcoef(opening, truth)[0, 1])}


@torch.no_grad()
def fused_rows(fusion: GatedFusion, rows: tuple[Tensor, Tensor], portion: int = 64) -> Tensor:
    """The condition rows [N, R, D] float16 of encoded rows."""
    parts = zip(*(r.split(portion) for r in rows), strict=True)
    return torch.cat([fusion(a.float(), p.float()).half() for a, p in parts])

"""Training of the learned renderer: one person's video, its own pictures as portraits of one another.

Each pair is two pictures of the video: the one is the portrait, the motion of the other drives it, and the other is
what should come out.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from ..atomic import atomic
from ..dreamtalk import load_renderer
from ..errors import InputError
from ..evaluation.lpips import Lpips
from ..renderer.flow import DESCRIPTOR, FlowRenderer, FlowSize, Rendered
from ..types import as_device
from .clips import Order
from .config import RendererConfig
from .film import Film, read_film
from .journal import Journal, Progress
from .loop import Stage, run_stage
from .ranks import joined

RELEASED = FlowSize().base
HELD_OUT = 10
"""Every tenth picture is held out, to look at on the way."""

PORTION = 4
NO_VGG = "no VGG was given, so the perceptual term is left out: pictures come out smoother (--vgg vgg16.pth)"


@dataclass(frozen=True)
class RendererReport:
    """The checkpoint, the plot (None without matplotlib), measures on held-out pictures, and what the user should read.

    measures: mean absolute difference of colours in -1..1 for the picture, for the portrait moved by the flow alone,
    and for the portrait as it is (what doing nothing would give).
    """

    checkpoint: Path
    plot: Path | None
    measures: dict[str, float]
    notes: tuple[str, ...]
    first: bool = True


class RendererLoss:
    """Reconstruction, warp and smoothness of a rendered pair, and LPIPS on VGG where one is given."""

    def __init__(self, config: RendererConfig, vgg: Callable[[Tensor, Tensor], Tensor] | None) -> None:
        self.config, self.vgg = config, vgg

    def __call__(self, rendered: Rendered, wanted: Tensor) -> tuple[Tensor, dict[str, float]]:
        """wanted [B, 3, H, W] in -1..1.

        The warp term holds the moved portrait itself to the wanted picture: without it the editing network
        learns to paint what the flow should have moved.
        """
        config = self.config
        image, warped, flow = rendered.image.float(), rendered.warped.float(), rendered.flow.float()
        terms = {
            "reconstruction": F.l1_loss(image, wanted),
            "warp": F.l1_loss(warped, wanted),
            "smoothness": flow.diff(dim=2).abs().mean() + flow.diff(dim=3).abs().mean(),
        }
        if self.vgg is not None:
            # Of the moved portrait as well, which tells the flow where a feature has gone.
            terms["perceptual"] = (self.vgg(image, wanted) + self.vgg(warped, wanted)).mean()
        total = sum(getattr(config, name) * value for name, value in terms.items())
        return torch.as_tensor(total), {name: float(value.detach()) for name, value in terms.items()}


class RendererStage(Stage):
    """Random pairs of pictures; every tenth picture is only ever looked at in validation."""

    name = "renderer"

    def __init__(
        self, module: FlowRenderer, film: Film, config: RendererConfig, loss: RendererLoss, device: torch.device
    ) -> None:
        self.module, self.film, self.settings, self.device = module.to(device), film, config.stage, device
        index = torch.arange(len(film))
        self.seen, self.held_out = index[index % HELD_OUT != HELD_OUT // 2], index[HELD_OUT // 2 :: HELD_OUT]
        self.order = Order(len(self.seen), zlib.crc32(f"{config.seed}/{self.name}".encode()))
        self.pair_loss = loss

    def batches(self, generator: torch.Generator, step: int, parts: int) -> list[Tensor]:
        """Pairs [b, 2] of picture numbers: portrait, wanted."""
        wanted = self.seen[self.order.take(step * self.settings.clips, self.settings.clips)]
        portrait = self.seen[torch.randint(len(self.seen), (len(wanted),), generator=generator)]
        return list(torch.stack([portrait, wanted], 1).chunk(parts))

    def loss(self, batch: Tensor) -> tuple[Tensor, dict[str, float]]:
        portrait, wanted = (self.film.batch(index).to(self.device) for index in batch.unbind(1))
        rendered = self.module(portrait, self.film.windows[batch[:, 1]].to(self.device))
        with torch.autocast(self.device.type, enabled=False):
            return self.pair_loss(rendered, wanted)

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Held-out pictures made from the first one: mean absolute difference, also of the warp and of no motion."""
        first = self.film.batch(self.seen[:1]).to(self.device)
        sums = torch.zeros(3)
        for part in self.held_out.split(PORTION):
            portrait = first.expand(len(part), -1, -1, -1)
            wanted = self.film.batch(part).to(self.device)
            made = module(portrait, self.film.windows[part].to(self.device))
            for place, image in enumerate((made.image, made.warped, portrait)):
                sums[place] += float((image - wanted).abs().mean()) * len(part)
        names = ("validation_picture", "validation_warp", "validation_still")
        return dict(zip(names, (sums / len(self.held_out)).tolist(), strict=True))


def train_renderer(
    config: RendererConfig, progress: Progress | None = None, film: Film | None = None
) -> RendererReport:
    """Train or fine-tune the learned renderer, or go on with a run that stopped; writes `renderer.safetensors`.

    film: pictures and motion at hand, in place of reading `config.video`. With the released widths (`base` 64) the
    file loads wherever DreamTalk's `renderer.pt` does. Runs under torchrun as `train` does.
    Raises InputError for a video, motion or weights that cannot be used, or a folder with another run.
    """
    if config.precision == "float16" and not config.device.startswith("cuda"):
        raise InputError("float16 training needs a GPU; use bfloat16 or float32 on a CPU")
    with joined(as_device(config.device)) as (ranks, device):
        if config.stage.clips % (config.accumulate * ranks.count):
            raise InputError(f"{config.stage.clips} pairs a step cannot be cut into equal parts; choose another number")
        module, notes = _starting_renderer(config)
        vgg = None if config.vgg is None else Lpips.load(config.vgg, "vgg").to(device)
        notes += [NO_VGG] if vgg is None else []
        film = film or read_film(config.video, config.motion, config.size)
        journal = Journal(config, progress, ranks)
        stage = RendererStage(module, film, config, RendererLoss(config, vgg), device)
        try:
            averaged = run_stage(stage, config, journal, ranks)
        finally:
            journal.close()
        checkpoint = journal.folder / "renderer.safetensors"
        if ranks.first:
            _save(averaged, checkpoint, config)
        ranks.wait()
        rows = [row for row in journal.rows(stage.name) if "validation_picture" in row]
        measures = {name: value for name, value in rows[-1].items() if name.startswith("validation")}
        return RendererReport(checkpoint, journal.plot([stage.name]), measures, tuple(notes), ranks.first)


def _starting_renderer(config: RendererConfig) -> tuple[FlowRenderer, list[str]]:
    if config.start is None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            size = FlowSize(config.base, DESCRIPTOR * config.base // RELEASED)
            return FlowRenderer(size), [
                "started from random weights, which takes days of many people's videos to be good"
            ]
    if config.base != RELEASED:
        raise InputError(f"released weights have base {RELEASED}, got {config.base}; leave it as it is")
    return load_renderer(config.start), [f"started from {config.start}"]


def _save(module: nn.Module, path: Path, config: RendererConfig) -> None:
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    with atomic(path) as part:
        save_file(state, part, {"format": "pt", "dreamtalk": "renderer", "record": json.dumps(asdict(config))})

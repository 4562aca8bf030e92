"""The loop that every stage runs in: optimiser, schedule, moving average, log, and resume to the bit."""

from __future__ import annotations

import copy
import math
import time
import zlib
from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from .config import StageConfig, TrainingConfig
from .journal import Journal


class Stage(ABC):
    """What is trained and how: a module, its trainable parameters and the loss of one step."""

    name: str
    settings: StageConfig
    module: nn.Module
    """Everything the stage changes, buffers included; what the average is taken of."""

    @abstractmethod
    def loss(self, generator: torch.Generator) -> tuple[Tensor, dict[str, float]]:
        """The loss of a random batch and what to log; all choices come from `generator`."""

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Measures of `module` (the averaged weights, in evaluation mode) on held-out voices."""
        return {}


def run_stage(stage: Stage, config: TrainingConfig, journal: Journal) -> nn.Module:
    """Train to the end, or on from where a run stopped; returns the averaged module in evaluation mode.

    Each step draws from its own generator, seeded by run, stage and step, so a resumed run repeats
    exactly what an uninterrupted one does.
    """
    module, steps = stage.module, stage.settings.steps
    cycle = math.ceil(steps / stage.settings.cycles)
    optimiser = _optimiser(stage, config)
    averaged = copy.deepcopy(module)
    first = _restore(stage, optimiser, averaged, journal)
    started = time.monotonic()
    for step in range(first, steps):
        if step and step % cycle == 0:
            optimiser = _optimiser(stage, config)
        for group in optimiser.param_groups:
            group["lr"] = stage.settings.rate * _schedule(step % cycle, cycle, config.warm_up)
        values = _step(stage, config, step, optimiser)
        _average(averaged, module, min(config.average, (1 + step) / (10 + step)))
        done = step + 1
        if done % 20 == 0 or done == steps:
            journal.log(stage.name, done, values)
            journal.progress(stage.name, done, steps, (time.monotonic() - started) / (done - first) * (steps - done))
        if done % config.save_every == 0 or done == steps:
            averaged.eval()
            with torch.no_grad():
                measures = stage.validate(averaged)
            if measures:
                journal.log(stage.name, done, measures)
            _keep(stage, done, optimiser, averaged, journal)
    return averaged.eval()


def _optimiser(stage: Stage, config: TrainingConfig) -> torch.optim.Optimizer:
    return torch.optim.AdamW(stage.module.parameters(), lr=stage.settings.rate, weight_decay=config.weight_decay)


def _step(stage: Stage, config: TrainingConfig, step: int, optimiser: torch.optim.Optimizer) -> dict[str, float]:
    seed = zlib.crc32(f"{config.seed}/{stage.name}/{step}".encode())
    # Dropout reads torch's own generator; it is seeded for this step and then put back.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        stage.module.train()
        loss, values = stage.loss(torch.Generator().manual_seed(seed))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
    norm = nn.utils.clip_grad_norm_(stage.module.parameters(), config.clip_norm)
    if torch.isfinite(norm):  # one bad batch must not spoil the weights
        optimiser.step()
    return {"loss": float(loss.detach()), **values}


def _schedule(step: int, steps: int, warm_up: int) -> float:
    """Share of the peak rate: linear warm-up, then a cosine to 2 %."""
    rise = min(1.0, (step + 1) / max(1, warm_up))
    return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / max(1, steps))))


@torch.no_grad()
def _average(averaged: nn.Module, module: nn.Module, decay: float) -> None:
    """averaged = decay * averaged + (1 - decay) * module; buffers are copied."""
    for mean, value in zip(averaged.parameters(), module.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
    for mean, value in zip(averaged.buffers(), module.buffers(), strict=True):
        mean.copy_(value)


def _keep(stage: Stage, step: int, optimiser: torch.optim.Optimizer, averaged: nn.Module, journal: Journal) -> None:
    state = {"step": step, "module": stage.module.state_dict(), "averaged": averaged.state_dict()}
    if step < stage.settings.steps:
        state["optimiser"] = optimiser.state_dict()
    journal.save(stage.name, state)


def _restore(stage: Stage, optimiser: torch.optim.Optimizer, averaged: nn.Module, journal: Journal) -> int:
    """Load the last state, if any; returns the steps already done."""
    state = journal.load(stage.name)
    if state is None:
        return 0
    stage.module.load_state_dict(state["module"])
    averaged.load_state_dict(state["averaged"])
    if "optimiser" in state:
        optimiser.load_state_dict(state["optimiser"])
    journal.rewind(stage.name, state["step"])
    return state["step"]

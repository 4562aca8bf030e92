"""The loop that every stage runs in: precision, accumulation, ranks, moving average, early stopping, exact resume."""

from __future__ import annotations

import copy
import math
import time
import zlib
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..errors import InputError
from ..sparsity import abnormal_batches, begin_step, guard_averages, kept_fractions, share_averages
from .config import RunConfig, StageConfig
from .journal import Journal
from .ranks import ALONE, Ranks
from .state import restore, snapshot
from .stopping import Stopping

LOG_EVERY = 20
"""Steps between two lines of the log."""


class Stage(ABC):
    """What is trained and how: a module, its trainable parameters and the loss of one step."""

    name: str
    settings: StageConfig
    module: nn.Module
    """Everything the stage changes, buffers included; what the average is taken of."""
    device = torch.device("cpu")
    watched: str | None = None
    """The measure of `validate` that early stopping watches; higher is better. None: the stage runs to its end."""
    patience = 0
    least_gain = 0.0

    def groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Parameters that learn, with their peak rates."""
        return [(list(self.module.parameters()), self.settings.rate)]

    def batches(self, generator: torch.Generator, step: int, parts: int) -> list[Any]:
        """The random batch of `step` in equal parts, each an argument for `loss`; all choices come from generator.

        Stages that cannot be divided hand the generator itself over as their only part.
        """
        if parts != 1:
            raise InputError(f"the stage {self.name} trains in one process without accumulation")
        return [generator]

    @abstractmethod
    def loss(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        """The loss of a part of a batch, and what to log."""

    def validate(self, module: nn.Module) -> dict[str, float]:
        """Measures of `module` (the averaged weights, in evaluation mode) on held-out voices."""
        return {}


def run_stage(stage: Stage, config: RunConfig, journal: Journal, ranks: Ranks = ALONE) -> nn.Module:
    """Train to the end, or on from where a run stopped; returns the averaged module in evaluation mode.

    With early stopping these are the averaged weights of the best validation. Each step draws from its own generator,
    seeded by run, stage and step, and the order of the data follows from the step as well: so a resumed run repeats
    exactly what an uninterrupted one does, and the saved step is the state of every generator and of the sampler.
    """
    return _Run(stage, config, journal, ranks).run()


class _Loss(nn.Module):
    """The stage's loss as the forward pass of a module, which is what DDP wraps."""

    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.module, self._stage = stage.module, stage

    def forward(self, batch: Any) -> tuple[Tensor, dict[str, float]]:
        return self._stage.loss(batch)


class _Run:
    """One stage under way."""

    def __init__(self, stage: Stage, config: RunConfig, journal: Journal, ranks: Ranks) -> None:
        self.stage, self.config, self.journal, self.ranks = stage, config, journal, ranks
        self.steps = stage.settings.steps
        self.cycle = math.ceil(self.steps / stage.settings.cycles)
        guard_averages(stage.module, config.outlier_limit)
        self.averaged = copy.deepcopy(stage.module)
        self.optimiser = self._new_optimiser()
        self.scaler = torch.amp.GradScaler(stage.device.type, enabled=config.precision == "float16")
        self.stopping = Stopping(stage.patience, stage.least_gain)
        self.step = 0
        self.skipped = 0
        self._restore()
        share_averages(stage.module, ranks.thresholds)
        self.loss: nn.Module = _Loss(stage)
        if ranks.count > 1:
            # Some presets hold parameters that a pass does not reach: an alphabet nobody reads, a dead branch.
            self.loss = DistributedDataParallel(self.loss, broadcast_buffers=False, find_unused_parameters=True)

    def run(self) -> nn.Module:
        first, started = self.step, time.monotonic()
        while self.step < self.steps and not self.stopping.stopped:
            if self.step and self.step % self.cycle == 0:
                self.optimiser = self._new_optimiser()
            values = self._train_step()
            self.step += 1
            last = self.step == self.steps
            if self.step % LOG_EVERY == 0 or last:
                self._log(values)
                left = (time.monotonic() - started) / (self.step - first) * (self.steps - self.step)
                self.journal.progress(self.stage.name, self.step, self.steps, left)
            if self.step % self.config.save_every == 0 or last:
                self._validate()
                self._keep()
        self.stopping.take_best(self.averaged)
        share_averages(self.stage.module, None)
        for module in (self.stage.module, self.averaged):
            guard_averages(module, None)
        return self.averaged.eval()

    def _new_optimiser(self) -> torch.optim.Optimizer:
        groups = [{"params": parameters, "lr": rate, "peak": rate} for parameters, rate in self.stage.groups()]
        return torch.optim.AdamW(groups, weight_decay=self.config.weight_decay)

    def _train_step(self) -> dict[str, float]:
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * _schedule(self.step % self.cycle, self.cycle, self.config.warm_up)
        values = self._gradients()
        self.scaler.unscale_(self.optimiser)
        parameters = [p for group in self.optimiser.param_groups for p in group["params"]]
        norm = nn.utils.clip_grad_norm_(parameters, self.config.clip_norm)
        if self.scaler.is_enabled() or torch.isfinite(norm):  # one bad batch must not spoil the weights
            self.scaler.step(self.optimiser)  # a scaler looks for infinities itself
        else:
            self.skipped += 1
        self.scaler.update()
        _average(self.averaged, self.stage.module, min(self.config.average, (1 + self.step) / (10 + self.step)))
        return values

    def _gradients(self) -> dict[str, float]:
        """Gradients of the step's batch, averaged over its parts; returns the loss and its terms."""
        stage, parts = self.stage, self.config.accumulate
        seed = zlib.crc32(f"{self.config.seed}/{stage.name}/{self.step}".encode())
        batches = stage.batches(torch.Generator().manual_seed(seed), self.step, parts * self.ranks.count)
        stage.module.train()
        if parts > 1:
            begin_step(stage.module)
        self.optimiser.zero_grad(set_to_none=True)
        found = []
        # Dropout reads torch's own generators; they are seeded for each part and then put back.
        with torch.random.fork_rng(devices=[stage.device] if stage.device.type == "cuda" else []):
            for part in range(parts):
                index = self.ranks.rank * parts + part
                torch.manual_seed(seed + index)
                with self._last_or_apart(part == parts - 1):
                    found.append(self._backward(batches[index], parts))
        return {name: sum(values[name] for values in found) / parts for name in found[0]}

    def _backward(self, batch: Any, parts: int) -> dict[str, float]:
        precision, device = self.config.precision, self.stage.device.type
        with torch.autocast(device, getattr(torch, precision), enabled=precision != "float32"):
            loss, values = self.loss(batch)
        self.scaler.scale(loss / parts).backward()
        return {"loss": float(loss.detach()), **values}

    def _last_or_apart(self, last: bool) -> AbstractContextManager[None]:
        """Ranks exchange gradients once a step, with its last part."""
        ddp = isinstance(self.loss, DistributedDataParallel)
        return self.loss.no_sync() if ddp and not last else nullcontext()

    def _log(self, values: dict[str, float]) -> None:
        values = self.ranks.mean(values, self.stage.device)
        module = self.stage.module
        values |= {f"kept/{name}": kept for name, kept in kept_fractions(module).items()}
        values |= {f"abnormal/{name}": float(count) for name, count in abnormal_batches(module).items()}
        if self.skipped:
            values["skipped_steps"] = float(self.skipped)
        self.journal.log(self.stage.name, self.step, values)

    def _validate(self) -> None:
        """Measures by the first rank; all ranks learn the one that decides whether to stop."""
        measures: dict[str, float] = {}
        if self.ranks.first:
            self.averaged.eval()
            with torch.no_grad():
                measures = self.stage.validate(self.averaged)
            if measures:
                self.journal.log(self.stage.name, self.step, measures)
        if self.stage.watched:
            quality = self.ranks.from_first(measures.get(self.stage.watched, 0.0), self.stage.device)
            self.stopping.see(quality, self.averaged)

    def _keep(self) -> None:
        done = self.step == self.steps or self.stopping.stopped
        state = {
            "step": self.step,
            "clips_seen": self.step * self.stage.settings.clips,
            "skipped": self.skipped,
            "module": snapshot(self.stage.module),
            "averaged": snapshot(self.averaged),
            "stopping": self.stopping.state(),
            "optimiser": None if done else self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        self.journal.save(self.stage.name, state)
        self.ranks.wait()

    def _restore(self) -> None:
        """Go on from the last state, if there is one."""
        self.ranks.wait()
        state = self.journal.load(self.stage.name)
        if state is None:
            return
        self.step, self.skipped = state["step"], state["skipped"]
        restore(self.stage.module, state["module"])
        restore(self.averaged, state["averaged"])
        self.stopping.restore(state["stopping"])
        if state["optimiser"] is not None:
            self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
        self.journal.rewind(self.stage.name, self.step)


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

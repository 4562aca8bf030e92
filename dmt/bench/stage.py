"""One stage of the pipeline to be measured: the plain form, the exact one, and the faster that is not exact."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from . import convolutions, timing
from .case import WrongOutput
from .timing import Timing

PATHS = ("plain", "exact", "fast")
"""plain: every network called as it is written; exact: work shared and moved, equal to rounding; fast: 16 bits."""


@dataclass(frozen=True)
class Stage:
    """video: seconds of video that one call makes. runs: by path; a stage may lack some. check: raises WrongOutput, and
    returns facts that go with the times."""

    pipeline: str
    name: str
    video: float
    runs: dict[str, Callable[[], object]]
    check: Callable[[], dict[str, object]] = dict


@dataclass(frozen=True)
class StageRow:
    """A measured stage; times of one call in microseconds, by path. gflop, peak_bytes: of one call, by path."""

    pipeline: str
    name: str
    video: float
    times: dict[str, Timing]
    gflop: dict[str, float]
    peak_bytes: dict[str, int | None]
    facts: dict[str, object] = field(default_factory=dict)

    def seconds(self, path: str) -> float:
        """Of work per second of video, on the given path or the nearest less daring one that the stage has."""
        if path not in self.times:
            there = [p for p in PATHS[: PATHS.index(path)] if p in self.times]
            path = there[-1]
        return self.times[path].p50 / 1e6 / self.video

    def to_json(self) -> dict[str, object]:
        return {**asdict(self), "seconds_per_second": {path: self.seconds(path) for path in self.times}}

    @classmethod
    def from_json(cls, data: dict) -> StageRow:
        data = {key: value for key, value in data.items() if key != "seconds_per_second"}
        return cls(**{**data, "times": {path: Timing(**t) for path, t in data["times"].items()}})


def measure(stage: Stage, rounds: int = 3, device: str = "cpu") -> StageRow:
    """Check, count FLOPs and memory, then time the paths in turn. Raises WrongOutput."""
    with torch.no_grad():  # in inference mode the counter cannot look into parametrised layers
        gflop = {path: counted(run) for path, run in stage.runs.items() if not path.startswith("fast")}
    with torch.inference_mode():
        facts = stage.check()
        peak = {path: peak_resident(run, device) for path, run in stage.runs.items()}
        times = timing.compare(stage.runs, 0, device=device, fewest=rounds)
    return StageRow(stage.pipeline, stage.name, stage.video, times, gflop, peak, facts)


def differs(name: str, got: torch.Tensor, expected: torch.Tensor, limit: float) -> float:
    """The largest difference; WrongOutput where it is above `limit` or not a number."""
    error = (got - expected).abs().max().item()
    if not error <= limit:
        raise WrongOutput(f"{name} differs from its plain form by {error:.2e}, above {limit:.0e}; it is not timed")
    return error


def counted(run: Callable[[], object]) -> float:
    """10^9 floating point operations of one call, as torch counts them (a product and a sum are two)."""
    ours = {torch.ops.dmt_kernels.tile_conv2d: convolutions.counted}
    with FlopCounterMode(display=False, custom_mapping=ours) as counter:
        run()
    return counter.get_total_flops() / 1e9


def peak_resident(run: Callable[[], object], device: str = "cpu") -> int | None:
    """Bytes by which a call raises this process's resident memory at most (allocated memory, on a GPU); None where the
    system does not say (it is Linux that lets the mark be set back)."""
    if device == "cuda":
        from .case import peak_allocated

        return peak_allocated(run, device)
    try:
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)  # what earlier calls left free would hide what this one needs
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        run()
        return max(0, _status("VmHWM") - before)
    except OSError:
        return None


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))

"""One thing to be measured: candidates for the same result, what the result must be, and how much work it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from . import timing
from .timing import Timing


class WrongOutput(AssertionError):
    """A candidate's result is not what it must be; it is not timed."""


@dataclass(frozen=True)
class Work:
    """Of one call. nominal: FLOPs as if nothing were skipped, a product and a sum being two; executed: FLOPs that
    live elements need; moved: bytes, each operand read once and each result written once; None for a whole network."""

    nominal: int
    executed: int
    moved: int | None
    copied: int | None = None
    """Bytes that the candidate called limit moves."""


@dataclass(frozen=True)
class Candidate:
    """One way to the result. role: ours, dense (a baseline, the fastest of which counts), other, or limit (moves the
    bytes and does nothing else). read: what `run` returns -> the tensors to be checked; None: not comparable."""

    name: str
    role: str
    run: Callable[[], object]
    read: Callable[[object], tuple[Tensor, ...]] | None = lambda out: out if isinstance(out, tuple) else (out,)


@dataclass(frozen=True)
class Case:
    """A line of a table. zeros: share that was asked for, live: share of elements that are live."""

    op: str
    leg: str
    shape: tuple[int, int]
    """Rows and width of x."""
    zeros: float
    live: float
    dtype: str
    work: Work
    candidates: tuple[Candidate, ...]
    expected: tuple[Tensor, ...]
    rtol: float = 1e-4
    atol: float = 2e-3
    device: str = "cpu"


@dataclass(frozen=True)
class Row:
    """A measured case; every time is of one call, in microseconds."""

    op: str
    leg: str
    rows: int
    width: int
    zeros: float
    live: float
    dtype: str
    device: str
    isa: str | None
    threads: int
    nominal_flop: int
    executed_flop: int
    moved_bytes: int | None
    copied_bytes: int | None
    times: dict[str, Timing]
    roles: dict[str, str]
    peak_bytes: dict[str, int] = field(default_factory=dict)
    """What ours and the best dense allocate at once, beyond their operands."""

    def best(self, role: str) -> str | None:
        """The fastest candidate of a role, None where there is none."""
        names = [name for name, of in self.roles.items() if of == role]
        return min(names, key=lambda name: self.times[name].p50, default=None)

    def us(self, role: str) -> float | None:
        """Median of the fastest candidate of a role."""
        name = self.best(role)
        return None if name is None else self.times[name].p50

    @property
    def speedup(self) -> float | None:
        """Best dense over best of ours."""
        dense, ours = self.us("dense"), self.us("ours")
        return None if dense is None or ours is None else dense / ours

    @property
    def gflops(self) -> float:
        """10^9 executed FLOPs a second."""
        return self.executed_flop / self.us("ours") / 1e3

    @property
    def gbps(self) -> float | None:
        """10^9 bytes a second."""
        return None if self.moved_bytes is None else self.moved_bytes / self.us("ours") / 1e3

    def share_of_peak(self, gflops: float | None) -> float | None:
        """Of what the machine can do: bytes a second over those of a copy timed in turn with it, else FLOPs a second
        over `gflops`, the best large product's."""
        if self.copied_bytes and self.us("limit"):
            return self.gbps / (self.copied_bytes / self.us("limit") / 1e3)
        return self.gflops / gflops if gflops else None

    def to_json(self, gflops: float | None = None) -> dict[str, object]:
        """Fields, and what follows from them."""
        derived = {
            "best_dense": self.best("dense"),
            "speedup": self.speedup,
            "gflops": self.gflops,
            "gbps": self.gbps,
            "share_of_peak": self.share_of_peak(gflops),
        }
        return {**asdict(self), "derived": derived}

    @classmethod
    def from_json(cls, data: dict) -> Row:
        data = {key: value for key, value in data.items() if key != "derived"}
        return cls(**{**data, "times": {name: Timing(**t) for name, t in data["times"].items()}})


def check(case: Case) -> None:
    """Right before fast: every comparable candidate against the expected result. Raises WrongOutput."""
    for candidate in case.candidates:
        if candidate.read is None:
            continue
        got = candidate.read(candidate.run())
        for number, (a, b) in enumerate(zip(got, case.expected, strict=True)):
            try:
                torch.testing.assert_close(a.detach().float(), b.float(), rtol=case.rtol, atol=case.atol)
            except AssertionError as error:
                what = f"{case.op} {case.leg} {case.shape} at {case.zeros:.0%} zeros, {candidate.name}, result {number}"
                raise WrongOutput(f"{what} is wrong and is not timed: {error}") from None


def measure(case: Case, budget: float = 0.3) -> Row:
    """Check, then time all candidates in turn. Raises WrongOutput."""
    check(case)
    times = timing.compare({c.name: c.run for c in case.candidates}, budget, device=case.device)
    roles = {c.name: c.role for c in case.candidates}
    row = Row(
        case.op,
        case.leg,
        *case.shape,
        case.zeros,
        case.live,
        case.dtype,
        case.device,
        _isa(case.device),
        torch.get_num_threads(),
        case.work.nominal,
        case.work.executed,
        case.work.moved,
        case.work.copied,
        times,
        roles,
    )
    runs = {c.name: c.run for c in case.candidates}
    for name in filter(None, (row.best("ours"), row.best("dense"))):
        row.peak_bytes[name] = peak_allocated(runs[name], case.device)
    return row


def _isa(device: str) -> str | None:
    from dmt_kernels import backends

    return backends().isa if device == "cpu" else None


def peak_allocated(run: Callable[[], object], device: str = "cpu") -> int:
    """The most bytes that torch's allocator has out at once during a call, beyond what was out before."""
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    return highest([e.nbytes() for e in _memory_events(recorded)])


def _memory_events(recorded: profile) -> list:
    events = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    return sorted(events, key=lambda e: e.start_ns())


def highest(changes: list[int]) -> int:
    """The largest running sum of allocations (above 0) and releases (below)."""
    total = peak = 0
    for change in changes:
        total += change
        peak = max(peak, total)
    return peak

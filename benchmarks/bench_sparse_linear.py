"""`sparse_linear` on the CPU against the best dense products, by share of zeros: y, dX and dW apart and together.

    pytest benchmarks/bench_sparse_linear.py         three shapes, pytest-benchmark's own table; under 3 minutes
    python benchmarks/bench_sparse_linear.py         all seven shapes, one table; some minutes
        [--quick] [--threads 1] [--impl sparse|auto] [--json FILE]

Dense is, for each of y, dX and dW, the faster of PyTorch's product (F.linear, matmul) and oneDNN's
(`mkldnn._linear_pointwise`), on x masked beforehand. Every result is checked against the reference before it is timed.
All candidates take turns within a process, and a figure is the median of its rounds. One thread is timed by its own
processor time, so that other load on the machine disturbs less; several threads by the wall clock.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import dmt_kernels
from dmt_kernels import pack_mask
from dmt_kernels.ops.sparse_linear import reference

SHAPES = ((64, 256), (256, 512), (1024, 256), (1024, 512), (1024, 1024), (4096, 512), (4096, 1024))
QUICK = ((64, 256), (1024, 512), (4096, 512))
ZEROS = (0.0, 0.3, 0.5, 0.7, 0.9, 0.95)
LEGS = ("y", "dX", "dW")
ROUTES = {"auto": 0, "dense": 1, "sparse": 2}
OPS = torch.ops.dmt_kernels


def machine() -> dict[str, object]:
    """What a figure is worth nothing without."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    processor = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "unknown")
    return {"processor": processor, "threads": torch.get_num_threads(), "torch": torch.__version__}


@dataclass(frozen=True)
class Problem:
    """Operands of one shape: x [M, K] with `zeros` masked, weight [N, K], grad [M, N]; K = N."""

    x: Tensor
    masked: Tensor
    bits: Tensor
    weight: Tensor
    bias: Tensor
    grad: Tensor


def problem(rows: int, width: int, zeros: float) -> Problem:
    g = torch.Generator().manual_seed(0)
    mask = torch.rand(rows, width, generator=g) >= zeros
    x, weight = torch.randn(rows, width, generator=g), torch.randn(width, width, generator=g)
    bias, grad = torch.randn(width, generator=g), torch.randn(rows, width, generator=g)
    return Problem(x, torch.where(mask, x, 0), pack_mask(mask), weight, bias, grad)


def onednn(left: Tensor, right: Tensor, bias: Tensor | None = None) -> Tensor:
    return torch.ops.mkldnn._linear_pointwise(left, right, bias, "none", [], "")


def dense_candidates(p: Problem) -> dict[str, tuple[Callable[[], Tensor], ...]]:
    return {
        "y": (lambda: F.linear(p.masked, p.weight, p.bias), lambda: onednn(p.masked, p.weight, p.bias)),
        "dX": (lambda: p.grad @ p.weight, lambda: onednn(p.grad, p.weight.t())),
        "dW": (lambda: p.grad.t() @ p.masked, lambda: onednn(p.grad.t(), p.masked.t())),
    }


def ours(p: Problem, impl: str) -> dict[str, Callable[[], Tensor]]:
    route = ROUTES[impl]
    return {
        "y": lambda: OPS.sparse_linear(p.x, p.bits, p.weight, p.bias, 0, route),
        "dX": lambda: OPS.sparse_linear_grad_input(p.grad, p.bits, p.weight, 0, route),
        "dW": lambda: OPS.sparse_linear_grad_weight(p.grad, p.x, p.bits, 0, route),
    }


def check(p: Problem, impl: str) -> None:
    """Right before fast: against the reference, at the tolerance of float32 sums of this length."""
    expected = {
        "y": reference.sparse_linear(p.x, p.bits, p.weight, p.bias),
        "dX": reference.grad_input(p.grad, p.bits, p.weight),
        "dW": reference.grad_weight(p.grad, p.x, p.bits),
    }
    for leg, run in ours(p, impl).items():
        torch.testing.assert_close(run(), expected[leg], rtol=1e-4, atol=2e-3)


def medians(candidates: dict[str, Callable[[], Tensor]], rounds: int) -> dict[str, float]:
    """Microseconds of each candidate; all of them take turns, `rounds` times."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    spent: dict[str, list[float]] = {name: [] for name in candidates}
    for i in range(rounds + 1):
        for name, run in candidates.items():
            start = clock()
            run()
            if i:  # the first round warms up
                spent[name].append(clock() - start)
    return {name: statistics.median(times) * 1e6 for name, times in spent.items()}


@dataclass(frozen=True)
class Row:
    """One line of the table; times in microseconds, medians."""

    rows: int
    width: int
    zeros: float
    dense: dict[str, float]
    sparse: dict[str, float]
    ratio: float
    """Dense over ours, y + dX + dW."""
    gflops: float
    """10^9 executed multiplications and additions a second (live elements only), y + dX + dW."""


def measure(rows: int, width: int, zeros: float, impl: str = "sparse") -> Row:
    p = problem(rows, width, zeros)
    check(p, impl)
    work = rows * width * width
    candidates = {f"{leg} dense {i}": f for leg, fs in dense_candidates(p).items() for i, f in enumerate(fs)}
    candidates |= {f"{leg} ours": f for leg, f in ours(p, impl).items()}
    times = medians(candidates, max(5, min(60, 1_500_000_000 // work)))
    dense = {leg: min(times[f"{leg} dense 0"], times[f"{leg} dense 1"]) for leg in LEGS}
    sparse = {leg: times[f"{leg} ours"] for leg in LEGS}
    total = sum(sparse.values())
    executed = 6 * work * (1 - zeros)
    return Row(rows, width, zeros, dense, sparse, sum(dense.values()) / total, executed / total / 1e3)


def conditions() -> str:
    return f"{', '.join(f'{k} {v}' for k, v in machine().items())}, kernels {dmt_kernels.backends().isa}, float32"


def table(measured: list[Row]) -> str:
    lines = [
        "| M | K = N | zeros | dense y / dX / dW, us | ours, us | y | dX | dW | **all** | GFLOP/s executed |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in measured:
        times = [" / ".join(f"{t[leg]:.0f}" for leg in LEGS) for t in (r.dense, r.sparse)]
        legs = " | ".join(f"{r.dense[leg] / r.sparse[leg]:.2f}" for leg in LEGS)
        shape = f"| {r.rows} | {r.width} | {r.zeros:.0%}"
        lines.append(f"{shape} | {' | '.join(times)} | {legs} | **{r.ratio:.2f}** | {r.gflops:.0f} |")
    return "\n".join(lines)


@pytest.mark.parametrize("zeros", [0.5, 0.7, 0.9, 0.95])
@pytest.mark.parametrize("rows,width", QUICK)
def test_speed(benchmark, one_thread, rows: int, width: int, zeros: float) -> None:
    p = problem(rows, width, zeros)
    check(p, "sparse")
    row = measure(rows, width, zeros)
    benchmark.extra_info.update(asdict(row), conditions=conditions())
    legs = ours(p, "sparse").values()
    benchmark.pedantic(lambda: [leg() for leg in legs], rounds=5, warmup_rounds=1)
    print(f"\n{rows} x {width}, {zeros:.0%} zeros: {row.ratio:.2f} times the best dense")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three shapes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--impl", choices=("sparse", "auto"), default="sparse")
    parser.add_argument("--zeros", type=float, nargs="+", default=ZEROS)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    measured = []
    for rows, width in QUICK if arguments.quick else SHAPES:
        measured += [measure(rows, width, zeros, arguments.impl) for zeros in arguments.zeros]
        print(
            f"{rows} x {width}: "
            + ", ".join(f"{r.zeros:.0%} {r.ratio:.2f}" for r in measured[-len(arguments.zeros) :]),
            flush=True,
        )
    print(f"\n{conditions()}, impl={arguments.impl}\n\n{table(measured)}")
    if arguments.json:
        arguments.json.write_text(
            json.dumps(dict(conditions=conditions(), rows=[asdict(r) for r in measured]), indent=1)
        )


if __name__ == "__main__":
    main()

"""How this project times things: alternatives in turn, in one process, medians of rounds, output checked first."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping

import pytest
import torch

Alternatives = Mapping[str, Callable[[], object]]


def interleaved(alternatives: Alternatives, rounds: int = 5) -> dict[str, list[float]]:
    """Seconds of each alternative in every round; one warm-up, then all of them in turn."""
    times: dict[str, list[float]] = {name: [] for name in alternatives}
    for number in range(rounds + 1):
        for name, run in alternatives.items():
            start = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:
                times[name].append(time.perf_counter() - start)
    return times


def machine() -> dict[str, object]:
    """What a figure is worth nothing without."""
    processor = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as info:
            processor = next(line.split(":")[1].strip() for line in info if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return {
        "processor": processor,
        "capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


@pytest.fixture
def one_thread():
    """Run with a single thread, and give the others back."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def compare(benchmark, request):
    """compare({name: function}, rounds): time in turn, print a table against the first, keep it in the JSON.

    The first alternative is the baseline, the last is what pytest-benchmark records.
    """

    def run(alternatives: Alternatives, rounds: int = 5, **facts: object) -> dict[str, float]:
        times = interleaved(alternatives, rounds)
        medians = {name: statistics.median(t) for name, t in times.items()}
        baseline = next(iter(medians.values()))
        print(f"\n{request.node.name}  " + "  ".join(f"{k}={v}" for k, v in facts.items()))
        for name, t in times.items():
            t = sorted(t)
            low, high = t[int(0.2 * (len(t) - 1))], t[round(0.8 * (len(t) - 1))]
            print(
                f"  {name:<28}{medians[name] * 1e3:10.3f} ms  (p20 {low * 1e3:.3f}, p80 {high * 1e3:.3f})"
                f"  {baseline / medians[name]:6.2f}x"
            )
        benchmark.extra_info.update({"medians": medians, "machine": machine(), **facts})
        benchmark.pedantic(list(alternatives.values())[-1], rounds=1, iterations=1)
        return medians

    return run

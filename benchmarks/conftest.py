"""Options, shapes and the `record` fixture of `pytest benchmarks/`. What is measured, and how, is in `dmt.bench`."""

from __future__ import annotations

from dataclasses import asdict

import pytest
import torch

from dmt.bench import machine, timing
from dmt.bench.case import Case, Row, measure
from dmt.bench.kernels import QUICK, SHAPES


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="every shape and share of zeros; some ten minutes")
    parser.addoption("--threads", type=int, default=1, help="threads of torch (default 1)")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    full = metafunc.config.getoption("--full")
    if "shape" in metafunc.fixturenames:
        shapes = SHAPES if full else QUICK
        metafunc.parametrize("shape", shapes, ids=[f"{rows}x{width}" for rows, width in shapes])
    if "zeros" in metafunc.fixturenames:
        metafunc.parametrize("zeros", (0.0, 0.3, 0.5, 0.7, 0.9, 0.95) if full else (0.5, 0.9))


@pytest.fixture(scope="session", autouse=True)
def settings(request: pytest.FixtureRequest) -> None:
    timing.keep_freed_memory()
    torch.set_num_threads(request.config.getoption("--threads"))


@pytest.fixture
def record(benchmark, request: pytest.FixtureRequest):
    """record(case): check the outputs, time all candidates in turn, print them, keep the row in pytest-benchmark's
    JSON, whose own figure is that of the first candidate of ours."""

    def run(case: Case) -> Row:
        row = measure(case, 0.3 if request.config.getoption("--full") else 0.1)
        print(f"\n{request.node.name}")
        for name, t in row.times.items():
            print(f"  {name:<28}{t.p50:12.1f} us  (p20 {t.p20:.1f}, p80 {t.p80:.1f}; {t.rounds} rounds)")
        benchmark.extra_info.update(asdict(row), conditions=machine.conditions())
        benchmark.pedantic(next(c.run for c in case.candidates if c.role == "ours"), rounds=3, iterations=1)
        return row

    return run

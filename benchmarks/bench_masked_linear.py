"""`masked_linear` against a dense product without a threshold, and with an eager one; forward and backward.

pytest benchmarks/bench_masked_linear.py -s [--full] [--threads 2]
"""

from __future__ import annotations

import pytest

from dmt.bench import products


@pytest.mark.parametrize("leg", ["forward", "backward"])
def test_masked_linear(record, shape: tuple[int, int], zeros: float, leg: str) -> None:
    record(next(case for case in products.masked_linear_cases(*shape, zeros) if case.leg == leg))

"""`pack_mask` and `unpack_mask` against numpy's packbits.

pytest benchmarks/bench_mask_bits.py -s [--full] [--threads 2]
"""

from __future__ import annotations

import pytest

from dmt.bench import bits


@pytest.mark.parametrize("op", ["pack_mask", "unpack_mask"])
def test_mask_bits(record, shape: tuple[int, int], op: str) -> None:
    record(next(case for case in bits.cases(*shape, 0.5) if case.op == op))

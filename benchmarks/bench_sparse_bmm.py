"""`sparse_bmm` against torch.bmm and embedding_bag.

pytest benchmarks/bench_sparse_bmm.py -s [--full] [--threads 2]
"""

from __future__ import annotations

import pytest

from dmt.bench import batched


@pytest.mark.parametrize("rows", batched.ROWS)
@pytest.mark.parametrize(("width", "outputs"), batched.SIZES)
def test_sparse_bmm(record, rows: int, width: int, outputs: int, zeros: float) -> None:
    record(batched.case(rows, width, outputs, zeros))

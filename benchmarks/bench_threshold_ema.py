"""`threshold_ema` against eager PyTorch and the best torch.compile form, forward and backward, with and without eq. 10.

pytest benchmarks/bench_threshold_ema.py -s [--full] [--threads 2]
"""

from __future__ import annotations

import pytest

from dmt.bench import threshold


@pytest.mark.parametrize("information", [False, True], ids=["", "eq10"])
@pytest.mark.parametrize("leg", ["forward", "backward"])
def test_threshold_ema(record, shape: tuple[int, int], leg: str, information: bool) -> None:
    make = threshold.forward_case if leg == "forward" else threshold.backward_case
    row = record(make(*shape, 0.7, information=information))
    best = row.best("dense")
    print(
        f"  {row.times['eager'].p50 / row.us('ours'):.2f}x eager, {row.speedup:.2f}x {best}, "
        f"{row.us('ours') / row.us('limit'):.2f} of a copy's time"
    )

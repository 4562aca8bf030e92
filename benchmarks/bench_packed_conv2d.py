"""`packed_conv2d` against PyTorch's convolutions (oneDNN).

pytest benchmarks/bench_packed_conv2d.py -s [--full] [--threads 2]
"""

from __future__ import annotations

import pytest

from dmt.bench import convolutions
from dmt_kernels import tiles


@pytest.mark.skipif(not tiles(), reason="a processor without matrix tiles (AMX)")
@pytest.mark.parametrize("precision", convolutions.TOLERANCES)
@pytest.mark.parametrize("layer", convolutions.LAYERS, ids=lambda layer: f"{layer.name}, {layer.channels}")
def test_packed_conv2d(record, layer, precision: str) -> None:
    record(convolutions.case(layer, precision))

"""`sparse_linear` under masks by column, row and tile against dense products: y, dX and dW.

    pytest benchmarks/bench_structured_linear.py -s [--full] [--threads 2]
    python benchmarks/bench_structured_linear.py [FILE.md]    tables, y + dX + dW, one thread; about two minutes

Dense is, for each leg, the faster of PyTorch's product and oneDNN's, on x masked beforehand.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from dmt.bench import machine, products, structured, timing
from dmt.bench.case import Row, measure
from dmt_kernels.structure import STRUCTURES

SHAPES = ((256, 512), (1024, 512), (1024, 1024), (4096, 512))
ZEROS = (0.0, 0.3, 0.5, 0.8)
DTYPES = ("float32", "bfloat16")


@pytest.mark.parametrize("leg", products.LEGS)
@pytest.mark.parametrize("structure", STRUCTURES[1:])
@pytest.mark.parametrize("dtype", DTYPES)
def test_structured_linear(record, dtype: str, structure: str, shape: tuple[int, int], zeros: float, leg: str) -> None:
    record(next(case for case in structured.cases(structure, *shape, zeros, dtype) if case.leg == leg))


def ratio(rows: list[Row], name: str) -> float:
    """Dense over a candidate, y, dX and dW together."""
    return sum(row.us("dense") for row in rows) / sum(row.times[name].p50 for row in rows)


def table(dtype: str) -> str:
    lines = [
        f"## {dtype}",
        "",
        "| structure | M | K = N | zeros | dense y / dX / dW, us | auto, us | **dense over auto** | over by element |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in STRUCTURES[1:]:
        for shape in SHAPES:
            for zeros in ZEROS:
                rows = [measure(case, 0.15) for case in structured.cases(name, *shape, zeros, dtype)]
                dense = " / ".join(f"{row.us('dense'):.0f}" for row in rows)
                auto = " / ".join(f"{row.times['auto'].p50:.0f}" for row in rows)
                ratios = ratio(rows, "auto"), ratio(rows, "by element")
                cells = name, *shape, f"{zeros:.0%}", dense, auto, f"**{ratios[0]:.2f}x**", f"{ratios[1]:.2f}x"
                lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def main() -> None:
    timing.keep_freed_memory()
    torch.set_num_threads(1)
    conditions = ", ".join(f"{key} {value}" for key, value in machine.conditions().items())
    text = "\n\n".join([*(table(dtype) for dtype in DTYPES), conditions]) + "\n"
    print(text)
    if len(sys.argv) > 1:
        title = (
            "# Masks by column, row and tile on the CPU\n\nMade by `python benchmarks/bench_structured_linear.py`.\n"
        )
        Path(sys.argv[1]).write_text(f"{title}Dense is the faster of MKL and oneDNN, on x masked beforehand.\n\n{text}")


if __name__ == "__main__":
    main()

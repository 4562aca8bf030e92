"""`sparse_linear` against the best dense products, axpy kernels and torch.sparse: y, dX and dW, and through autograd.

    pytest benchmarks/bench_sparse_linear.py -s [--full] [--threads 2]

Dense is, for each leg, the faster of PyTorch's product and oneDNN's, on x masked beforehand.
"""

from __future__ import annotations

import pytest

from dmt.bench import kernels, limited, products


@pytest.mark.parametrize("leg", [*products.LEGS, products.BOTH, products.AUTOGRAD])
@pytest.mark.parametrize("variant", ["float32", "bfloat16", "avx2"])
def test_sparse_linear(record, variant: str, shape: tuple[int, int], zeros: float, leg: str) -> None:
    dtype = "bfloat16" if variant == "bfloat16" else "float32"
    elsewhere = variant == "float32" and zeros >= kernels.ELSEWHERE_FROM
    made = products.sparse_linear_cases(*shape, zeros, dtype, elsewhere=elsewhere, autograd=True)
    case = next(case for case in made if case.leg == leg)
    if variant != "avx2":
        record(case)
        return
    if not limited.active():
        given = " ".join(f"{name}={value}" for name, value in limited.LIBRARIES.items())
        pytest.skip(f"dense products would use better than AVX2: set {given}, or run dmt bench kernels --section avx2")
    with kernels.instruction_set("avx2") as there:
        if not there:
            pytest.skip("no compiled kernels with AVX2, or a processor without")
        record(case)

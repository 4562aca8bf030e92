"""What tests of several operators share."""

from contextlib import contextmanager

import pytest


@contextmanager
def instruction_set(name):
    """The compiled CPU kernels, held to an instruction set; skips where they, or the processor, lack it."""
    module = pytest.importorskip("dmt_kernels._C", reason="the CPU kernels are not built")
    before = module.isa()
    try:
        module.force_isa(name)
    except ValueError as error:
        pytest.skip(str(error))
    try:
        yield module
    finally:
        module.force_isa(before)


@pytest.fixture(params=["amx", "avx512", "avx2", "baseline"])
def isa(request):
    """The instruction set that the CPU kernels use, each in turn."""
    with instruction_set(request.param):
        yield request.param

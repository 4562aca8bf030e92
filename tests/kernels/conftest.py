"""What tests of several operators share."""

import pytest


@pytest.fixture(params=["amx", "avx512", "avx2", "baseline"])
def isa(request):
    """The instruction set that the CPU kernels use; skipped where they are not built or the processor lacks it."""
    module = pytest.importorskip("dmt_kernels._C", reason="the CPU kernels are not built")
    before = module.isa()
    try:
        module.force_isa(request.param)
    except ValueError as error:
        pytest.skip(str(error))
    yield request.param
    module.force_isa(before)

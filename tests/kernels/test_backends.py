"""What was built is what is loaded and what runs.

DMT_EXPECT, for example "cpu cuda", names the compiled modules that this installation must have; a release sets it, so
that a package which fell back to its reference cannot pass.
"""

import os
import subprocess
import sys

import pytest
import torch

import dmt_kernels
from dmt_kernels import backends
from dmt_kernels.backends import calls

EXPECTED = os.environ.get("DMT_EXPECT", "").split()


@pytest.mark.parametrize("name", ["cpu", "cuda", "triton"])
def test_expected_is_loaded(name):
    backend = getattr(backends(), name)
    if name in EXPECTED:
        assert backend.loaded, backend.reason
    assert backend.reason


def test_expected_is_what_runs():
    if "cpu" not in EXPECTED:
        pytest.skip("DMT_EXPECT does not name cpu")
    x, before = torch.randn(4, 64), {name: calls(name) for name in ("threshold_ema", "pack_mask")}
    dmt_kernels.threshold_ema(x, torch.tensor(0.0), dmt_kernels.ema_state())
    dmt_kernels.pack_mask(x > 0)
    assert {name: calls(name) - count for name, count in before.items()} == {"threshold_ema": 1, "pack_mask": 1}


def test_report_names_what_runs():
    report = backends()
    assert report.on_cpu == ("compiled" if report.cpu.loaded else "reference")
    assert (report.isa is not None) == report.cpu.loaded
    assert report.on_cuda in ("compiled", "triton", "reference")
    assert "CPU tensors" in str(report)


def test_without_compiled_kernels_the_reference_says_so():
    hide = (
        "import importlib.util, warnings\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda n, *a: None if n.startswith('dmt_kernels._C') else find(n, *a)\n"
        "warnings.simplefilter('error')\n"
        "try:\n    import dmt_kernels\nexcept RuntimeWarning as w:\n    print(w)\n"
    )
    done = subprocess.run([sys.executable, "-c", hide], capture_output=True, text=True, check=False)
    assert "slow reference" in done.stdout, done.stderr


def test_unknown_instruction_set():
    if not backends().cpu.loaded:
        pytest.skip("no compiled CPU kernels")
    from dmt_kernels import _C

    with pytest.raises(ValueError, match="expected baseline, avx2, avx512 or amx"):
        _C.force_isa("mmx")

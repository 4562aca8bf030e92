"""CUDA C++ kernels without a GPU: their own source, compiled for the host, with a thread for each of a block's."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "cuda_on_host"
SOURCES = Path(__file__).parents[2] / "csrc"
COMPILER = shutil.which("c++")


def run_on_host(operator: str, program: str, folder: Path) -> str:
    """What `program`, which includes headers of csrc/`operator`, prints."""
    if COMPILER is None or not (SOURCES / operator).exists():
        pytest.skip("needs a C++ compiler and the source tree")
    shutil.copytree(SOURCES / operator, folder / operator)
    shutil.copy(HERE / "cuda_common.h", folder)  # the headers' ../cuda_common.h
    if (HERE / operator).exists():  # in place of headers of the same name
        shutil.copytree(HERE / operator, folder / operator, dirs_exist_ok=True)
    command = [COMPILER, "-std=c++20", "-O1", f"-I{folder}", f"-I{HERE}", str(HERE / program), "-pthread"]
    built = subprocess.run([*command, "-o", str(folder / "program")], capture_output=True, text=True, check=False)
    if "atomic_ref" in built.stderr or "<barrier>" in built.stderr or "c++20" in built.stderr:
        pytest.skip("the compiler has no C++20 library")
    assert built.returncode == 0, built.stderr[-3000:]
    done = subprocess.run([str(folder / "program")], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_float32_product(tmp_path):
    """y, dX and dW: odd and unaligned shapes, structured masks, and blocks that gather what is live."""
    assert run_on_host("sparse_linear", "product.cpp", tmp_path).startswith("checked ")


def test_sums_of_sizes(tmp_path):
    """The rule of mean |x|: every type, odd widths, gaps, places that are not aligned, what is not finite."""
    assert run_on_host("threshold_ema", "sums.cpp", tmp_path).strip() == "checked 21"


def test_threshold(tmp_path):
    """Forward and backward, with and without eq. 10: types, odd widths, gaps, runs of rows, a frozen mu, no rows."""
    assert run_on_host("threshold_ema", "threshold.cpp", tmp_path).strip() == "checked 21"


def test_hopper_product(tmp_path):
    """y and dX: rings that go round, masks of every kind, odd and small shapes; tiles come late and in any order, and
    products happen when they are waited for."""
    assert run_on_host("hopper", "hopper.cpp", tmp_path).strip() == "checked 195624"

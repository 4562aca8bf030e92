"""The CUDA C++ product without a GPU: its own source, compiled for the host, with a thread for each of a block's."""

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent / "cuda_on_host"
HEADER = Path(__file__).parents[2] / "csrc" / "sparse_linear" / "tile_product.cuh"
COMPILER = shutil.which("c++")


@pytest.mark.skipif(COMPILER is None or not HEADER.exists(), reason="needs a C++ compiler and the source tree")
def test_float32_product_on_the_host(tmp_path):
    """y, dX and dW: odd and unaligned shapes, structured masks, and blocks that gather what is live."""
    (tmp_path / "sparse_linear").mkdir()
    shutil.copy(HEADER, tmp_path / "sparse_linear")
    shutil.copy(HERE / "cuda_common.h", tmp_path)  # the header's ../cuda_common.h
    command = [COMPILER, "-std=c++20", "-O1", f"-I{tmp_path}", f"-I{HERE}", str(HERE / "product.cpp"), "-pthread"]
    built = subprocess.run([*command, "-o", str(tmp_path / "product")], capture_output=True, text=True, check=False)
    if "atomic_ref" in built.stderr or "<barrier>" in built.stderr or "c++20" in built.stderr:
        pytest.skip("the compiler has no C++20 library")
    assert built.returncode == 0, built.stderr[-3000:]
    done = subprocess.run([str(tmp_path / "product")], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0 and done.stdout.startswith("checked "), done.stdout + done.stderr

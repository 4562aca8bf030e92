"""The Triton kernels without a GPU: numbers in the interpreter, cubins for each architecture ahead of time."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
import torch

INTERPRETED = """
import torch
import triton.runtime.interpreter as interpreter

# Recent numpy refuses int() of the one-element arrays that the interpreter keeps its scalars in.
patch_tensor = interpreter._patch_lang_tensor
def patched(tensor, *args, **kwargs):
    patch_tensor(tensor, *args, **kwargs)
    tensor.__index__ = lambda self: int(self.handle.data.item())
interpreter._patch_lang_tensor = patched

from dmt_kernels.ops.mask_bits.reference import pack_mask
from dmt_kernels.ops.sparse_linear import reference, triton_kernels as kernels

def nan_filled(self, shape, dtype=None, device=None):
    shape = (shape,) if isinstance(shape, int) else shape
    dtype = dtype or self.dtype
    return torch.full(shape, float("nan") if dtype.is_floating_point else -1, dtype=dtype, device=device)
torch.Tensor.new_empty = nan_filled

checked = 0
torch.manual_seed(0)
for dtype, tolerance in ((torch.float32, 1e-5), (torch.float16, 2e-3)):
    for rows, columns, outputs in [(1, 1, 1), (33, 65, 63), (300, 70, 33), (0, 5, 6), (5, 0, 6), (5, 6, 0)]:
        for structure in (0, 3):
            mask = torch.rand(rows, columns) < 0.4
            if structure:
                mask[:, :64] = False
            bits = pack_mask(mask)
            x = torch.where(mask, torch.randn(rows, columns), float("nan")).to(dtype)
            weight, bias = torch.randn(outputs, columns).to(dtype), torch.randn(outputs).to(dtype)
            grad = torch.randn(rows, outputs).to(dtype)
            wide = [t.double() for t in (x, weight, bias, grad)]
            pairs = (
                (kernels.forward(x, bits, weight, bias, structure, 2),
                 reference.sparse_linear(wide[0], bits, wide[1], wide[2])),
                (kernels.grad_input(grad, bits, weight, structure, 2), reference.grad_input(wide[3], bits, wide[1])),
                (kernels.grad_weight(grad, x, bits, structure, 2), reference.grad_weight(wide[3], wide[0], bits)),
            )
            for got, expected in pairs:
                assert got.dtype == dtype
                torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=10 * tolerance)
                checked += 1
print("checked", checked)
"""


def test_numbers_in_the_interpreter():
    """float32 and float16; the interpreter multiplies bfloat16 as integers, so that type waits for a GPU."""
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env=os.environ | {"TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.strip() == "checked 72"


def signature(kernel, dtype, tile):
    """Argument types and constants of `kernel`, as the launchers pass them."""
    pointer = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}[dtype]
    constants = dict(HAS_BIAS=True, SKIP=False, PRECISION="ieee", BLOCK_M=tile.m, BLOCK_N=tile.n, BLOCK_K=tile.k)
    types = {}
    for name in kernel.arg_names:
        if name in constants:
            types[name] = "constexpr"
        elif name == "bits":
            types[name] = "*i32"
        else:
            types[name] = pointer if name in ("x", "weight", "bias", "y", "grad", "grad_x", "parts") else "i32"
    return types, {(kernel.arg_names.index(n),): v for n, v in constants.items() if n in kernel.arg_names}


@pytest.mark.parametrize("architecture", [80, 89, 90])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_ahead_of_time_without_spills(architecture, dtype, tmp_path):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from dmt_kernels.ops.sparse_linear import triton_kernels as kernels
    from dmt_kernels.ops.sparse_linear.tuning import tile_for

    tile = tile_for(torch.empty(0, dtype=dtype), 4096, 1024, 1024)
    for kernel, share in (
        (kernels.forward_kernel, tile),
        (kernels.grad_input_kernel, tile.transposed()),
        (kernels.grad_weight_kernel, tile.inner_rows()),
    ):
        types, constants = signature(kernel, dtype, share)
        # As at run time, where sizes and addresses that 16 divides are compiled for apart.
        aligned = {(i,): [["tt.divisibility", 16]] for i, t in enumerate(types.values()) if t != "constexpr"}
        made = triton.compile(
            ASTSource(kernel, types, constants, aligned),
            target=GPUTarget("cuda", architecture, 32),
            options=dict(num_warps=share.warps, num_stages=share.stages),
        )
        assert made.asm["cubin"]
        spills = spilled(made.asm["ptx"], tmp_path)
        assert spills == [0, 0], f"{kernel.fn.__name__} for sm_{architecture} spills {spills} bytes"
        assert made.metadata.shared <= {80: 163, 89: 99, 90: 227}[architecture] * 1024


def spilled(ptx: str, folder: Path) -> list[int]:
    """Bytes of spill stores and loads that ptxas reports for the text that the cubin was made from."""
    from triton.backends.nvidia.compiler import get_ptxas

    target = re.search(r"\.target (sm_\w+)", ptx).group(1)
    source = folder / "kernel.ptx"
    source.write_text(ptx)
    ptxas = get_ptxas(90)
    path = getattr(ptxas, "path", ptxas[0] if isinstance(ptxas, tuple) else ptxas)
    done = subprocess.run(
        [path, "-v", f"--gpu-name={target}", str(source), "-o", str(folder / "kernel.cubin")],
        capture_output=True,
        text=True,
        check=True,
    )
    stores, loads = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr).groups()
    return [int(stores), int(loads)]

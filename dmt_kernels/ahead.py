"""The GPU kernels compiled without a GPU: what they take of registers, shared memory and spills.

For tests and for `benchmarks/gpu_resources.py`; nothing here runs a kernel.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ARCHITECTURES = (80, 89, 90)
SHARED_LIMIT = {80: 163 * 1024, 89: 99 * 1024, 90: 227 * 1024}
"""Bytes of shared memory that one block may have."""
_POINTER = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}


@dataclass(frozen=True)
class Form:
    """A Triton kernel with everything that its machine code depends on."""

    kernel: Any
    label: str
    types: dict[str, str]
    """Of every argument: "*bf16", "i32", or "constexpr"."""
    constants: dict[str, Any]
    warps: int = 4
    stages: int = 3

    @property
    def name(self) -> str:
        return self.kernel.fn.__name__


@dataclass(frozen=True)
class Resources:
    """What ptxas reports of one kernel, and its text for the assembler."""

    registers: int
    spills: int
    """Bytes stored and loaded."""
    shared: int
    ptx: str = ""


def compile_triton(form: Form, architecture: int) -> Resources:
    """Machine code for sm_<architecture>. Sizes and addresses are taken to be multiples of 16, as they mostly are."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = form.kernel.arg_names
    places = {(names.index(name),): value for name, value in form.constants.items()}
    aligned = {(names.index(n),): [["tt.divisibility", 16]] for n, t in form.types.items() if t != "constexpr"}
    made = triton.compile(
        ASTSource(form.kernel, form.types, places, aligned),
        target=GPUTarget("cuda", architecture, 32),
        options=dict(num_warps=form.warps, num_stages=form.stages),
    )
    registers, spills = _assemble(made.asm["ptx"], architecture)
    return Resources(registers, spills, made.metadata.shared, made.asm["ptx"])


def _assemble(ptx: str, architecture: int) -> tuple[int, int]:
    from triton.backends.nvidia.compiler import get_ptxas

    ptxas = get_ptxas(architecture)
    target = re.search(r"\.target (sm_\w+)", ptx).group(1)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(ptx)
        command = [getattr(ptxas, "path", ptxas), "-v", f"--gpu-name={target}", source, "-o", f"{folder}/kernel.cubin"]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    stores, loads = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report).groups()
    return int(re.search(r"Used (\d+) registers", report).group(1)), int(stores) + int(loads)


def compile_cuda(source: Path, target: Path) -> str:
    """An object file of a CUDA source of this repository, for the architectures that its name asks for; what nvcc
    reports. RuntimeError, with the end of that, where it does not compile."""
    hopper = source.name.endswith("_sm90a_cuda.cu")
    command = ["nvcc", "-O3", "-std=c++17", "-DTORCH_TARGET_VERSION=0x020b000000000000", "-DUSE_CUDA", "--threads=0"]
    command += [f"-gencode=arch=compute_{a},code=sm_{a}" for a in (("90a",) if hopper else ARCHITECTURES)]
    command += ["-Xcompiler=-fPIC", f"-I{source.parents[1]}", "-isystem", str(Path(torch.__file__).parent / "include")]
    command += ["--resource-usage", "-c", str(source), "-o", str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"nvcc does not compile {source}: {done.stderr[-3000:]}")
    return done.stdout + done.stderr


def disassemble(made: Path) -> str:
    """The machine code in an object file, by the disassembler that comes with Triton."""
    import triton

    tool = triton.knobs.nvidia.cuobjdump.path
    return subprocess.run([tool, "-sass", str(made)], capture_output=True, text=True, check=True).stdout


# ---- forms ----


def _form(
    kernel: Any, label: str, pointers: dict[str, str], constants: dict[str, Any], warps: int, stages: int
) -> Form:
    constants = {n: v for n, v in constants.items() if n in kernel.arg_names}
    types = {n: "constexpr" if n in constants else pointers.get(n, "i32") for n in kernel.arg_names}
    return Form(kernel, label, types, constants, warps, stages)


def product_forms(architecture: int, dtype: torch.dtype, *, every: bool = True) -> Iterator[Form]:
    """y, dX and dW under every kind of mask, with every tile that the tuning table has for it; not `every`: with the
    largest alone."""
    from .ops.sparse_linear import triton_kernels as kernels
    from .ops.sparse_linear import tuning
    from .structure import COLUMN, ELEMENT, ROW, TILE

    operands = ("x", "weight", "bias", "y", "grad", "grad_x", "parts")
    pointers = dict.fromkeys(operands, _POINTER[dtype]) | dict.fromkeys(("bits", "order", "counts"), "*i32")
    kinds = {"element": (ELEMENT, 0), "row": (ROW, 1), "tile": (TILE, 2), "column": (COLUMN, 3)}
    sizes = ((64, 512), (1024, 512), (8192, 1024)) if every else ((8192, 1024),)
    for kernel, product in zip(kernels.KERNELS, ("y", "dX", "dW"), strict=True):
        for name, (structure, kind) in kinds.items():
            tiles = (tuning.tile_on(architecture, product, structure, dtype, *size) for size in sizes)
            for tile in dict.fromkeys(tiles):
                shape = dict(BLOCK_M=tile.m, BLOCK_N=tile.n, BLOCK_K=tile.k, GROUP=8, KIND=kind)
                constants = shape | dict(HAS_BIAS=True, PRECISION="ieee", stride_wk=1)
                label = f"by {name}, tile {tile.m} x {tile.n} x {tile.k}, {str(dtype).removeprefix('torch.')}"
                yield _form(kernel, label, pointers, constants, tile.warps, tile.stages)


def list_forms(dtype: torch.dtype) -> Iterator[Form]:
    """Lists of what is live, and the copies of live columns."""
    from .ops.sparse_linear import triton_lists as lists

    integers = ("bits", "flags", "union", "order", "counts", "rank")
    pointers = dict.fromkeys(integers, "*i32") | dict.fromkeys(("source", "target"), _POINTER[dtype])
    of_kernel = {
        "flags_kernel": ({"BY_ROW": True}, {"BY_ROW": False}),
        "union_kernel": ({},),
        "order_kernel": ({"FROM_BITS": True, "RANK": True}, {"FROM_BITS": False, "RANK": False}),
        "compact_kernel": ({"MASKED": True}, {"MASKED": False}),
        "expand_kernel": ({"MASKED": True, "RANKED": False}, {"MASKED": True, "RANKED": True}),
    }
    for kernel in lists.KERNELS:
        for flags in of_kernel[kernel.fn.__name__]:
            constants = flags | {"ROWS": lists.ROWS, "BLOCK": lists.BLOCK, "stride_column": 1}
            label = ", ".join(f"{name}={value}" for name, value in flags.items())
            yield _form(kernel, label, pointers, constants, 4, 3)


def threshold_forms(dtype: torch.dtype) -> Iterator[Form]:
    """The threshold by element, in its largest and its smallest form."""
    import triton.language as tl

    from .ops.threshold_ema import triton_kernels as kernels

    pointers = {
        "partial": "*fp64", "strips": "*fp64", "sums": "*fp64", "out": "*fp64", "to_zero": "*i32", "tickets": "*i32",
        "counts": "*i64", "bits": "*i64", "theta": "*fp32", "state": "*fp32", "next_state": "*fp32", "live": "*fp32",
        "divergence": "*fp32", "statistics": "*fp32", "grad_information": "*fp32", "grad_theta": "*fp32",
    }  # fmt: skip
    pointers |= dict.fromkeys(("x", "values", "grad", "grad_x"), _POINTER[dtype])
    small = {"ALPHA": 0.9, "UPDATE": False, "PER_FEATURE": False, "INFORMATION": False, "STORE": True, "GRAD": True}
    common = {"ROWS": kernels.TILE, "WORK": tl.float32, "ZEROS": 32, "BLOCK": kernels.SUM_BLOCK}
    large = small | {"UPDATE": True, "PER_FEATURE": True, "INFORMATION": True}
    for kernel in kernels.KERNELS:
        for label, constants in {"largest": large, "smallest": small}.items():
            yield _form(kernel, f"{label}, {str(dtype).removeprefix('torch.')}", pointers, constants | common, 4, 3)


def group_forms(dtype: torch.dtype) -> Iterator[Form]:
    """The sums of groups: columns, rows, tiles."""
    from .ops.threshold_groups import triton_kernels as kernels

    sums, add = kernels.KERNELS
    for keep, name in enumerate(("rows", "columns", "tiles")):
        constants = {"RUN": kernels.RUN if name == "columns" else 1, "KEEP": keep}
        yield _form(sums, name, {"x": _POINTER[dtype], "parts": "*fp64"}, constants, 4, 3)
    yield _form(add, "", {"parts": "*fp64", "out": "*fp64"}, {"BLOCK": 128}, 4, 3)

"""Registers, spills and shared memory of every GPU kernel, from the compilers: needs no GPU, and says nothing of speed.

python benchmarks/gpu_resources.py [FILE.md]    Triton for sm_80, sm_89, sm_90; CUDA C++ where nvcc is. Minutes.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import torch

from dmt_kernels import ahead

ROOT = Path(__file__).resolve().parents[1]
HEAD = """# What the GPU kernels take

Made by `python benchmarks/gpu_resources.py` with the compilers alone; [h200/goals.md](h200/goals.md) times sm_90.
Registers are of a thread; spills are bytes, stored and loaded; shared memory is of a block, without what a launch asks
for (the product for Hopper: up to 227 KB).
"""


def triton_lines(architecture: int) -> Iterator[str]:
    """A line for every kernel in every form that the tuning table holds."""
    forms = [
        *ahead.product_forms(architecture, torch.bfloat16),
        *ahead.product_forms(architecture, torch.float32, every=False),
        *ahead.list_forms(torch.bfloat16),
        *ahead.group_forms(torch.bfloat16),
        *ahead.threshold_forms(torch.bfloat16),
    ]
    for form in forms:
        made = ahead.compile_triton(form, architecture)
        cells = form.name, form.label, form.warps, form.stages, made.registers, made.spills, made.shared
        yield f"| {' | '.join(map(str, cells))} |"


def cuda_lines(source: Path) -> Iterator[str]:
    """A line for every kernel and architecture: the most that any of its instances takes."""
    entry = r"Compiling entry function '(\w+)' for 'sm_(\d+a?)'.*?(\d+) bytes spill stores, (\d+) bytes spill loads"
    used = r".*?Used (\d+) registers(?:[^\n]*?(\d+) bytes smem)?"
    of_kernel: dict[tuple[str, str], list[tuple[int, int, int]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        compiled = ahead.compile_cuda(source, Path(folder) / "kernels.o")
    for name, sm, stores, loads, registers, shared in re.findall(entry + used, compiled, re.DOTALL):
        kernel = re.search(r"\d(product|add_parts|[a-z_]*kernel)(?=[IEP])", name).group(1)
        of_kernel[kernel, sm].append((int(registers), int(stores) + int(loads), int(shared or 0)))
    for (kernel, sm), found in sorted(of_kernel.items()):
        registers, spills, shared = (max(column) for column in zip(*found, strict=True))
        yield f"| {source.parent.name} | {kernel} | sm_{sm} | {len(found)} | {registers} | {spills} | {shared} |"


def report() -> Iterator[str]:
    yield HEAD
    for architecture in ahead.ARCHITECTURES:
        yield f"## Triton, sm_{architecture}\n"
        yield "| kernel | form | warps | stages | registers | spills | shared memory |\n|---|---|---|---|---|---|---|"
        yield from triton_lines(architecture)
        yield ""
    if shutil.which("nvcc") is None:
        yield "CUDA C++: no nvcc on the path."
        return
    yield "## CUDA C++\n\n| operator | kernel | for | instances | registers | spills | shared memory |"
    yield "|---|---|---|---|---|---|---|"
    for source in sorted((ROOT / "csrc").glob("*/*_cuda.cu")):
        yield from cuda_lines(source)


def main() -> None:
    lines = []
    for line in report():
        print(line, flush=True)
        lines.append(line)
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

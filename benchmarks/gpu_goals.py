"""Every goal for the GPU kernels, measured against the strongest baselines: tables and JSON.

python benchmarks/gpu_goals.py FOLDER [--only threshold ...]    goals.json, .md, .png; a CUDA device, two minutes
python benchmarks/gpu_goals.py FOLDER --page RUN.json ...       the page alone, from earlier runs

Candidates take turns in one process; times are medians of GPU events, with L2 overwritten before each call, after
results were checked. A call's time has the host's share where the host is slower than the kernels; "in a graph" is
the same call captured and replayed, which leaves the kernels alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F

from dmt.bench import machine, products, structured, threshold, timing
from dmt.bench.case import Candidate, Case, Row, WrongOutput, measure
from dmt_kernels import masked_linear, threshold_ema

sys.path.insert(0, str(Path(__file__).parent))
from gpu_page import write

DEVICE = "cuda"
DTYPES = ("float32", "bfloat16")
THRESHOLD_SHAPES = ((64, 256), (1024, 512), (4096, 512), (4096, 1024), (16384, 1024), (65536, 1024))
COMPILED_SHAPES = ((64, 256), (4096, 512), (65536, 1024))
COMPILED = {"compiled by_mean", "compiled variances", "compiled gradients", "compiled gradients_information"}
"""One form of each kind, not the best of several as on the CPU: compiling all takes minutes."""
FUSED_SHAPES = ((64, 256), (1024, 256), (1024, 512), (4096, 512), (4096, 1024), (16384, 1024))
STRUCTURED_SHAPES = ((4096, 1024), (16384, 1024))
ELEMENT_SHAPES = ((1024, 256), (4096, 512), (4096, 1024))


def graphed(name: str, run: Callable[[], object]) -> Candidate:
    """`run` captured once and replayed."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return Candidate(f"{name}, graph", "graph", graph.replay, None)


def with_graphs(case: Case, *names: str) -> Case:
    chosen = {c.name: c.run for c in case.candidates if c.name in names}
    return replace(case, candidates=(*case.candidates, *(graphed(n, run) for n, run in chosen.items())))


def thresholds() -> Iterator[Case]:
    """Forward and backward, without and with eq. 10."""
    for dtype in DTYPES:
        for shape in THRESHOLD_SHAPES:
            torch._dynamo.reset()
            for case in threshold.cases(*shape, 0.5, DEVICE, dtype):
                wanted = COMPILED if shape in COMPILED_SHAPES else ()
                kept = [c for c in case.candidates if not c.name.startswith("compiled") or c.name in wanted]
                case = replace(case, candidates=tuple(kept))
                yield with_graphs(case, "ours", "eager") if shape[0] <= 1024 else case


def fused() -> Iterator[Case]:
    """`masked_linear` against the vendor's product of an x that is masked already, and torch.compile."""
    for dtype in DTYPES:
        for rows, width in FUSED_SHAPES:
            for case in products.masked_linear_cases(rows, width, 0.5, DEVICE, dtype):
                if case.leg == "forward":
                    case = replace(case, candidates=(*case.candidates, *_compiled(rows, width, dtype)))
                    case = with_graphs(case, "ours", "auto", "torch") if rows <= 4096 else case
                yield case


def _compiled(rows: int, width: int, dtype: str) -> list[Candidate]:
    if width > 512:
        return []
    torch._dynamo.reset()
    p = products.operands(rows, width, 0.0, dtype, DEVICE)
    x = threshold.values(rows, width, 0.5, DEVICE, dtype)
    theta = torch.logit(torch.tensor(threshold.SHARE, device=DEVICE))
    mu = x.abs().double().mean().float()

    def form(x, theta, mu, weight, bias):
        y, new = threshold.by_mean(x, theta, mu)
        return F.linear(y, weight, bias), new

    function = torch.compile(form, dynamic=False, fullgraph=True)
    return [Candidate("compiled", "compiled", lambda: function(x, theta, mu, p.weight, p.bias), None)]


def structures() -> Iterator[Case]:
    """Tiles, rows and columns in bfloat16."""
    for name in ("tile", "row", "column"):
        for shape in STRUCTURED_SHAPES:
            for zeros in (0.5, 0.8):
                for case in structured.cases(name, *shape, zeros, "bfloat16", DEVICE):
                    yield with_graphs(case, "ours", "by element", "torch")


def elements() -> Iterator[Case]:
    """Masks by element."""
    for dtype in DTYPES:
        for shape in ELEMENT_SHAPES:
            for zeros in (0.5, 0.9, 0.97):
                p = products.operands(*shape, zeros, dtype, DEVICE)
                for case in products.sparse_linear_cases(*shape, zeros, dtype, DEVICE):
                    yield with_graphs(_with_triton(case, p), "ours", "auto", "torch", "triton")


def _with_triton(case: Case, p: products.Operands) -> Case:
    """The same products in Triton, which the dispatcher takes where the compiled ones are absent."""
    from dmt_kernels.ops.sparse_linear import gpu

    run = {
        "y": lambda: gpu.forward(p.x, p.bits, p.weight, p.bias, 0, products.SPARSE),
        "dX": lambda: gpu.grad_input(p.grad, p.bits, p.weight, 0, products.SPARSE),
        "dW": lambda: gpu.grad_weight(p.grad, p.x, p.bits, 0, products.SPARSE),
    }[case.leg]
    return replace(case, candidates=(*case.candidates, Candidate("triton", "triton", run)))


def captured() -> dict[str, dict[str, float]]:
    """Microseconds of the operators of `threshold_ema` in graphs, by type and shape; frozen: mu stays."""
    each = ((dtype, shape) for dtype in DTYPES for shape in THRESHOLD_SHAPES)
    return {f"{dtype}, {shape[0]} x {shape[1]}": _captured(dtype, shape) for dtype, shape in each}


def _captured(dtype: str, shape: tuple[int, int]) -> dict[str, float]:
    ops = torch.ops.dmt_kernels
    x = torch.randn(shape, device=DEVICE).to(products.DTYPES[dtype])
    grad, target, one = torch.randn_like(x), torch.empty_like(x), torch.ones((), device=DEVICE)
    theta, state = torch.zeros((), device=DEVICE), torch.tensor([1.0, 1, 0, 0], device=DEVICE)
    statistics = ops.threshold_ema(x, theta, state, None, 0.9, True, True, True)[5]
    runs = {
        "copy": lambda: target.copy_(x),
        "forward": lambda: ops.threshold_ema_(x, theta, state, 0.9, True, False, True, False),
        "frozen": lambda: ops.threshold_ema_(x, theta, state, 0.9, False, False, True, False),
        "forward, eq. 10": lambda: ops.threshold_ema_(x, theta, state, 0.9, True, True, True, True),
        "backward": lambda: ops.threshold_ema_backward(grad, None, x, theta, state, statistics[:, :0]),
        "backward, eq. 10": lambda: ops.threshold_ema_backward(grad, one, x, theta, state, statistics),
    }
    replays = {name: graphed(name, run).run for name, run in runs.items()}
    return {name: t.p50 for name, t in timing.compare(replays, 0.04, device=DEVICE).items()}


SECTIONS = {"threshold": thresholds, "fused": fused, "structured": structures, "element": elements}


def line(row: Row) -> str:
    """One row for people: microseconds of every candidate."""
    times = "  ".join(f"{name} {t.p50:.1f}" for name, t in row.times.items())
    return f"{row.op} {row.leg} {row.rows}x{row.width} {row.dtype} {row.zeros:.0%}: {times}"


def saved_bytes() -> dict[str, float]:
    """Bytes per element of a bfloat16 x that a training step keeps for the backward pass."""
    x = torch.randn(4096, 1024, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
    theta = torch.zeros((), device=DEVICE, requires_grad=True)
    weight = torch.randn(64, 1024, device=DEVICE, dtype=torch.bfloat16, requires_grad=True)
    state, mu = torch.tensor([1.0, 1, 0, 0], device=DEVICE), torch.ones((), device=DEVICE)

    def eager() -> torch.Tensor:
        size = x.abs()
        mask = size > torch.sigmoid(theta) * mu
        return F.linear(x * mask, weight)

    kept = {}
    for name, run in {"ours": lambda: masked_linear(x, theta, state, weight)[0], "eager": eager}.items():
        sizes: dict[int, int] = {}

        def pack(t, sizes=sizes):
            sizes[t.data_ptr()] = t.numel() * t.element_size()
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            run()
        sizes.pop(weight.data_ptr(), None)
        kept[name] = sum(sizes.values()) / x.numel()
    return kept


def measured(sections: list[str]) -> dict[str, object]:
    """The content of the JSON file."""
    torch.manual_seed(0)
    threshold_ema(torch.randn(64, 64, device=DEVICE), torch.zeros((), device=DEVICE), torch.zeros(4, device=DEVICE))
    content = {
        "conditions": machine.conditions(),
        "ceilings": {
            "copy, 10^9 bytes/s": machine.peak_gbps(device=DEVICE),
            **{f"{d}, 10^9 FLOP/s": machine.peak_gflops(products.DTYPES[d], 8192, DEVICE) for d in DTYPES},
        },
        "saved_bytes_per_element": saved_bytes(),
    }
    if "threshold" in sections:
        content["captured"] = captured()
    print(content, flush=True)
    rows, wrong = [], []
    for case in (case for section in sections for case in SECTIONS[section]()):
        try:
            rows.append(measure(case, 0.05))
        except WrongOutput as error:
            wrong.append(" ".join(str(error).split()))
            print(f"WRONG {wrong[-1]}", flush=True)
            continue
        print(line(rows[-1]), flush=True)
    return {**content, "wrong": wrong, "rows": [row.to_json() for row in rows]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--page", nargs="+", type=Path, metavar="RUN.json", help="measure nothing")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.page:
        write([json.loads(file.read_text()) for file in options.page], options.folder)
        return
    if not torch.cuda.is_available():
        sys.exit("gpu_goals.py needs a CUDA device; none is visible to torch")
    content = measured(options.only)
    (options.folder / "goals.json").write_text(json.dumps(content, indent=1))
    write([content], options.folder)
    if content["wrong"]:
        sys.exit(f"{len(content['wrong'])} results were wrong and were not timed")


if __name__ == "__main__":
    main()

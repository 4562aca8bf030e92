"""The sweep behind `dmt bench kernels`: every operator and two whole networks, by share of zeros."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from dmt_kernels import backends

from ..errors import InputError
from . import batched, bits, convolutions, limited, machine, network, products, threshold, timing
from .case import Case, Row, measure

SHAPES = ((64, 256), (256, 512), (1024, 256), (1024, 512), (1024, 1024), (4096, 512), (4096, 1024))
"""Rows of x, and its width; weights are square."""
QUICK = ((64, 256), (1024, 512), (4096, 512))
ZEROS = (0.0, 0.3, 0.5, 0.7, 0.9, 0.95)
ELSEWHERE_FROM = 0.5
"""Below this share of zeros nobody would use a sparse format; AVX2 is measured from there on, too."""
ELSEWHERE_TO = 4096 * 512
"""Elements of x up to which other sparse products are measured: beyond, they take minutes."""
SECTIONS = (
    "threshold_ema",
    "mask_bits",
    "sparse_linear",
    "masked_linear",
    "sparse_bmm",
    "conv2d",
    "bfloat16",
    "avx2",
    "networks",
)


@dataclass(frozen=True)
class Plan:
    """What to measure. budget: seconds for the rounds of one case; sections: of SECTIONS."""

    shapes: tuple[tuple[int, int], ...]
    zeros: tuple[float, ...] = ZEROS
    budget: float = 0.3
    sections: tuple[str, ...] = SECTIONS
    device: str = "cpu"
    frames: int = network.FRAMES

    def __post_init__(self) -> None:
        if unknown := sorted(set(self.sections) - set(SECTIONS)):
            raise InputError(f"unknown section {', '.join(unknown)}: expected some of {', '.join(SECTIONS)}")
        for rows, width in self.shapes:
            if rows < 1 or width < 64 or width % 64:
                raise InputError(f"a shape is rows x width, the width a multiple of 64; got {rows} x {width}")
        if not all(0 <= share < 1 for share in self.zeros):
            raise InputError(f"shares of zeros lie in 0 .. 1, 1 excluded, got {self.zeros}")


def quick(device: str = "cpu") -> Plan:
    """The short form: few shapes, little time each."""
    return Plan(QUICK, budget=0.1, device=device, frames=network.FRAMES // 2)


def full(device: str = "cpu") -> Plan:
    """Every shape of the tables."""
    return Plan(SHAPES, budget=0.2, device=device)


@contextmanager
def instruction_set(name: str) -> Iterator[bool]:
    """Run the compiled CPU kernels with instruction set `name`; False where they or this processor have it not."""
    if backends().on_cpu != "compiled":
        yield False
        return
    from dmt_kernels import _C

    before = _C.isa()
    try:
        _C.force_isa(name)
    except ValueError:
        yield False
        return
    try:
        yield True
    finally:
        _C.force_isa(before)


def cases(plan: Plan, section: str) -> Iterator[Case]:
    """Of one section, made as they are asked for: the operands of large ones do not fit beside one another."""
    of_own_sizes = {"networks": _networks, "sparse_bmm": _batched, "conv2d": _convolutions}
    if section in of_own_sizes:
        yield from of_own_sizes[section](plan)
        return
    if section == "avx2" and plan.device != "cpu":
        return
    for rows, width in plan.shapes:
        if section == "threshold_ema":
            torch._dynamo.reset()  # compiled forms are made for one shape
        for zeros in plan.zeros if section != "mask_bits" else plan.zeros[:1]:  # to bits, a mask is as good as another
            if section == "avx2" and zeros < ELSEWHERE_FROM:
                continue
            yield from _of_shape(plan, section, rows, width, zeros)


def _of_shape(plan: Plan, section: str, rows: int, width: int, zeros: float) -> Iterator[Case]:
    device = plan.device
    if section == "sparse_linear":
        lone = device == "cpu" and torch.get_num_threads() == 1
        elsewhere = lone and zeros >= ELSEWHERE_FROM and rows * width <= ELSEWHERE_TO
        yield from products.sparse_linear_cases(rows, width, zeros, device=device, elsewhere=elsewhere, autograd=True)
        return
    make: dict[str, Callable[..., Iterator[Case]]] = {
        "threshold_ema": threshold.cases,
        "mask_bits": bits.cases,
        "masked_linear": products.masked_linear_cases,
        "avx2": products.sparse_linear_cases,
    }
    if section == "bfloat16":
        yield from products.sparse_linear_cases(rows, width, zeros, "bfloat16", device)
    else:
        yield from make[section](rows, width, zeros, device=device)


def _batched(plan: Plan) -> Iterator[Case]:
    for zeros in plan.zeros:
        yield from batched.cases(zeros, plan.device)


def _convolutions(plan: Plan) -> Iterator[Case]:
    if plan.device == "cpu":
        yield from convolutions.cases()


def _networks(plan: Plan) -> Iterator[Case]:
    for zeros in plan.zeros:
        for decoder in ("dynamic", "plain"):
            yield from network.feed_forward_cases(zeros, decoder, plan.frames, device=plan.device)
        yield network.step_case(zeros, plan.frames, device=plan.device)
        for decoder in ("dynamic", "plain"):
            yield network.step_case(zeros, plan.frames, device=plan.device, decoder=decoder, reach="decoders")


def run(plan: Plan, report: Callable[[str, Row], None] = lambda section, row: None) -> list[Row]:
    """Measure all of it; `report` hears of each row. Raises `WrongOutput` before a wrong result is timed."""
    timing.keep_freed_memory()
    measured = []
    for section in plan.sections:
        rows = limited.each(with_avx2, plan) if section == "avx2" else _measured(plan, section)
        for row in rows:
            measured.append(row)
            report(section, row)
    return measured


def _measured(plan: Plan, section: str) -> Iterator[Row]:
    for case in cases(plan, section):
        yield measure(case, plan.budget)


def with_avx2(plan: Plan) -> Iterator[Row]:
    """The rows of the section "avx2"; none where it cannot be used. For `limited.each`."""
    with instruction_set("avx2") as there:
        if there:
            yield from _measured(plan, "avx2")


def peaks(device: str = "cpu", sections: tuple[str, ...] = SECTIONS) -> dict[str, float]:
    """What this machine does at best, measured now: 10^9 FLOPs a second by dtype, 10^9 bytes a second of memory."""
    size = 8192 if device == "cuda" else 1024
    found = {name: machine.peak_gflops(dtype, size, device) for name, dtype in products.DTYPES.items()}
    if device == "cpu" and "avx2" in sections:
        found["float32, avx2"] = next(limited.each(peak_with_avx2))
    return {**found, "memory": machine.peak_gbps(device=device)}


def peak_with_avx2() -> Iterator[float]:
    """For `limited.each`."""
    yield machine.peak_gflops()

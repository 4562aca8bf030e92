"""Results as tables: the same for the terminal and for Markdown. Numbers come from measured rows alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .case import Row
from .products import AUTOGRAD, BOTH, LEGS
from .results import Results

Key = tuple[int, int]
"""Rows of x, and its width."""


@dataclass(frozen=True)
class Table:
    """A title, a heading, lines of text, and a remark below."""

    title: str
    columns: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        rows = ["| " + " | ".join(line) + " |" for line in (self.columns, *self.lines)]
        rows.insert(1, "|" + "---|" * len(self.columns))
        return "\n".join([f"### {self.title}", "", *([self.note, ""] if self.note else []), *rows])


def break_even(zeros: Sequence[float], ratios: Sequence[float]) -> float | None:
    """The least share of zeros from which dense / sparse stays at 1 or above, by straight lines between what was
    measured; None where it ends below. Shares ascend."""
    if not ratios or ratios[-1] < 1:
        return None
    last = max((i for i, ratio in enumerate(ratios) if ratio < 1), default=None)
    if last is None:
        return zeros[0]
    (a, b), (low, high) = zeros[last : last + 2], ratios[last : last + 2]
    return a + (b - a) * (1 - low) / (high - low)


def _crossing(zeros: Sequence[float], ratios: Sequence[float | None]) -> float | None:
    """`break_even` of what was measured."""
    there = [(z, r) for z, r in zip(zeros, ratios, strict=True) if r is not None]
    return break_even([z for z, _ in there], [r for _, r in there])


def together(rows: Sequence[Row], role: str, name: str | None = None) -> float | None:
    """Microseconds of several legs one after the other, each by its fastest candidate of `role` (or by `name`)."""
    times = [row.us(role) if name is None else getattr(row.times.get(name), "p50", None) for row in rows]
    return None if None in times or not times else sum(times)


def ratio(above: float | None, below: float | None) -> float | None:
    """above / below; None where either is."""
    return None if above is None or below is None else above / below


def x(value: float | None) -> str:
    """A ratio as text."""
    return "" if value is None else f"{value:.2f}"


def share(value: float | None) -> str:
    """A share as a percentage."""
    return "" if value is None else f"{value:.0%}"


def grouped(rows: Sequence[Row]) -> dict[tuple[Key, float], list[Row]]:
    """Legs of one shape and share of zeros."""
    found: dict[tuple[Key, float], list[Row]] = {}
    for row in rows:
        found.setdefault(((row.rows, row.width), row.zeros), []).append(row)
    return found


def trained(legs: Sequence[Row]) -> list[Row]:
    """The rows that make up y, dX and dW as training asks for them: dX and dW in one call, where that was measured."""
    at_once = any(leg.leg == BOTH for leg in legs)
    return [leg for leg in legs if leg.leg in (("y", BOTH) if at_once else LEGS)]


def products(results: Results, dtype: str, isa: str | None) -> list[Row]:
    """The rows of `sparse_linear` for one dtype and instruction set."""
    return [r for r in results.where(op="sparse_linear", dtype=dtype) if r.isa == isa]


def variants(results: Results) -> list[tuple[str, str | None]]:
    """(dtype, instruction set) of `sparse_linear`, in their order."""
    return list(dict.fromkeys((r.dtype, r.isa) for r in results.where(op="sparse_linear")))


def named(variant: tuple[str, str | None]) -> str:
    """A variant as a heading."""
    return ", ".join(part for part in variant if part)


def summary(results: Results) -> Table:
    """The least of all shapes, by share of zeros, and where sparse begins to pay."""
    zeros = sorted({r.zeros for r in results.where(op="sparse_linear")})
    lines = []
    for variant in variants(results):
        groups = {key: trained(legs) for key, legs in grouped(products(results, *variant)).items()}
        for role in ("ours", "auto"):
            least = [
                min((together(g, "dense") / together(g, role) for (_, z), g in groups.items() if z == at), default=None)
                for at in zeros
            ]
            name = "always sparse" if role == "ours" else "auto"
            crossing = share(_crossing(zeros, least)) if role == "ours" else ""
            lines.append((named(variant), name, *map(x, least), crossing))
    note = (
        "Dense over ours, y + dX + dW (our dX and dW in one call), the least of all shapes; dense is the better of "
        "PyTorch's product and oneDNN's. "
        "avx2: both sides in a process whose libraries use AVX2 at most."
    )
    return Table(
        "sparse_linear: times faster than the best dense",
        ("", "route", *(f"{z:.0%} zeros" for z in zeros), "pays from"),
        tuple(lines),
        note,
    )


def sparse_linear(results: Results, variant: tuple[str, str | None]) -> Table:
    """Every shape: microseconds of each leg, ratios, and FLOPs a second."""
    lines = []
    operators = (*LEGS, BOTH)
    for ((rows, width), zeros), legs in grouped(products(results, *variant)).items():
        whole, found = trained(legs), {leg.leg: leg for leg in legs}
        dense, ours, auto = (together(whole, role) for role in ("dense", "ours", "auto"))
        gflops = sum(leg.executed_flop for leg in whole) / ours / 1e3
        peak = results.peak(*variant)
        seen = [leg for leg in legs if leg.leg == AUTOGRAD]
        lines.append(
            (
                str(rows),
                str(width),
                f"{zeros:.0%}",
                *(_times([leg for leg in legs if leg.leg in operators], role) for role in ("dense", "ours")),
                *(x(found[leg].speedup if leg in found else None) for leg in operators),
                f"**{x(ratio(dense, ours))}**",
                x(ratio(dense, auto)),
                x(ratio(together(seen, "dense"), together(seen, "auto"))),
                f"{gflops:.0f}",
                share(ratio(gflops, peak)),
            )
        )
    columns = ("M", "K = N", "zeros", f"dense {' / '.join(operators)}, us", "ours, us", *operators, "**all**", "auto")
    columns = (*columns, "auto, through autograd", "GFLOP/s executed", "of peak")
    return Table(f"sparse_linear, {named(variant)}", columns, tuple(lines))


def _times(legs: Sequence[Row], role: str) -> str:
    """Microseconds of each leg."""
    return " / ".join(f"{leg.us(role):.0f}" for leg in legs)


def elsewhere(results: Results) -> Table:
    """Against kernels for sparse operands; only rows that were measured against them."""
    names = ("axpy", "torch.sparse", "torch.sparse, converted")
    lines = []
    for ((rows, width), zeros), legs in grouped(results.where(op="sparse_linear")).items():
        legs = [leg for leg in legs if "torch.sparse" in leg.times]
        if legs:
            ours = together(legs, "ours")
            ratios = [ratio(together(legs, "other", name), ours) for name in names]
            y = ratio(together(legs[:1], "other", "axpy"), together(legs[:1], "ours"))
            lines.append((str(rows), str(width), f"{zeros:.0%}", x(y), *map(x, ratios)))
    columns = ("M", "K = N", "zeros", "axpy, y alone", "axpy", "torch.sparse CSR", "CSR made in each call")
    note = "Theirs over ours, y + dX + dW, float32, one thread. Axpy kernels get x as compressed rows, made beforehand."
    return Table("sparse_linear against other sparse products", columns, tuple(lines), note)


def threshold(results: Results) -> Table:
    """By shape: the median over all shares of zeros, of which the time is independent."""
    lines = []
    groups: dict[tuple[str, Key], list[Row]] = {}
    for row in results.where(op="threshold_ema"):
        groups.setdefault((row.leg, (row.rows, row.width)), []).append(row)
    for (leg, (rows, width)), same in groups.items():
        row = sorted(same, key=lambda r: r.speedup)[len(same) // 2]
        lines.append(
            (
                leg,
                f"{rows} x {width}",
                f"{row.us('ours'):.1f}",
                x(ratio(row.us("eager"), row.us("ours"))),
                x(row.speedup),
                (row.best("dense") or "").removeprefix("compiled "),
                x(ratio(row.us("ours"), row.us("limit"))),
                f"{row.gbps:.1f}",
            )
        )
    columns = ("", "x", "ours, us", "times eager", "times best compiled", "that form", "of a copy's time", "GB/s")
    note = (
        "Compiled forms return no mask; ours returns it packed, and the live share. A copy is y.copy_(x) of the same x."
    )
    return Table("threshold_ema", columns, tuple(lines), note)


def simple(results: Results, op: str, title: str) -> Table:
    """A line per row: ours, auto where there is one, and the best dense."""
    lines = []
    for row in results.where(op=op):
        lines.append(
            (
                row.leg,
                f"{row.rows} x {row.width}",
                f"{row.zeros:.0%}",
                f"{row.us('ours'):.1f}",
                f"{row.us('dense'):.1f} ({row.best('dense')})" if row.us("dense") else "",
                x(row.speedup),
                x(ratio(row.us("dense"), row.us("auto"))),
                x(ratio(row.us("eager"), row.us("ours"))),
            )
        )
    columns = ("", "size", "zeros", "ours, us", "best dense, us", "times faster", "auto", "times eager")
    return Table(title, columns, tuple(lines))


def networks(results: Results) -> Table:
    """Feed-forward blocks and the whole step, against the same network with dense feed-forwards."""
    lines = []
    for row in results.rows:
        if row.best("dense") and row.best("dense").startswith("dense network"):
            lines.append(
                (
                    row.op,
                    row.leg,
                    f"{row.rows} x {row.width}",
                    f"{row.zeros:.0%}",
                    f"{row.nominal_flop / 1e9:.2f}",
                    f"{row.executed_flop / 1e9:.2f}",
                    f"{row.us('dense') / 1e3:.2f}",
                    f"{row.us('ours') / 1e3:.2f}",
                    x(row.speedup),
                    x(row.nominal_flop / row.executed_flop),
                )
            )
    columns = (
        "",
        "",
        "size",
        "zeros",
        "GFLOP",
        "executed",
        "dense, ms",
        "ours, ms",
        "times faster",
        "FLOPs would allow",
    )
    note = (
        "Zeros of the hidden layers; the input of a block has as many, 50 % at most. Random weights. Sizes: tokens and "
        "hidden width of a block, frames and coefficients of a step."
    )
    return Table("Networks of the `dmt` preset", columns, tuple(lines), note)


def measurements(results: Results) -> Table:
    """Every row with everything measured."""
    cells: dict[str, Callable[[Row], str]] = {
        "op": lambda r: r.op,
        "leg": lambda r: r.leg,
        "M x K": lambda r: f"{r.rows} x {r.width}",
        "zeros": lambda r: f"{r.zeros:.0%}",
        "type": lambda r: named((r.dtype, r.isa)),
        "MFLOP": lambda r: f"{r.nominal_flop / 1e6:.1f}",
        "executed": lambda r: f"{r.executed_flop / 1e6:.1f}",
        "MB": lambda r: "" if r.moved_bytes is None else f"{r.moved_bytes / 1e6:.2f}",
        "us p20 / p50 / p80": lambda r: " / ".join(f"{getattr(_ours(r), p):.1f}" for p in ("p20", "p50", "p80")),
        "best dense": lambda r: f"{r.us('dense'):.1f} {r.best('dense')}" if r.us("dense") else "",
        "times": lambda r: x(r.speedup),
        "GFLOP/s": lambda r: f"{r.gflops:.1f}",
        "GB/s": lambda r: "" if r.gbps is None else f"{r.gbps:.1f}",
        "of peak": lambda r: share(r.share_of_peak(results.peak(r.dtype, r.isa))),
        "peak MB, dense": lambda r: " / ".join(f"{size / 1e6:.2f}" for size in r.peak_bytes.values()),
    }
    lines = tuple(tuple(cell(row) for cell in cells.values()) for row in results.rows)
    return Table("Every measurement", tuple(cells), lines)


def _ours(row: Row):
    return row.times[row.best("ours")]


def overview(results: Results) -> list[Table]:
    """All but the last and longest; empty ones are left out."""
    built = [summary(results)] if variants(results) else []
    built += [sparse_linear(results, variant) for variant in variants(results)]
    built += [elsewhere(results), threshold(results)]
    built += [
        simple(results, op, op) for op in ("masked_linear", "sparse_bmm", "packed_conv2d", "pack_mask", "unpack_mask")
    ]
    built.append(networks(results))
    return [table for table in built if table.lines]


def conditions(results: Results) -> str:
    """One paragraph that says what the figures are worth."""
    c, p = results.conditions, results.peaks
    gpu = f"{c['gpu']} ({c['architecture']})" if c["gpu"] else "not yet run on a GPU"
    threads = f"{c['threads']} thread" + ("s" if c["threads"] != 1 else "")
    peaks = ", ".join(f"{p[name]:.0f} GFLOP/s {name}" for name in p if name != "memory")
    return (
        f"{c['processor']} ({c['capability']}, kernels {c['isa']}), {threads} ({c['clock']}), GPU: {gpu}. "
        f"torch {c['torch']}, Python {c['python']}, dmt {c['dmt']}, commit {c['commit'] or 'not known'}, {c['date']}, "
        f"load {c['load']:.1f}. Measured peaks: {peaks}, {p['memory']:.1f} GB/s of memory. Medians of rounds; all "
        f"candidates take turns in one process, after their results were checked."
    )


def markdown(results: Results, *, every: bool = True) -> str:
    """The whole page."""
    parts = [table.markdown() for table in overview(results)]
    if every:
        parts.append(measurements(results).markdown())
    return "\n\n".join(["## The kernels, measured", conditions(results), *parts]) + "\n"

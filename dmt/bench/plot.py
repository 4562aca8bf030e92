"""Latency against the share of zeros, with the dense line and the break-even marked."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from ..atomic import atomic
from ..errors import InputError
from .results import Results
from .tables import break_even, grouped, named, products, together, trained


def available() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def draw(results: Results, path: Path, variant: tuple[str, str | None]) -> None:
    """`sparse_linear`, y + dX + dW, a panel per shape, as PNG. Raises InputError without matplotlib."""
    if not available():
        raise InputError("the plot needs matplotlib, which is not installed: pip install 'dreamtalk-dmt[bench]'")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    groups = grouped(products(results, *variant))
    shapes = list(dict.fromkeys(shape for shape, _ in groups))
    columns = min(4, len(shapes))
    lines = -(-len(shapes) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.0 * lines + 0.4), layout="constrained")
    FigureCanvasAgg(figure)
    for number, shape in enumerate(shapes):
        legs = {zeros: trained(rows) for (of, zeros), rows in sorted(groups.items()) if of == shape}
        _panel(figure.add_subplot(lines, columns, number + 1), shape, legs)
    threads = results.conditions["threads"]
    figure.suptitle(f"sparse_linear, {named(variant)}, {threads} thread(s), {results.conditions['processor']}")
    with atomic(path) as part:
        figure.savefig(part, format="png", dpi=110)


def _panel(axes, shape: tuple[int, int], legs: dict[float, list]) -> None:
    zeros = list(legs)
    dense, ours, auto = ([together(rows, role) for rows in legs.values()] for role in ("dense", "ours", "auto"))
    percent = [100 * z for z in zeros]
    axes.plot(percent, dense, color="0.4", linestyle="--", label="best dense")
    axes.plot(percent, ours, marker="o", markersize=3, color="tab:blue", label="sparse")
    axes.plot(percent, auto, marker=".", markersize=3, color="tab:orange", linewidth=1, label="auto")
    crossing = break_even(zeros, [d / o for d, o in zip(dense, ours, strict=True)])
    if crossing is not None:
        axes.axvline(100 * crossing, color="tab:green", linewidth=1)
        where = {"xytext": (3, 4), "textcoords": "offset points"}
        axes.annotate(f"pays from {crossing:.0%}", (100 * crossing, 0), color="tab:green", fontsize=7, **where)
    axes.set(title=f"{shape[0]} x {shape[1]}", xlabel="zeros, %", ylabel="y + dX + dW, us", ylim=(0, None))
    axes.legend(fontsize=7)

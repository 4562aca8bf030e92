"""The page of `gpu_goals.py`: Markdown of what it measured."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path

from dmt.bench.case import Row

HEAD = """Candidates take turns in one process; times are medians of GPU events in microseconds, with L2 overwritten
before each call, after results were checked. A call's time has the host's share where the host is slower than the
kernels; "graph" is the same call captured and replayed, which leaves the kernels alone. y, dX, dW: x [M, K] and a
square weight, K = N the second number of the shape. "torch" is the vendor's product of an x that is masked already;
"compiled" is one form under torch.compile, not the best of several."""


def _cell(row: Row, name: str) -> str:
    return f"{row.times[name].p50:.1f}" if name in row.times else ""


def _ratio(row: Row, above: str | None, below: str) -> str:
    if above is None or above not in row.times or below not in row.times:
        return ""
    return f"{row.times[above].p50 / row.times[below].p50:.2f}"


def _threshold_line(row: Row) -> tuple[str, ...]:
    compiled = next((n for n in row.times if n.startswith("compiled")), None)
    kernel = "ours, graph" if "ours, graph" in row.times else "ours"
    return (
        *(_cell(row, n) for n in ("copy", "ours, graph", "eager, graph", "ours", "eager")),
        _cell(row, compiled) if compiled else "",
        _ratio(row, kernel, "copy"),
        _ratio(row, "eager", "ours"),
        _ratio(row, "eager, graph", "ours, graph"),
        _ratio(row, compiled, "ours"),
    )


THRESHOLD_COLUMNS = (
    *("copy", "ours, graph", "eager, graph", "ours", "eager", "compiled"),
    *("of a copy", "over eager", "over eager, graphs", "over compiled"),
)
PRODUCT_COLUMNS = ("torch", "eager threshold", "compiled", "auto", "ours", "by element")
GRAPHS = ("torch, graph", "auto, graph", "ours, graph", "triton, graph", "by element, graph")


def _table(rows: list[Row], columns: tuple[str, ...], cells: Callable[[Row], tuple[str, ...]]) -> list[str]:
    used = [cells(row) for row in rows]
    kept = [i for i in range(len(columns)) if any(line[i] for line in used)]
    names = ("", "shape", "type", "zeros", *(columns[i] for i in kept))
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    for row, line in zip(rows, used, strict=True):
        dtype = row.dtype.replace("float32", "f32").replace("bfloat16", "bf16")
        first = (row.leg, f"{row.rows} x {row.width}", dtype, f"{row.zeros:.0%}")
        lines.append(f"| {' | '.join((*first, *(line[i] for i in kept)))} |")
    return lines


def draw(found: dict[str, dict[str, float]], title: str, target: Path) -> None:
    """Times of the captured calls over the size of x, as a PNG; nothing without matplotlib."""
    if importlib.util.find_spec("matplotlib") is None:
        return
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(11, 4.2), sharey=True, layout="constrained")
    for panel, dtype in zip(panels, ("float32", "bfloat16"), strict=True):
        sizes = {what: times for what, times in found.items() if what.startswith(dtype)}
        elements = [math.prod(map(int, what.split(", ")[1].split(" x "))) for what in sizes]
        for name in next(iter(sizes.values())):
            style = {"color": "black", "linestyle": "--"} if name == "copy" else {}
            panel.loglog(elements, [times[name] for times in sizes.values()], marker="o", label=name, **style)
        panel.set(title=dtype, xlabel="elements of x")
        panel.grid(True, which="both", alpha=0.25)
    panels[0].set_ylabel("microseconds")
    panels[0].legend()
    figure.suptitle(title)
    figure.savefig(target, dpi=110)
    plt.close(figure)


def _captured(found: dict[str, dict[str, float]]) -> list[str]:
    names = next(iter(found.values()))
    lines = [f"| | {' | '.join(names)} | forward, of a copy |", "|" + "---|" * (len(names) + 2)]
    for what, times in found.items():
        cells = " | ".join(f"{t:.1f}" for t in times.values())
        lines.append(f"| {what} | {cells} | {times['forward'] / times['copy']:.2f} |")
    return lines


def write(runs: list[dict], folder: Path) -> None:
    """goals.md, and goals.png where `threshold_ema` was captured."""
    (folder / "goals.md").write_text(page(runs))
    for run in runs:
        if "captured" in run:
            c = run["conditions"]
            draw(
                run["captured"], f"threshold_ema in CUDA graphs, {c['gpu']}, commit {c['commit']}", folder / "goals.png"
            )


def page(runs: list[dict]) -> str:
    """Markdown of everything that was measured."""
    lines = ["# The GPU kernels, measured", "", HEAD]
    for run in runs:
        c = run["conditions"]
        ceilings = ", ".join(f"{name}: {value:,.0f}" for name, value in run["ceilings"].items())
        kept = ", ".join(f"{name} {value:.3f}" for name, value in run["saved_bytes_per_element"].items())
        lines += ["", f"## {c['gpu']} ({c['architecture']}), commit {c['commit']}", ""]
        lines.append(f"torch {c['torch']}, Python {c['python']}, {c['date']}. Measured ceilings: {ceilings}.")
        lines.append(f"Bytes kept for the backward pass by each element of a bfloat16 x: {kept}.")
        if captured := run.get("captured"):
            lines += ["", "### threshold_ema, each call captured and replayed", "", "![times](goals.png)", ""]
            lines += _captured(captured)
        rows = [Row.from_json(row) for row in run["rows"]]
        for op in dict.fromkeys(row.op for row in rows):
            of_op = [row for row in rows if row.op == op]
            lines += ["", f"### {op}", ""]
            if op == "threshold_ema":
                lines += _table(of_op, THRESHOLD_COLUMNS, _threshold_line)
            else:
                columns = (*GRAPHS, *PRODUCT_COLUMNS)
                lines += _table(of_op, columns, lambda row, columns=columns: tuple(_cell(row, n) for n in columns))
    return "\n".join(lines) + "\n"

"""The report's pictures, from its JSON alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from dmt.atomic import atomic

from .results import spread

CURVES = {
    "without L_MI": ("all-no-mi", "o-", "tab:blue"),
    "with L_MI": ("all", "s-", "tab:orange"),
    "constant thresholds": ("fixed", "^--", "tab:green"),
    "top-k": ("top_k", "v--", "tab:red"),
}
"""Label -> (first part of the variants' names, marker, colour)."""

QUALITY = {
    "voices.mouth": "mouth error",
    "voices.upper": "upper-face error",
    "voices.aperture": "aperture r, unheard voices",
    "english.aperture": "aperture r, filmed speaker",
}


def draw(results: dict[str, Any], folder: Path) -> None:
    """ablation_curve.png and ablation_kept.png."""
    _save(_curve(results), folder / "ablation_curve.png")
    _save(_kept(results), folder / "ablation_kept.png")


def family(results: dict[str, Any], first: str) -> list[tuple[str, dict[str, Any]]]:
    """The variants whose names are `first` alone or `first`-<start>, from the most kept to the least.

    Of every variant the same seeds count, those that all finished variants of the curve have: else a difference
    between seeds would pass for one between levels.
    """
    seeds = common_seeds(results)
    found = [(n, at_seeds(results["variants"][n], seeds)) for n in _names(results, first)] if seeds else []
    return sorted(found, key=lambda pair: -pair[1]["kept_mean"]["mean"])


def common_seeds(results: dict[str, Any]) -> list[int]:
    """Seeds that all finished variants of the curve have."""
    sets = [set(results["variants"][n]["seeds"]) for first, *_ in CURVES.values() for n in _names(results, first)]
    return sorted(set.intersection(*sets)) if sets else []


def at_seeds(variant: dict[str, Any], seeds: list[int]) -> dict[str, Any]:
    """The variant as if only `seeds` had been run."""
    chosen = [variant["seeds"].index(seed) for seed in seeds]
    result = dict(variant)
    for key, data in variant.items():
        if isinstance(data, dict) and len(data.get("all", ())) == len(variant["seeds"]):
            values = [data["all"][i] for i in chosen]
            result[key] = spread(values) | {"all": values}
    return result | {"seeds": seeds}


def _names(results: dict[str, Any], first: str) -> list[str]:
    variants = results["variants"].items()
    return [n for n, v in variants if v["seeds"] and v["start"] is not None and n in (first, f"{first}-{v['start']}")]


def _curve(results: dict[str, Any]) -> Figure:
    figure = Figure(figsize=(3.8 * len(QUALITY), 3.6), layout="constrained")
    for axis, (place, label) in zip(figure.subplots(1, len(QUALITY)), QUALITY.items(), strict=True):
        for title, (first, style, colour) in CURVES.items():
            points = [d for _, d in family(results, first) if place in d]
            x, y, error = (
                [d[k][v] for d in points] for k, v in (("kept_mean", "mean"), (place, "mean"), (place, "sd"))
            )
            if points:
                axis.errorbar(x, y, yerr=error, fmt=style, color=colour, label=title, capsize=3, markersize=5)
        seeds, dense = common_seeds(results), results["variants"]["all-dense"]
        if place in dense and seeds and set(seeds) <= set(dense["seeds"]):
            dense = at_seeds(dense, seeds)
            axis.axhline(dense[place]["mean"], color="grey", linestyle=":", label="no thresholds")
        axis.set(xlabel="kept share (mean of all sites)", ylabel=label)
        axis.invert_xaxis()
    if figure.axes[0].get_legend_handles_labels()[0]:
        figure.axes[0].legend(fontsize=7)
    return figure


def _kept(results: dict[str, Any]) -> Figure:
    """One panel a variant, one line a site, in the same colour everywhere."""
    variants = results["variants"]
    names = [n for n in ("dense", "thresholds", "all-no-mi", "all") if variants[n]["seeds"]]
    sites = list(dict.fromkeys(site for name in names for site in variants[name]["kept"]))
    figure = Figure(figsize=(3.2 * max(1, len(names)) + 3, 4.2), layout="constrained")
    axes = figure.subplots(1, max(1, len(names)), squeeze=False, sharey=True)[0]
    lines = {}
    for axis, name in zip(axes, names, strict=False):
        for site, rows in variants[name]["kept"].items():
            index, times = sites.index(site), sorted(rows, key=int)
            style = {"color": colormaps["tab20"](index % 20), "linestyle": "-" if index < 20 else "--"}
            (lines[site],) = axis.plot([int(t) for t in times], [rows[t] for t in times], **style, label=short(site))
        axis.set(title=name, xlabel="diffusion time", ylim=(0, 1))
    axes[0].set_ylabel("kept share")
    figure.legend(handles=[lines[site] for site in sites], loc="outside right upper", fontsize=7)
    return figure


WORDS = {
    "_decoder.layers.": " ",
    ".self_attn.": " self-attention ",
    ".multihead_attn.": " cross-attention ",
    "_tail_thresholds.": " tail ",
    "memory_thresholds.": "memory ",
    "_threshold": "",
    ".": " ",
}


def short(site: str) -> str:
    """upper_decoder.layers.0.self_attn.input_threshold -> upper 0 self-attention input."""
    for part, word in WORDS.items():
        site = site.replace(part, word)
    return site


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure)
    with atomic(path) as part:
        figure.savefig(part, dpi=110, format="png")

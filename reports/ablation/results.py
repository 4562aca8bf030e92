"""Numbers of all finished runs together: mean and spread over seeds, differences between variants seed by seed."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from typing import Any

from dmt.denoiser import Denoiser

from .flops import DecoderCount
from .masks import masks
from .measures import measured
from .training import Workplace
from .variants import ALL, CROWDING, DENSE, LAMBDA, LEVELS, NARROW, SEEDS, STAGE, START, VARIANTS, Variant

Values = dict[str, float]

MEASURES = {
    "voices.mouth": "mouth error",
    "voices.upper": "upper-face error",
    "voices.velocity": "velocity error",
    "voices.aperture": "aperture r, unheard voices",
    "voices.closed": "closures kept",
    "languages.mouth": "mouth error, unheard languages",
    "languages.upper": "upper-face error, unheard languages",
    "languages.velocity": "velocity error, unheard languages",
    "languages.aperture": "aperture r, unheard languages",
    "english.aperture": "aperture r, filmed speaker",
    "frames.ssim": "SSIM",
    "frames.psnr": "PSNR",
    "frames.ssim_mouth": "SSIM, lower face",
    "frames.psnr_mouth": "PSNR, lower face",
    "flops.forward.nominal": "nominal, plain form",
    "flops.forward.executed": "executed, plain form",
    "flops.forward.live": "live, plain form",
    "flops.step.nominal": "nominal, step form",
    "flops.step.executed": "executed, step form",
    "flops.step.live": "live, step form",
}
"""Dotted places in `measures.json`, and what they are called."""

HIGHER_IS_BETTER = ("aperture", "closed", "ssim", "psnr")

COMPARISONS = {
    "thresholds": ("thresholds", "dense"),
    "L_MI": ("thresholds-mi", "thresholds"),
    "fusion": ("fusion", "dense"),
    "fusion against the better branch": ("fusion", "prosodic"),
    "dynamic decoders": ("decoders", "dense"),
    "thresholds in the full model": ("all-no-mi", "all-dense"),
    "L_MI in the full model": ("all", "all-no-mi"),
    f"L_MI in the full model, thresholds from {LEVELS[0]}": (f"all-{LEVELS[0]}", f"all-no-mi-{LEVELS[0]}"),
    "thresholds and L_MI in the full model": ("all", "all-dense"),
    "our pressure in the full model": ("all-pressed", "all"),
    "all against dense": ("all", "dense"),
    "all against dense with fusion": ("all", "fusion"),
    "all with our pressure against dense": ("all-pressed", "dense"),
}
"""Claim -> (with, without)."""


def collect(place: Workplace) -> dict[str, Any]:
    """Everything the report is written from; JSON-ready."""
    runs = {v.name: [m for s in SEEDS if (m := measured(place, v, s))] for v in VARIANTS}
    latency = place.folder / "latency.json"
    return {
        "settings": {
            "steps": STAGE.steps,
            "clips": STAGE.clips,
            "frames": STAGE.frames,
            "rate": STAGE.rate,
            "lambda": LAMBDA,
            "start": START,
            "tails": ALL.tails,
            "crowding": CROWDING,
            "levels": list(LEVELS),
            "seeds": list(SEEDS),
        },
        "variants": {v.name: _variant(place, v, runs[v.name]) for v in VARIANTS},
        "comparisons": {
            claim: compared(runs[a], runs[b]) | {"with": a, "without": b} for claim, (a, b) in COMPARISONS.items()
        },
        "thresholds": {v.name: _levels(place, v) for v in VARIANTS if v.start is not None},
        "floor": {v.name: {form: _floor(v, form) for form in ("forward", "step")} for v in (NARROW, ALL)},
        "latency": json.loads(latency.read_text()) if latency.exists() else {"times": {}, "machine": {}},
        "encoders": json.loads(place.encoders.read_text()) if place.encoders.exists() else None,
    }


def value(run: dict[str, Any], place: str) -> float | None:
    """The number at a dotted place of one run's measures, None where it is not."""
    for key in place.split("."):
        if key not in run:
            return None
        run = run[key]
    return run


def spread(values: list[float]) -> Values:
    """Mean and sample standard deviation (0 for one value)."""
    return {"mean": statistics.fmean(values), "sd": statistics.stdev(values) if len(values) > 1 else 0.0}


def compared(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> dict[str, Any]:
    """Differences (with - without) of the same seeds: mean and standard deviation of each measure."""
    theirs_by_seed = {run["seed"]: run for run in theirs}
    pairs = [(run, theirs_by_seed[run["seed"]]) for run in ours if run["seed"] in theirs_by_seed]
    result: dict[str, Any] = {"seeds": [a["seed"] for a, _ in pairs]}
    for place in MEASURES:
        gaps = [x - y for a, b in pairs if (x := value(a, place)) is not None and (y := value(b, place)) is not None]
        if gaps:
            result[place] = spread(gaps) | {"all": gaps}
    return result


def _variant(place: Workplace, variant: Variant, runs: list[dict[str, Any]]) -> dict[str, Any]:
    data: dict[str, Any] = {
        "title": variant.title,
        "condition": variant.condition,
        "decoder": variant.decoder,
        "start": variant.start,
        "information": variant.information,
        "mask": variant.mask,
        "reach": variant.reach,
        "crowding": variant.crowding,
        "seeds": [run["seed"] for run in runs],
    }
    if not runs:
        return data
    data |= {name: runs[0][name] for name in ("parameters", "decoder_parameters")}
    for where in MEASURES:
        values = [x for run in runs if (x := value(run, where)) is not None]
        if values:
            data[where] = spread(values) | {"all": values}
    data["information_left"] = statistics.fmean(_information_left(place, variant, run["seed"]) for run in runs)
    data["kept"] = _mean_tree([run["kept"] for run in runs])
    shares = _flat(runs, lambda run: statistics.fmean(kept_shares(run["kept"]).values()) if run["kept"] else 1.0)
    data["kept_mean"] = spread(shares) | {"all": shares}
    return data


def kept_shares(kept: dict[str, Values]) -> Values:
    """Mean over diffusion steps of the kept share of each site."""
    return {site: statistics.fmean(rows.values()) for site, rows in kept.items()}


def _information_left(place: Workplace, variant: Variant, seed: int) -> float:
    """Eq. 10 in the last logged steps of a run, 0 where there are no thresholds or no log."""
    path = place.run(variant.name, seed) / "denoiser.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    found = [row["information"] for row in rows if "information" in row][-3:]
    return statistics.fmean(found) if found else 0.0


def _floor(variant: Variant, form: str) -> float:
    """Share of the dense baseline's FLOPs that the variant executes where its thresholds zero everything."""
    config, dense = variant.model(), DENSE.model()
    denoiser = Denoiser(config.denoiser, config.sparsity, config.speech.width)
    nothing = {name.removeprefix("decoder."): 0.0 for name in masks(denoiser)}
    count = DecoderCount(config.denoiser, config.sparsity, nothing).total(form)
    return count.executed / DecoderCount(dense.denoiser, dense.sparsity, {}).total(form).nominal


def _flat(runs: list[dict[str, Any]], what: Callable[[dict[str, Any]], float]) -> list[float]:
    return [what(run) for run in runs]


def _mean_tree(tables: list[dict[str, Values]]) -> dict[str, Values]:
    """site -> time -> mean over seeds."""
    return {s: {t: statistics.fmean(table[s][t] for table in tables) for t in tables[0][s]} for s in tables[0]}


def _levels(place: Workplace, variant: Variant) -> dict[str, Values]:
    """site -> final theta' and kept share on training batches, mean over the seeds."""
    paths = [place.run(variant.name, seed) / "sites.json" for seed in SEEDS]
    found = [json.loads(path.read_text()) for path in paths if path.exists()]
    sites = found[0] if found else {}
    return {s: {k: statistics.fmean(run[s][k] for run in found) for k in sites[s]} for s in sites}

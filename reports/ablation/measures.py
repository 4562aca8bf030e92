"""Everything that is measured of one finished run, written as `measures.json` into its folder."""

from __future__ import annotations

import json

from torch import Tensor

from dmt.decoder import LOWER, UPPER
from dmt.face.basis import LandmarkBasis
from dmt.model import MotionModel

from .flops import DecoderCount
from .frames import FrameComparison
from .sampling import KeptShares, Part, sample, sample_filmed
from .training import Workplace, load_trained, save_json
from .variants import Variant

CLOSED = 0.02
"""Openings under this, in eye distances, are closed lips (as `dmt evaluate closures` has it)."""

SYNTHETIC = ("voices", "languages")


def measure_variant(place: Workplace, variant: Variant, seed: int, frames: FrameComparison) -> None:
    """Sample, compare, count; the result appears whole or not at all."""
    model = load_trained(place, variant, seed)
    kept = KeptShares(model.denoiser)
    result: dict[str, object] = {
        "variant": variant.name,
        "seed": seed,
        "parameters": sum(p.numel() for p in model.denoiser.parameters()),
        "decoder_parameters": sum(p.numel() for p in model.denoiser.decoder.parameters()),
    }
    for name in SYNTHETIC:
        part = Part.load(place, name, variant.condition)
        made = sample(model, part, kept if name == "voices" else None)
        result[name] = motion_measures(model, made, part)
        if name == "voices":
            result["frames"] = frames.measure(made)
    filmed = Part.load(place, "english", variant.condition)
    if filmed is not None:
        result["english"] = filmed_measures(sample_filmed(model, filmed), filmed)
    result["kept"] = kept.table()
    result["flops"] = flops(model, result["kept"])
    save_json(result, place.run(variant.name, seed) / "measures.json")


def motion_measures(model: MotionModel, made: Tensor, part: Part) -> dict[str, float]:
    """Mean absolute errors in units of each coefficient's spread, and the lips in eye distances.

    mouth and upper: of the 13 lower and 51 upper coefficients; velocity: of the lower ones' change from frame to
    frame; jitter: mean size of that change over that of the truth, 1 as lively as the truth.
    """
    truth = part.coefficients[:, : part.frames]
    x, y = model.normalise(made), model.normalise(truth)
    lower, upper = list(LOWER), list(UPPER)
    moved = x[..., lower].diff(dim=1), y[..., lower].diff(dim=1)
    basis = LandmarkBasis.load()
    opening, wanted = basis.mouth_opening(made), part.lips[:, : part.frames, 0].float()
    return {
        "mouth": float((x - y)[..., lower].abs().mean()),
        "upper": float((x - y)[..., upper].abs().mean()),
        "velocity": float((moved[0] - moved[1]).abs().mean()),
        "liveliness": float(moved[0].abs().mean() / moved[1].abs().mean()),
        "aperture": correlation(opening, wanted),
        "aperture_error": float((opening - wanted).abs().mean()),
        "closed": closed_share(opening, part.closures),
    }


def closed_share(opening: Tensor, closures: Tensor) -> float:
    """Share of the /p b m/ whose opening [N, T] goes under CLOSED, within a frame of where it should."""
    lows = [float(opening[c, max(0, a - 1) : b + 2].min()) for c, a, b in closures.tolist() if a < opening.shape[1]]
    return sum(low < CLOSED for low in lows) / max(1, len(lows))


def filmed_measures(made: Tensor, part: Part) -> dict[str, float]:
    """Mean over noises of the zero-lag correlation of the openings, made [NOISES, T, 64] against the filmed ones."""
    basis = LandmarkBasis.load()
    wanted = basis.mouth_opening(part.coefficients[0, : part.frames])
    return {"aperture": sum(correlation(basis.mouth_opening(m), wanted) for m in made) / len(made)}


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's, over all elements; 0 where one of them does not move."""
    a, b = a.flatten().double() - a.double().mean(), b.flatten().double() - b.double().mean()
    scale = a.norm() * b.norm()
    return float(a @ b / scale) if scale > 1e-12 else 0.0


def flops(model: MotionModel, kept: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Of both forms, with the kept shares averaged over diffusion steps."""
    shares = {name: sum(row.values()) / len(row) for name, row in kept.items()}
    count = DecoderCount(model.config.denoiser, model.config.sparsity, shares)
    return {form: vars(count.total(form)) for form in ("forward", "step")}


def measured(place: Workplace, variant: Variant, seed: int) -> dict | None:
    """What `measure_variant` wrote, or None."""
    path = place.run(variant.name, seed) / "measures.json"
    return json.loads(path.read_text()) if path.exists() else None


def frame_comparison(place: Workplace) -> FrameComparison:
    """For the clips in held-out voices."""
    part = Part.load(place, "voices", "acoustic")
    return FrameComparison(part.coefficients[:, : part.frames])

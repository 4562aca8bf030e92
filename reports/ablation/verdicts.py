"""Is a claim borne out? Decided by one rule from the differences of paired seeds, never by hand."""

from __future__ import annotations

import math
from typing import Any

from .results import HIGHER_IS_BETTER

T_95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78}
"""Student's t for a two-sided 95 % interval of the mean of n differences."""


def higher_is_better(place: str) -> bool:
    return place.split(".")[-1].split("_")[0] in HIGHER_IS_BETTER


def interval(difference: dict[str, Any]) -> float | None:
    """Half-width of the 95 % interval of the mean difference; None with fewer than two seeds."""
    count = len(difference["all"])
    if count < 2:
        return None
    return T_95.get(count, 2.0) * difference["sd"] / math.sqrt(count)


def verdict(place: str, difference: dict[str, Any]) -> str:
    """`better` or `worse` where the interval excludes 0; `leans ...` where it does not but all seeds agree, which
    chance alone does in one case of four with three seeds and in every other one with two; else `undecided`."""
    sign = 1 if higher_is_better(place) else -1
    gains = [sign * gap for gap in difference["all"]]
    half = interval(difference)
    if half is not None and abs(difference["mean"]) > half:
        return "better" if sign * difference["mean"] > 0 else "worse"
    if len(gains) > 1 and all(g > 0 for g in gains):
        return "leans better"
    if len(gains) > 1 and all(g < 0 for g in gains):
        return "leans worse"
    return "undecided" if half is not None else "one seed only"


def good_as(place: str, difference: dict[str, Any]) -> bool:
    """Whether the mean difference is no loss."""
    return (difference["mean"] if higher_is_better(place) else -difference["mean"]) >= 0

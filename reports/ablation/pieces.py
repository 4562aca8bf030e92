"""Pieces that every part of the report is put together from."""

from __future__ import annotations

from typing import Any

from .verdicts import interval

ASKED = ("voices.mouth", "voices.upper", "voices.velocity", "voices.aperture", "languages.aperture", "english.aperture")
"""What a claim is judged by."""


def table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others numbers."""
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join([" --- ", *[" ---: "] * (len(head) - 1)]) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def number(data: dict[str, Any], place: str, digits: int = 3, scale: float = 1.0) -> str:
    """mean ± sd of a measure, or a dash."""
    if place not in data:
        return "–"
    found = data[place]
    mean, sd = found["mean"] * scale, found["sd"] * scale
    return f"{mean:.{digits}f} ± {sd:.{digits}f}" if len(found["all"]) > 1 else f"{mean:.{digits}f}"


def share(results: dict[str, Any], name: str, place: str, base: str, base_place: str) -> float:
    return results["variants"][name][place]["mean"] / results["variants"][base][base_place]["mean"]


def gap(gap: dict[str, Any], digits: int = 3) -> str:
    half = interval(gap)
    return f"{gap['mean']:+.{digits}f}" + ("" if half is None else f" ± {half:.{digits}f}")

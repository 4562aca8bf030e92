"""What `dmt evaluate videos` leaves: report.json, report.md and the curves of every video as pictures."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..atomic import atomic, made_folder
from .catalogue import MEASURES, OF_ALL
from .compare import Evaluation, VideoScores
from .plots import plot_curves

LIBRARIES = ("dreamtalk-dmt", "torch", "torchmetrics", "scikit-image", "mediapipe")
"""Whose versions are written down, for they decide digits."""


def write_report(evaluation: Evaluation, folder: str | Path, *, plots: bool = True) -> list[Path]:
    """The report in `folder`; returns the files. Each appears whole or not at all.

    plots: draw the curves (matplotlib, extra `evaluate`): one picture for each video.
    """
    folder = made_folder(folder)
    files = [folder / "report.json", folder / "report.md"]
    with atomic(files[0]) as part:
        part.write_text(
            json.dumps(as_json(evaluation), indent=1, ensure_ascii=False, allow_nan=False), encoding="utf-8"
        )
    pictures = {}
    if plots:
        for video in evaluation.videos:
            target = folder / f"curves-{video.pair.name.replace('/', '-')}.png"
            plot_curves(video, target)
            pictures[video.pair.name] = target
    with atomic(files[1]) as part:
        part.write_text(as_markdown(evaluation, pictures), encoding="utf-8")
    return files + list(pictures.values())


def as_json(evaluation: Evaluation) -> dict[str, Any]:
    """Everything, curves included; a frame without a value is null."""
    names = _names(evaluation)
    return {
        "measures": {
            name: {
                "mean": _number(_value(evaluation, name)),
                "standard_deviation": _number(evaluation.spread(name)),
                "videos": sum(name in video.measures for video in evaluation.videos),
                "label": MEASURES[name].label,
                "unit": MEASURES[name].unit,
                "better": MEASURES[name].better,
            }
            for name in names
        },
        "not_measured": evaluation.not_measured(),
        "videos": [_video(video) for video in evaluation.videos],
        "how": {**asdict(evaluation.config), "landmarks_by": evaluation.tracker, "versions": _versions()},
        "notes": list(evaluation.notes),
    }


def as_markdown(evaluation: Evaluation, pictures: dict[str, Path] | None = None) -> str:
    """Tables of means and of each video, what was not measured and why, and how it was measured."""
    count = len(evaluation.videos)
    frames = sum(video.frames for video in evaluation.videos)
    lines = [f"# {count} video{'s' * (count != 1)}, {frames} frames", ""]
    lines += ["| measure | mean | standard deviation over videos | unit |", "|---|---|---|---|"]
    for name in _names(evaluation):
        measure = MEASURES[name]
        spread = evaluation.spread(name)
        told = "" if spread is None else _digits(spread)
        lines.append(
            f"| {measure.label}{measure.arrow} | {_digits(_value(evaluation, name))} | {told} | {measure.unit} |"
        )
    lines += ["", *_missing(evaluation), *_how(evaluation), "## Each video", ""]
    for video in evaluation.videos:
        lines += _video_lines(video, (pictures or {}).get(video.pair.name))
    return "\n".join(lines).rstrip() + "\n"


def _names(evaluation: Evaluation) -> list[str]:
    """Measures that some video (or all together) has, in the catalogue's order."""
    return [name for name in MEASURES if _value(evaluation, name) is not None]


def _value(evaluation: Evaluation, name: str) -> float | None:
    return evaluation.measures.get(name) if name in OF_ALL else evaluation.mean(name)


def _missing(evaluation: Evaluation) -> list[str]:
    lines = [f"- {_label(name)}: {why}" for name, why in evaluation.not_measured().items()]
    return ["## Not measured", "", *lines, ""] if lines else []


def _how(evaluation: Evaluation) -> list[str]:
    config = evaluation.config
    crop = "the square around the face in its first frame" if config.crop == "face" else "whole pictures"
    lines = [
        f"Frames at 25 a second up to the end of the shorter video; {crop}, scaled to {config.size} x {config.size} "
        "pixels. "
        f"Landmarks: {evaluation.tracker or 'none'}. Identical frames count as 100 dB. "
        + ", ".join(f"{name} {number}" for name, number in _versions().items())
        + "."
    ]
    return ["## How", "", *lines, *(f"- {note}" for note in evaluation.notes), ""]


def _video_lines(video: VideoScores, picture: Path | None) -> list[str]:
    lines = [f"### {video.pair.name} ({video.frames} frames)", ""]
    for name in (name for name in MEASURES if name in video.measures):
        measure = MEASURES[name]
        lines.append(f"- {measure.label}: {_digits(video.measures[name])} {measure.unit}".rstrip())
    lines += [f"- {_label(name)}: not measured: {why}" for name, why in video.missing.items()]
    lines += [f"- {note}" for note in video.notes]
    return [*lines, "", *([f"![Curves of {video.pair.name}]({picture.name})", ""] if picture else [])]


def _video(video: VideoScores) -> dict[str, Any]:
    return {
        "name": video.pair.name,
        "generated": str(video.pair.made),
        "reference": str(video.pair.reference),
        "frames": video.frames,
        "measures": {name: _number(value) for name, value in video.measures.items()},
        "not_measured": video.missing,
        "notes": list(video.notes),
        "curves": {name: [_number(value) for value in curve] for name, curve in video.curves.items()},
    }


def _label(name: str) -> str:
    return MEASURES[name].label if name in MEASURES else name.replace("_", " ")


def _digits(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 6)


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found

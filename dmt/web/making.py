"""From a filled-in page to a video: what was wished for is checked, made, and reported while it is made."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import media
from ..errors import InputError

if TYPE_CHECKING:
    from ..pipeline import Pipeline, Result
    from ..progress import Report

KEEP = 3600.0
"""Seconds that a video stays."""


@dataclass(frozen=True)
class Wishes:
    """What a visitor set: paths of uploads (None: nothing sent) and choices. size: pixels, None as the renderer has it;
    style: an emotion's name, clip: a file instead of it; pose: a name, or "file" for `motion`."""

    audio: str | None
    image: str | None
    style: str
    intensity: float
    clip: str | None
    pose: str
    motion: str | None
    blink: bool
    seed: int | None
    size: int | None
    steps: int
    watermark: bool

    def options(self) -> dict[str, Any]:
        """The fields of `dmt.scene.Options`. InputError: a file was chosen and not sent."""
        if self.pose == "file" and self.motion is None:
            raise InputError("a pose from a file was chosen, and no pose file sent; send a .mat file")
        return {
            "style": self.clip or self.style,
            "intensity": self.intensity,
            "pose": self.motion if self.pose == "file" else self.pose,
            "blink": self.blink,
            "seed": int(self.seed or 0),
            "size": self.size,
            "steps": self.steps,
            "watermark": self.watermark,
        }


def make(pipeline: Pipeline, wishes: Wishes, longest: float, report: Report, folder: Path) -> Result:
    """The video as a new file in `folder`; what has lain there for longer than `KEEP` is removed.

    longest: seconds of sound. InputError: a sentence with the visitor's own names of files.
    """
    if wishes.audio is None:
        raise InputError("there is no voice yet: upload a sound file or record one")
    _sweep(folder)
    try:
        media.check_length(wishes.audio, longest)
        output = folder / f"{secrets.token_hex(8)}.mp4"
        return pipeline.generate(wishes.audio, wishes.image, output=output, report=report, **wishes.options())
    except InputError as error:
        raise InputError(_named(str(error), wishes)) from None


def _sweep(folder: Path) -> None:
    for video in folder.glob("*.mp4"):
        if time.time() - video.stat().st_mtime > KEEP:
            video.unlink(missing_ok=True)


def _named(sentence: str, wishes: Wishes) -> str:
    """A sentence with files called what the visitor called them, not where they lie."""
    for path in (wishes.audio, wishes.image, wishes.clip, wishes.motion):
        if path is not None:
            sentence = sentence.replace(path, Path(path).name)
    return sentence


def table(result: Result) -> str:
    """Where the time went, in Markdown."""
    rows = "".join(f"| {stage} | {seconds:.2f} s |\n" for stage, seconds in result.timings.items())
    return (
        f"**{result.seconds:.2f} s** of video, {result.frames} frames, made in **{result.wall_seconds:.2f} s**\n\n"
        f"| stage | time |\n| :--- | ---: |\n{rows}"
    )

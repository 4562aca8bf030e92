"""`dmt evaluate`: each measure as one line of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError
from .generate import Checkpoint

app = typer.Typer(help="Measure a model; each command prints one line of JSON.", no_args_is_help=True)

Seed = Annotated[int, typer.Option(help="Same seed, same numbers.")]


@app.command()
def lips(
    audio: Annotated[Path, typer.Option("--audio", "-a", help="The voice.")],
    reference: Annotated[Path, typer.Option(help="Its face: .npy [frames, 64 or more] coefficients, 25 a second.")],
    checkpoint: Checkpoint = None,
    seed: Seed = 0,
) -> None:
    """Whether the mouth opens when the reference's does: correlation, best lag, frames."""
    _check(seed)
    from ..evaluation import evaluate_lips

    _print(evaluate_lips(audio, reference, checkpoint, seed))


@app.command()
def closures(
    corpus: Annotated[
        Path | None, typer.Option(help="A folder made by `dmt corpus`; default: a few clips made now.")
    ] = None,
    clips: Annotated[int, typer.Option(help="Clips to measure, at most.")] = 64,
    checkpoint: Checkpoint = None,
    seed: Seed = 0,
) -> None:
    """The share of /p b m/ of held-out synthetic voices that close the lips."""
    _check(seed)
    if clips < 1:
        raise InputError(f"clips must be at least 1, got {clips}")
    from ..evaluation import evaluate_closures

    _print(evaluate_closures(checkpoint, corpus, clips=clips, seed=seed))


@app.command()
def silence(checkpoint: Checkpoint = None, seed: Seed = 0) -> None:
    """The mouth's opening where nobody speaks."""
    _check(seed)
    from ..evaluation import evaluate_silence

    _print(evaluate_silence(checkpoint, seed=seed))


@app.command()
def emotions(
    audio: Annotated[Path | None, typer.Option("--audio", "-a", help="The voice; default: the bundled one.")] = None,
    checkpoint: Checkpoint = None,
    seed: Seed = 0,
) -> None:
    """How far apart the upper faces of any two emotions are."""
    _check(seed)
    from ..evaluation import evaluate_emotions

    _print(evaluate_emotions(audio, checkpoint, seed))


def _check(seed: int) -> None:
    if seed < 0:
        raise InputError(f"seed must be at least 0, got {seed}")


def _print(measures: dict) -> None:
    typer.echo(json.dumps(measures))

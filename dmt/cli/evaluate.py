"""`dmt evaluate`: each measure as one line of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Measure a model; each command prints one line of JSON.", no_args_is_help=True)

Checkpoint = Annotated[Path | None, typer.Option(help="A .safetensors file of ours; default: the bundled model.")]
Seed = Annotated[int, typer.Option(help="Of the sampled motion.")]


@app.command()
def lips(
    audio: Annotated[Path, typer.Option(help="A recording of speech.")],
    reference: Annotated[Path, typer.Option(help="Its coefficients, .npy [frames, 64 or more] at 25 a second.")],
    checkpoint: Checkpoint = None,
    seed: Seed = 0,
) -> None:
    """Does the mouth opening follow that of a reference? Pearson correlation and best lag."""
    from ..evaluation import evaluate_lips

    _print(evaluate_lips(audio, reference, checkpoint, seed))


@app.command()
def closures(
    corpus: Annotated[Path | None, typer.Option(help="A built corpus; default: its validation part is made.")] = None,
    checkpoint: Checkpoint = None,
    clips: Annotated[int, typer.Option(min=1, help="How many clips of 8 s.")] = 64,
    seed: Seed = 0,
) -> None:
    """Do the lips close for p, b and m of synthetic voices never heard in training?"""
    from ..evaluation import evaluate_closures

    _print(evaluate_closures(checkpoint, corpus, clips=clips, seed=seed))


@app.command()
def silence(checkpoint: Checkpoint = None, seed: Seed = 0) -> None:
    """Does the mouth rest when nobody speaks?"""
    from ..evaluation import evaluate_silence

    _print(evaluate_silence(checkpoint, seed=seed))


@app.command()
def emotions(
    audio: Annotated[Path | None, typer.Option(help="A recording of speech; default: the bundled one.")] = None,
    checkpoint: Checkpoint = None,
    seed: Seed = 0,
) -> None:
    """How far do the upper faces of the eight emotions lie apart?"""
    from ..evaluation import evaluate_emotions

    _print(evaluate_emotions(audio, checkpoint, seed))


def _print(measures: dict) -> None:
    typer.echo(json.dumps(measures))

"""`dmt corpus` and `dmt train`: what reproduces the bundled checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError


def corpus(
    folder: Annotated[Path, typer.Argument(help="Where the corpus is written.")] = Path("corpus"),
    minutes: Annotated[float, typer.Option(help="Minutes of speech to make.")] = 170.0,
    seed: Annotated[int, typer.Option(help="Same seed, same corpus.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; 0: one per core.")] = 0,
) -> None:
    """Make the synthetic corpus: espeak-ng's voices, with lips solved from exact phoneme times."""
    if not 0 < minutes <= 100_000:
        raise InputError(f"minutes must lie above 0 and up to 100000, got {minutes}")
    if workers < 0 or seed < 0:
        raise InputError(f"workers and seed must be at least 0, got {workers} and {seed}")
    _writable(folder)
    from ..corpus import build_corpus
    from .report import progress

    with progress() as report:
        made = build_corpus(
            folder,
            minutes=minutes,
            seed=seed,
            workers=workers,
            progress=lambda done, total: report("shards", done, total),
        )
    typer.echo(
        f"{made.folder}: {made.clips} clips in {made.shards} shards ({made.made} new), {made.minutes:.0f} minutes"
    )


def train(
    corpus: Annotated[Path, typer.Option(help="A folder made by `dmt corpus`.")] = Path("corpus"),
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The run's folder; a stopped run goes on there.")
    ] = Path("runs/demo"),
    preset: Annotated[str, typer.Option(help="demo, dmt or dreamtalk.")] = "demo",
    seed: Annotated[int, typer.Option(help="Same seed, same training.")] = 0,
) -> None:
    """Train a model on a corpus; checkpoint, log and loss plot appear in the run's folder."""
    if seed < 0:
        raise InputError(f"seed must be at least 0, got {seed}")
    if not corpus.is_dir():
        raise InputError(f"no corpus in {corpus}; make one with: dmt corpus {corpus}")
    from ..config import preset as named

    model = named(preset)
    _writable(output)
    from ..training import TrainingConfig
    from ..training import train as run
    from .report import progress

    config = TrainingConfig(corpus=str(corpus), output=str(output), model=model, seed=seed)
    with progress() as report:
        made = run(config, lambda stage, done, total, left: report(stage, done, total))
    typer.echo(f"wrote {made.checkpoint}" + (f" and {made.plot}" if made.plot else ""))


def _writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}; choose another place") from None

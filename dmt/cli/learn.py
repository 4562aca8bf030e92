"""`dmt corpus` and `dmt train`: what reproduces the bundled checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..errors import InputError


def corpus(
    folder: Annotated[Path, typer.Argument(help="Where the corpus is written.")] = Path("corpus"),
    minutes: Annotated[float, typer.Option(help="Minutes of speech to make.")] = 45.0,
    seed: Annotated[int, typer.Option(help="Same seed, same corpus.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; 0: one per core.")] = 0,
) -> None:
    """Make the synthetic corpus: espeak-ng's voices, with lips solved from exact phoneme times."""
    if not 0 < minutes <= 100_000:
        raise InputError(f"minutes must lie in 0 .. 100000, got {minutes}")
    if workers < 0 or seed < 0:
        raise InputError(f"workers and seed must be at least 0, got {workers} and {seed}")
    from ..corpus import build_corpus

    build_corpus(folder, minutes=minutes, seed=seed, workers=workers)

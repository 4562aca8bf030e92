"""`dmt corpus`, `dmt train`, `dmt train-renderer`: the synthetic corpus, and training on it or on data of one's own."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from ..atomic import made_folder
from ..errors import InputError, brief, file_at, why


def corpus(
    folder: Annotated[Path, typer.Argument(help="Where the corpus is written.")] = Path("corpus"),
    minutes: Annotated[float, typer.Option(help="Minutes of speech to make.")] = 170.0,
    seed: Annotated[int, typer.Option(help="Same seed, same corpus.")] = 0,
    workers: Annotated[int, typer.Option(help="Processes; 0: one per core.")] = 0,
    speakers: Annotated[
        str,
        typer.Option(help="Voices made from recordings (flite, festival): auto: those installed; all; none."),
    ] = "auto",
) -> None:
    """Make the synthetic corpus: synthesizers' voices, with lips solved from exact phoneme times."""
    if not 0 < minutes <= 100_000:
        raise InputError(f"minutes must lie above 0 and up to 100000, got {minutes}")
    if workers < 0 or seed < 0:
        raise InputError(f"workers and seed must be at least 0, got {workers} and {seed}")
    if speakers not in ("auto", "all", "none"):
        raise InputError(f"unknown choice of speakers {speakers!r}: expected auto, all or none")
    made_folder(folder)
    from ..corpus import build_corpus
    from .report import progress

    chosen = _speakers(speakers)
    with progress() as report:
        made = build_corpus(
            folder,
            minutes=minutes,
            seed=seed,
            workers=workers,
            speakers=chosen,
            progress=lambda done, total: report("shards", done, total),
        )
    typer.echo(
        f"{made.folder}: {made.clips} clips in {made.shards} shards ({made.made} new), {made.minutes:.0f} minutes"
    )


def _speakers(choice: str) -> tuple[Any, ...]:
    """The voices made from recordings to use; with `auto` a sentence says which are left out."""
    from ..corpus.speakers import PACKAGES, SPEAKERS, VALIDATION_SPEAKERS, not_installed

    if choice == "none":
        return ()
    known = SPEAKERS + VALIDATION_SPEAKERS
    absent = not_installed(known) if choice == "auto" else []
    if absent:
        names = ", ".join(speaker.name for speaker in absent)
        typer.echo(f"Left out, as they are not installed: the voices {names} (Debian: {PACKAGES}).", err=True)
    return tuple(speaker for speaker in known if speaker not in absent)


def train(
    data: Annotated[
        Path, typer.Option("--data", "--corpus", help="A folder made by `dmt prepare` or `dmt corpus`.")
    ] = Path("corpus"),
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The run's folder; a stopped run goes on there.")
    ] = Path("runs/demo"),
    preset: Annotated[str, typer.Option(help="demo, dmt or dreamtalk.")] = "demo",
    schedule: Annotated[
        str | None,
        typer.Option(
            help="paper, or bundled: the bundled model's stages (default for demo), which need nothing pretrained."
        ),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Weights to start from: our checkpoint or DreamTalk's denoising_network.pth.")
    ] = None,
    prediction: Annotated[str | None, typer.Option(help="What the network predicts (eq. 4): x0 or noise.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu (default) or cuda.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32 (default), bfloat16, or float16 (GPU).")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Parts that a step's batch is cut into.")] = None,
    settings: Annotated[
        Path | None, typer.Option(help="JSON with any settings of a training.json; options go before it.")
    ] = None,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Write tensorboard's logs, too.")] = False,
    seed: Annotated[int | None, typer.Option(help="Same seed, same training.")] = None,
) -> None:
    """Train a model; settings, logs, resumable states, plots and the checkpoint appear in the run's folder."""
    if seed is not None and seed < 0:
        raise InputError(f"seed must be at least 0, got {seed}")
    if not os.path.isdir(data):
        raise InputError(f"no corpus in {data}; make one with: dmt corpus {data}, or dmt prepare FOLDERS -o {data}")
    from ..config import preset as named

    model = named(preset)
    kind = schedule or ("bundled" if preset == "demo" else "paper")
    if kind not in ("paper", "bundled"):
        raise InputError(f"unknown schedule {kind!r}: expected paper or bundled")
    options = {
        "corpus": str(data),
        "output": str(output),
        "seed": seed,
        "start": None if start is None else str(start),
        "device": device,
        "precision": precision,
        "accumulate": accumulate,
        "tensorboard": tensorboard or None,
        "model": {"diffusion": {"prediction": prediction}} if prediction else None,
    }
    config = _config(model, kind, options, settings)
    from ..training import train as run

    made = _run(run, config, output)
    if made is not None:
        typer.echo(f"wrote {made.checkpoint}" + (f" and {made.plot}" if made.plot else ""))


def _config(model: Any, schedule: str, options: dict[str, Any], settings: Path | None) -> Any:
    """The configuration: defaults, over them the file of settings, over it the options. InputError: a bad file."""
    from ..config import from_dict, to_dict
    from ..training import PaperSchedule, TrainingConfig

    plain = TrainingConfig("", "", model=model, schedule=PaperSchedule() if schedule == "paper" else None)
    values = to_dict(plain)
    if settings is not None:
        file_at(settings, "a JSON file of settings, as training.json")
        try:
            values = _over(values, json.loads(settings.read_text()))
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"{settings} cannot be read as JSON ({why(error)}); expected settings as in training.json"
            ) from None
    given = {name: value for name, value in options.items() if value is not None}
    return from_dict(TrainingConfig, _over(values, given))


def _over(values: dict[str, Any], changes: Any) -> dict[str, Any]:
    """`values` with `changes` in their places, mapping by mapping."""
    if not isinstance(changes, dict):
        raise ValueError(f"a mapping of settings was expected, got {brief(changes)}")
    inner = {k: _over(values[k], v) for k, v in changes.items() if isinstance(values.get(k), dict) and v is not None}
    return values | changes | inner


def _run(train: Callable[[Any, Any], Any], config: Any, output: Path) -> Any | None:
    """What `train` made, its notes said; None on all ranks but the first, which say nothing."""
    made_folder(output)
    from .report import progress

    with progress() as report, _resumable(output):
        made = train(config, report)
    if not made.first:
        return None
    for note in made.notes:
        typer.echo(f"note: {note}", err=True)
    return made


@contextmanager
def _resumable(output: Path) -> Iterator[None]:
    """Whoever stops the run is told how to go on."""
    try:
        yield
    except Exception:
        raise
    except BaseException as stop:
        stop.sentence = f"stopped; the same command goes on from the last state in {output}"
        raise


def train_renderer(
    video: Annotated[Path, typer.Option("--video", help="A video of one person.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The run's folder; a stopped run goes on there.")
    ] = Path("runs/renderer"),
    motion: Annotated[
        Path | None, typer.Option(help="Coefficients of its pictures, .mat or .npy; default: beside it, or tracked.")
    ] = None,
    start: Annotated[Path | None, typer.Option(help="DreamTalk's renderer.pt, to fine-tune.")] = None,
    vgg: Annotated[Path | None, typer.Option(help="torchvision's vgg16 weights, for the perceptual term.")] = None,
    size: Annotated[int, typer.Option(help="Pixels of the square picture, a multiple of 32.")] = 256,
    steps: Annotated[int, typer.Option(help="Optimiser steps.")] = 2000,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-4,
    pairs: Annotated[int, typer.Option(help="Pairs of pictures a step.")] = 4,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "cpu",
    precision: Annotated[str, typer.Option(help="float32, bfloat16, or float16 (GPU).")] = "float32",
    seed: Annotated[int, typer.Option(help="Same seed, same training.")] = 0,
) -> None:
    """Train the learned renderer on one person's video, or fine-tune DreamTalk's."""
    if steps < 1 or pairs < 1 or not rate > 0 or seed < 0:
        raise InputError(
            f"steps and pairs must be at least 1, rate above 0 and seed 0 or more, got {steps}, {pairs}, {rate}, {seed}"
        )
    from ..config import from_dict
    from ..training.config import RendererConfig

    values = {
        name: None if path is None else str(path) for name, path in (("motion", motion), ("start", start), ("vgg", vgg))
    }
    stage = {"steps": steps, "rate": rate, "clips": pairs, "frames": 1}
    values |= {"video": str(video), "output": str(output), "size": size, "stage": stage, "seed": seed}
    config = from_dict(RendererConfig, {**values, "device": device, "precision": precision})
    from ..training.renderer import train_renderer as run

    made = _run(run, config, output)
    if made is not None:
        typer.echo(f"wrote {made.checkpoint}: " + ", ".join(f"{k} {v:.4f}" for k, v in made.measures.items()))

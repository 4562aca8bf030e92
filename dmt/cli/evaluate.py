"""`dmt evaluate`: measures of a model, each one line of JSON; measures of videos as a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ..atomic import made_folder
from ..errors import InputError
from .generate import Checkpoint

app = typer.Typer(
    help="Measure a model (one line of JSON each), or videos against their references.", no_args_is_help=True
)

Size = Annotated[int, typer.Option(help="Pixels of the square that pictures are compared at.")]
Crop = Annotated[str, typer.Option(help="none: whole pictures; face: the square around each video's face.")]
Backbone = Annotated[str | None, typer.Option("--lpips", help="LPIPS backbone: a path, or hub to download it.")]
Net = Annotated[str, typer.Option("--lpips-net", help="alex or vgg.")]
Reference = Annotated[Path, typer.Option("--reference", "-r", help="Videos of the same names to compare with.")]
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


@app.command()
def videos(
    generated: Annotated[Path, typer.Option("--generated", "-g", help="Generated videos (a folder, or one file).")],
    reference: Reference,
    output: Annotated[Path, typer.Option("--output", "-o", help="The report's folder.")] = Path("report"),
    size: Size = 256,
    crop: Crop = "none",
    landmarks: Annotated[str, typer.Option(help="auto, mediapipe, pixels or none.")] = "auto",
    lpips: Backbone = None,
    lpips_net: Net = "alex",
    syncnet: Annotated[str | None, typer.Option(help="Weights for LSE-C and LSE-D (syncnet_v2.model).")] = None,
    fid_network: Annotated[str | None, typer.Option(help="TorchScript for FID (inception-2015-12-05.pt).")] = None,
    fvd_network: Annotated[str | None, typer.Option(help="TorchScript for FVD (i3d_torchscript.pt).")] = None,
    plots: Annotated[bool, typer.Option("--plots/--no-plots", help="Whether curves are drawn.")] = True,
) -> None:
    """Every measure of videos against their references: report.md, report.json and curves."""
    from ..evaluation import EvaluationConfig, evaluate_videos, write_report
    from ..evaluation.report import as_markdown
    from .report import progress

    config = EvaluationConfig(size, crop, landmarks, lpips, lpips_net, syncnet, fid_network, fvd_network)
    config.check()
    made_folder(output)
    with progress() as report:
        found = evaluate_videos(generated, reference, config, progress=lambda d, t: report("compare", d, t))
    files = write_report(found, output, plots=plots)
    typer.echo(as_markdown(found).split("## Each video")[0].rstrip())
    typer.echo(f"\nwrote {', '.join(str(file) for file in files)}")


@app.command()
def paper(
    methods: Annotated[list[str], typer.Argument(help="METHOD=FOLDER of videos: DMT, DreamTalk, SadTalker, ...")],
    reference: Reference,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Also write paper.md and paper.json here.")
    ] = None,
    size: Size = 256,
    crop: Crop = "none",
    lpips: Backbone = None,
    lpips_net: Net = "alex",
) -> None:
    """The shape of the paper's Table 2: SSIM, LPIPS and PSNR of any methods, beside the values the paper prints."""
    from ..evaluation import EvaluationConfig, evaluate_paper
    from ..evaluation.paper import paper_markdown, parse_methods, write_paper
    from .report import progress

    config = EvaluationConfig(size, crop, "none" if crop == "none" else "auto", lpips, lpips_net)
    config.check()
    folders = parse_methods(methods)
    if output is not None:
        made_folder(output)
    with progress() as report:
        table = evaluate_paper(folders, reference, config, progress=report)
    if output is not None:
        write_paper(table, config, output)
    typer.echo(paper_markdown(table, config).rstrip())


def _check(seed: int) -> None:
    if seed < 0:
        raise InputError(f"seed must be at least 0, got {seed}")


def _print(measures: dict) -> None:
    typer.echo(json.dumps(measures))

"""`dmt generate` and `dmt demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[str, typer.Option(help="auto, cpu or cuda[:n].")]
Checkpoint = Annotated[Path | None, typer.Option(help="Model (.safetensors); default: the bundled one.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="The mp4 to write; an older one is replaced.")]
Size = Annotated[int, typer.Option(help="Width and height of the video in pixels, 64 to 2048.")]
Seed = Annotated[int, typer.Option(help="Same seed, same video.")]


def generate(
    audio: Annotated[Path, typer.Option("--audio", "-a", help="The voice: any sound or video file.")],
    output: Output,
    image: Annotated[Path | None, typer.Option("--image", "-i", help="The portrait; default: the bundled one.")] = None,
    style: Annotated[str, typer.Option(help="An emotion's name, or a style clip (.mat, .txt).")] = "neutral",
    intensity: Annotated[float, typer.Option(help="Strength of the style: 0 neutral, 1 as filmed.")] = 1.0,
    pose: Annotated[str, typer.Option(help="natural, still, or a pose file (.mat).")] = "natural",
    blink: Annotated[bool, typer.Option("--blink/--no-blink", help="Whether the lids close now and then.")] = True,
    seed: Seed = 0,
    steps: Annotated[int, typer.Option(help="Diffusion steps; must divide 1000.")] = 10,
    guidance: Annotated[float, typer.Option(help="Guidance towards the style; 1 is none.")] = 1.0,
    size: Size = 512,
    landmarks: Annotated[
        Path | None, typer.Option(help="478 face-mesh points of the portrait, instead of a detector.")
    ] = None,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
) -> None:
    """Make a portrait say what a recording says."""
    _run(
        audio,
        image,
        output,
        checkpoint,
        device,
        {
            "style": style,
            "intensity": intensity,
            "pose": pose,
            "blink": blink,
            "seed": seed,
            "steps": steps,
            "guidance": guidance,
            "size": size,
            "landmarks": landmarks,
        },
    )


def demo(
    output: Output = Path("demo.mp4"),
    style: Annotated[str, typer.Option(help="An emotion's name, or a style clip (.mat, .txt).")] = "happy",
    seed: Seed = 0,
    size: Size = 512,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
) -> None:
    """The bundled portrait says the bundled sentence."""
    from ..media import check_output
    from ..scene import asset

    check_output(output)
    _run(asset("demo.flac"), None, output, checkpoint, device, {"style": style, "seed": seed, "size": size})


def _run(
    audio: Path, image: Path | None, output: Path, checkpoint: Path | None, device: str, options: dict[str, object]
) -> None:
    from ..pipeline import load
    from .report import progress, show_result

    pipeline = load(checkpoint, device)
    with progress() as report:
        result = pipeline.generate(audio, image, output=output, report=report, **options)
    show_result(result)

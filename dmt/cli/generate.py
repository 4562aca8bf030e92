"""`dmt generate` and `dmt demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..pipeline import Pipeline

Device = Annotated[str, typer.Option(help="auto, cpu or cuda[:n].")]
Checkpoint = Annotated[
    Path | None,
    typer.Option(help="Model: ours (.safetensors), or DreamTalk's denoising_network.pth; default: the bundled one."),
]
Renderer = Annotated[
    Path | None,
    typer.Option(help="DreamTalk's learned renderer (renderer.pt); default: the warp renderer, which needs none."),
]
Wav2vec = Annotated[
    str | None,
    typer.Option(help="Hub name or folder of the wav2vec 2.0 model, for checkpoints that use a pretrained one."),
]
Output = Annotated[Path, typer.Option("--output", "-o", help="The mp4 to write; an older one is replaced.")]
Size = Annotated[
    int | None,
    typer.Option(help="Width and height of the video in pixels, 64 to 2048; default: 512, learned renderer 256."),
]
Seed = Annotated[int, typer.Option(help="Same seed, same video.")]


def generate(
    audio: Annotated[Path, typer.Option("--audio", "-a", help="The voice: any sound or video file.")],
    output: Output,
    image: Annotated[Path | None, typer.Option("--image", "-i", help="The portrait; default: the bundled one.")] = None,
    style: Annotated[str, typer.Option(help="An emotion's name, or a style clip (.mat, .txt).")] = "neutral",
    intensity: Annotated[float, typer.Option(help="Strength of the style: 0 neutral, 1 as filmed.")] = 1.0,
    pose: Annotated[str, typer.Option(help="natural, still, or a pose file (.mat).")] = "natural",
    blink: Annotated[
        bool, typer.Option("--blink/--no-blink", help="Whether the lids close now and then (warp renderer).")
    ] = True,
    seed: Seed = 0,
    steps: Annotated[int, typer.Option(help="Diffusion steps; must divide 1000.")] = 10,
    guidance: Annotated[float, typer.Option(help="Guidance towards the style; 1 is none.")] = 1.0,
    size: Size = None,
    landmarks: Annotated[
        Path | None, typer.Option(help="478 face-mesh points of the portrait, instead of a detector (warp renderer).")
    ] = None,
    checkpoint: Checkpoint = None,
    renderer: Renderer = None,
    wav2vec: Wav2vec = None,
    crop: Annotated[
        bool, typer.Option("--crop/--no-crop", help="Learned renderer: whether to cut the picture around the face.")
    ] = True,
    precision: Annotated[
        str, typer.Option(help="Learned renderer: exact (float32), or fast (16 bits, about 46 dB from it).")
    ] = "exact",
    reuse: Annotated[
        float,
        typer.Option(
            help="Learned renderer: show a frame again where the face moves less than this many times its mean "
            "movement (lossy: 1 is about 1.4 times faster at 43 dB)."
        ),
    ] = 0.0,
    watermark: Annotated[
        bool, typer.Option("--watermark/--no-watermark", help="A visible mark on every frame: AI generated.")
    ] = False,
    device: Device = "auto",
) -> None:
    """Make a portrait say what a recording says."""
    from ..pipeline import load

    _run(
        load(checkpoint, device, renderer=renderer, wav2vec=wav2vec),
        audio,
        image,
        output,
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
            "crop": crop,
            "precision": precision,
            "reuse": reuse,
            "watermark": watermark,
        },
    )


def demo(
    output: Output = Path("demo.mp4"),
    style: Annotated[str, typer.Option(help="An emotion's name, or a style clip (.mat, .txt).")] = "happy",
    seed: Seed = 0,
    size: Size = None,
    checkpoint: Checkpoint = None,
    device: Device = "auto",
) -> None:
    """The bundled portrait says the bundled sentence."""
    from ..media import check_output
    from ..pipeline import load
    from ..scene import asset

    check_output(output)
    _run(load(checkpoint, device), asset("demo.flac"), None, output, {"style": style, "seed": seed, "size": size})


def _run(pipeline: Pipeline, audio: Path, image: Path | None, output: Path, options: dict[str, object]) -> None:
    from .report import progress, show_result

    with progress() as report:
        result = pipeline.generate(audio, image, output=output, report=report, **options)
    show_result(result)

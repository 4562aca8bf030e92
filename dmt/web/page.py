"""The page: what a visitor sets on the left, what comes of it on the right."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ..errors import InputError
from ..face.styles import emotion_names
from ..memory import one_arena, traceless
from ..scene import asset
from .making import KEEP, Wishes, make, table

if TYPE_CHECKING:
    from ..pipeline import Pipeline
    from ..progress import Report

BUNDLED, OWN = "bundled portrait", "my own picture"
SENTENCE = "demo.flac"
"""The asset that a visitor without a recording can take."""
DOING = {"portrait": "listening", "motion": "drawing the first frames"}
"""What comes after these reports, until there are frames to count."""
POSES = [("natural", "natural"), ("still", "still"), ("from a file", "file")]
SIZES = (256, 384, 512, 768)
CSS = """
.gradio-container { max-width: 1180px !important; margin: auto !important; }
#title { padding: 4px 0 0 0; } #title h1 { margin-bottom: 0; }
#make { min-height: 46px; }
#times table { width: 60%; font-size: 0.9em; } #times td, #times th { padding: 2px 10px; }
footer { display: none !important; }
"""

TITLE = """# DreamTalk-DMT
A portrait and a voice become a talking video."""


@dataclass(frozen=True)
class Bounds:
    """workers: videos made at once; waiting: visitors in the queue; sound: seconds; upload: megabytes of a file."""

    workers: int = 1
    waiting: int = 20
    sound: float = 120.0
    upload: int = 50


def page(pipeline: Pipeline, folder: Path, bounds: Bounds | None = None) -> gr.Blocks:
    """The page around a pipeline, with its queue. folder: for the videos; gradio must be allowed to serve it."""
    bounds = bounds or Bounds()
    learned = pipeline.renderer is not None
    with gr.Blocks(title="DreamTalk-DMT", analytics_enabled=False, delete_cache=(round(KEEP), round(KEEP))) as blocks:
        gr.Markdown(TITLE, elem_id="title")
        with gr.Row(equal_height=False):
            with gr.Column(scale=5):
                inputs = _inputs(bounds, learned)
            with gr.Column(scale=4):
                video = gr.Video(
                    label="Video", interactive=False, autoplay=True, elem_id="video", height=420, buttons=[]
                )
                download = gr.DownloadButton("Download the mp4", interactive=False, elem_id="download")
                times = gr.Markdown("The video appears here.", elem_id="times")
        button = inputs.pop("button")

        def run(*values: Any, progress: gr.Progress = gr.Progress()) -> tuple[Any, Any, str]:  # noqa: B008
            try:
                wishes = _wishes(dict(zip(inputs, values, strict=True)), learned)
                result = traceless(make, pipeline, wishes, bounds.sound, _shown(progress), folder)
            except InputError as error:
                gr.Warning(str(error), duration=15)
                return None, gr.DownloadButton(value=None, interactive=False), f"**That did not work:** {error}"
            for note in result.notes:
                gr.Info(note)
            return str(result.path), gr.DownloadButton(value=str(result.path), interactive=True), table(result)

        button.click(lambda: "", None, times, queue=False, show_progress="hidden", api_name=False).then(
            run,
            list(inputs.values()),
            [video, download, times],
            show_progress_on=video,
            concurrency_limit=bounds.workers,
            api_name=False,
            trigger_mode="once",
        )
    return blocks.queue(max_size=bounds.waiting)


@contextmanager
def opened(
    pipeline: Pipeline, host: str = "127.0.0.1", port: int = 7860, bounds: Bounds | None = None
) -> Iterator[gr.Blocks]:
    """The page being served, its address in `local_url`; leaving ends it and removes its videos.

    port: 0 for a free one. InputError: the address cannot be listened on.
    """
    bounds = bounds or Bounds()
    with tempfile.TemporaryDirectory(prefix="dmt-web-") as folder:
        blocks = page(pipeline, Path(folder), bounds)
        try:
            blocks.launch(
                server_name=host,
                server_port=port or None,
                share=False,
                prevent_thread_lock=True,
                max_file_size=f"{bounds.upload}mb",
                theme=gr.themes.Soft(primary_hue="teal", neutral_hue="slate"),
                css=CSS,
                footer_links=[],
                allowed_paths=[str(asset(SENTENCE))],
                quiet=True,
            )
        except OSError as error:
            raise InputError(f"cannot listen on {host} port {port} ({error}); choose other ones") from None
        try:
            yield blocks
        finally:
            blocks.close(verbose=False)


def launch(pipeline: Pipeline, host: str = "127.0.0.1", port: int = 7860, bounds: Bounds | None = None) -> None:
    """Serve the page until interrupted. InputError: the address cannot be listened on."""
    one_arena()
    with opened(pipeline, host, port, bounds) as blocks:
        print(f"the page is at {blocks.local_url}", flush=True)
        threading.Event().wait()


def _wishes(values: dict[str, Any], learned: bool) -> Wishes:
    """The page's values as wishes. InputError: a picture of one's own was chosen and not sent."""
    own = values.pop("who") == OWN
    if own and values["image"] is None:
        raise InputError("a picture of your own was chosen, and none sent; upload one or take the bundled portrait")
    return Wishes(**values | {"image": values["image"] if own else None, "size": None if learned else values["size"]})


def _shown(progress: gr.Progress) -> Report:
    """Stages as one bar: frames that are encoded; before the first, what is at work. Five times a second."""
    last, encoding = 0.0, False

    def report(stage: str, done: int, total: int) -> None:
        nonlocal last, encoding
        if stage == "encode" and (time.monotonic() - last >= 0.2 or done == total):
            last, encoding = time.monotonic(), True
            progress(done / max(1, total), desc=f"frame {done} of {total}")
        elif stage in DOING and not encoding:
            progress(0, desc=DOING[stage])

    return report


def _inputs(bounds: Bounds, learned: bool) -> dict[str, Any]:
    """The components by the names of `Wishes` and `who`, and `button`."""
    audio = gr.Audio(
        label=f"Voice: any sound, at most {bounds.sound:g} s",
        sources=["upload", "microphone"],
        type="filepath",
        elem_id="audio",
        buttons=[],
    )
    sentence = gr.Button("No recording at hand? Take the bundled sentence", size="sm", elem_id="sentence")
    with gr.Row():
        with gr.Column(min_width=220):
            who = gr.Radio([BUNDLED, OWN], value=BUNDLED, label="Face", elem_id="who")
            shown = gr.Image(
                str(asset("portrait.png")),
                show_label=False,
                height=210,
                interactive=False,
                buttons=[],
                elem_id="bundled",
            )
            image = gr.Image(label="Picture", type="filepath", height=210, visible=False, elem_id="image", buttons=[])
        with gr.Column(min_width=260):
            style = gr.Dropdown(list(emotion_names()), value="neutral", label="Emotion", elem_id="style")
            intensity = gr.Slider(0, 2, 1, step=0.05, label="Strength", info="1: as filmed", buttons=[])
            pose = gr.Radio(POSES, value="natural", label="Head", elem_id="pose")
            motion = gr.File(label="Pose (.mat)", file_types=[".mat"], height=130, visible=False, elem_id="motion")
            blink = gr.Checkbox(True, label="Blink", visible=not learned)
    with gr.Accordion("More: a style clip of one's own, seed, size, watermark", open=False):
        clip = gr.File(label="Style clip (.mat, .txt), instead of the emotion", file_types=[".mat", ".txt"], height=130)
        with gr.Row():
            seed = gr.Number(0, label="Seed", precision=0, minimum=0, info="same seed, same video")
            size = gr.Dropdown(list(SIZES), value=512, label="Size (pixels)", visible=not learned)
            steps = gr.Dropdown([1, 2, 5, 10, 20, 50], value=10, label="Diffusion steps")
        watermark = gr.Checkbox(False, label="A visible mark on every frame")
    button = gr.Button("Make the video", variant="primary", elem_id="make")
    who.change(
        lambda chosen: (gr.update(visible=chosen == BUNDLED), gr.update(visible=chosen == OWN)),
        who,
        [shown, image],
        queue=False,
        api_name=False,
    )
    pose.change(lambda chosen: gr.update(visible=chosen == "file"), pose, motion, queue=False, api_name=False)
    sentence.click(lambda: str(asset(SENTENCE)), None, audio, queue=False, api_name=False)
    return {
        "audio": audio,
        "who": who,
        "image": image,
        "style": style,
        "intensity": intensity,
        "clip": clip,
        "pose": pose,
        "motion": motion,
        "blink": blink,
        "seed": seed,
        "size": size,
        "steps": steps,
        "watermark": watermark,
        "button": button,
    }

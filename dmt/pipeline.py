"""The recipe: sound and a portrait become frames, a block at a time.

`stream` is the only iterator; `generate` is stream collected into a file. Each step pulls from the one before
it, so memory does not grow with the length of the sound.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from . import media
from .checkpoint import load_model
from .driving import condition_rows, motion_pieces
from .errors import InputError
from .model import MotionModel
from .progress import Report, Stopwatch, peak_memory
from .rates import FRAME_RATE, SAMPLE_RATE
from .renderer.warp import WarpRenderer
from .scene import FilePath, Options, Scene, asset, prepare
from .types import Motion, as_device

RENDER_BLOCK = 16
"""Frames rendered at once; also how often sound is interleaved with the picture."""


@dataclass(frozen=True)
class Result:
    """What `generate` made. timings: seconds per stage; memory in bytes, None where not known."""

    path: Path
    frames: int
    seconds: float
    wall_seconds: float
    timings: dict[str, float]
    peak_memory: int | None
    peak_gpu_memory: int | None
    notes: tuple[str, ...] = field(default=())

    @property
    def real_time_factor(self) -> float:
        """Time taken over length of the video: below 1 is faster than real time."""
        return self.wall_seconds / self.seconds


def load(checkpoint: FilePath | None = None, device: str = "auto") -> Pipeline:
    """A pipeline with a trained model.

    checkpoint: a .safetensors file of ours; None or "demo" for the bundled one. device: auto, cpu, cuda[:n].
    Raises InputError: no such file, not a checkpoint, a preset without bundled weights, device not there.
    """
    where = as_device(device)
    if checkpoint is None or str(checkpoint) == "demo":
        checkpoint = asset("demo.safetensors")
    elif str(checkpoint) in ("dmt", "dreamtalk"):
        raise InputError(f"no weights are bundled for the preset {checkpoint}; give the path of a checkpoint file")
    return Pipeline(load_model(checkpoint, device=str(where)), where)


class Pipeline:
    """A model and a device; holds no state between calls."""

    def __init__(self, model: MotionModel, device: torch.device):
        self.model = model.to(device).eval()
        self.device = device

    def stream(self, audio: FilePath, image: FilePath | None = None, **options: object) -> Iterator[NDArray[np.uint8]]:
        """Frames uint8 [H, W, 3], 25 per second of sound, as they are made.

        audio: any sound or video file; image: a picture with a face, None for the bundled
        portrait; options: the fields of `Options`. All input is checked before this returns: InputError.
        """
        clock = Stopwatch(self.device)
        scene = self._scene(audio, image, Options(**options), clock)
        return (frame for block in self._blocks(scene, clock) for frame in block)

    def generate(
        self,
        audio: FilePath,
        image: FilePath | None = None,
        *,
        output: FilePath,
        report: Report | None = None,
        **options: object,
    ) -> Result:
        """The same frames with the original sound as an mp4 at `output`, which appears when it is whole.

        report: called with (stage, done, total) while the stages advance. Raises InputError as `stream`
        does, and where the output cannot be written, before any work is done.
        """
        started = time.perf_counter()
        target = media.check_output(output)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        clock = Stopwatch(self.device)
        scene = self._scene(audio, image, Options(**options), clock)
        if report is not None:
            report("audio", scene.sound.samples, scene.sound.samples)
            report("portrait", 1, 1)
        self._write(scene, target, clock, report)
        gpu = torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else None
        return Result(
            path=target,
            frames=scene.frames,
            seconds=scene.frames / FRAME_RATE,
            wall_seconds=time.perf_counter() - started,
            timings=clock.seconds,
            peak_memory=peak_memory(),
            peak_gpu_memory=gpu,
            notes=scene.notes,
        )

    def _scene(self, audio: FilePath, image: FilePath | None, options: Options, clock: Stopwatch) -> Scene:
        self.model.schedule.times(options.steps)  # says which numbers of steps there are
        return prepare(audio, image, options, clock)

    def _write(self, scene: Scene, target: Path, clock: Stopwatch, report: Report | None) -> None:
        height, width = scene.portrait.image.shape[:2]
        sound, per_frame = scene.sound, scene.sound.rate // FRAME_RATE
        voice = clock.timed(
            "audio",
            media.audio_blocks(scene.audio, RENDER_BLOCK * per_frame, rate=sound.rate, channels=sound.channels),
        )
        with media.VideoWriter(target, height, width, audio_rate=sound.rate, audio_channels=sound.channels) as writer:
            for block in self._blocks(scene, clock, report):
                heard = next(voice, None)
                with clock.stage("encode"):
                    writer.write(block)
                    if heard is not None:
                        writer.write_audio(heard)
                if report is not None:
                    report("encode", writer.frames, scene.frames)
            for heard in voice:  # the last fraction of a frame
                writer.write_audio(heard)
            with clock.stage("encode"):
                writer.finish()

    def _blocks(self, scene: Scene, clock: Stopwatch, report: Report | None = None) -> Iterator[NDArray[np.uint8]]:
        """uint8 [<= RENDER_BLOCK, H, W, 3] until all frames of the sound are shown."""
        report = report or (lambda stage, done, total: None)
        sound = clock.timed("audio", media.audio_blocks(scene.audio, SAMPLE_RATE))
        rows = clock.timed("features", condition_rows(self.model, scene, sound, report))
        motion = clock.timed("motion", motion_pieces(self.model, rows, scene, self.device, report))
        with clock.stage("render"):
            renderer = WarpRenderer(scene.portrait, self.device)
        done = 0
        for part in motion:
            for start in range(0, len(part), RENDER_BLOCK):
                some = slice(start, start + RENDER_BLOCK)
                with clock.stage("render"), torch.inference_mode():
                    piece = Motion(part.expression[some], part.pose[some], part.blink[some])
                    block = renderer.render(piece).cpu().numpy()
                done += len(block)
                report("render", done, scene.frames)
                yield block

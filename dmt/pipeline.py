"""The recipe: sound and a portrait become frames, a block at a time.

`stream` is the only iterator; `generate` is stream collected into a file. Each step pulls from the one before
it, so memory does not grow with the length of the sound.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from . import media
from .checkpoint import load_model
from .conventions import DREAMTALKS, OURS, Conventions
from .dreamtalk import load_denoiser, load_renderer
from .dreamtalk.checkpoint import is_foreign
from .dreamtalk.motion import motion_model
from .dreamtalk.watermark import stamp
from .driving import motion_pieces, scene_rows
from .errors import InputError
from .model import MotionModel
from .progress import Report, Stopwatch, peak_memory
from .provenance import provenance
from .rates import FRAME_RATE, SAMPLE_RATE
from .renderer.flow import FlowRenderer
from .renderer.flow_frames import FlowFrames
from .renderer.warp import WarpRenderer
from .scene import FilePath, Options, Scene, asset, prepare
from .types import Motion, as_device

RENDER_BLOCK = 16
"""Frames rendered at once; also how often sound is interleaved with the picture."""

LIVE_LATENCY = 0.5
"""Seconds that the speech encoder may wait for further sound, where sound comes in blocks and nothing else is said."""

Blocks = Iterable[NDArray[np.float32] | NDArray[np.int16]]
"""Sound as it comes: [n] samples at 16 kHz, mono, any n; floats of full scale 1, or int16."""


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


def load(
    checkpoint: FilePath | None = None,
    device: str = "auto",
    *,
    renderer: FilePath | None = None,
    wav2vec: str | None = None,
) -> Pipeline:
    """A pipeline with a trained model and, if one is given, DreamTalk's learned renderer; any mix of them works.

    checkpoint: a .safetensors file of ours, or DreamTalk's denoiser (`denoising_network.pth`, or converted);
    None or "demo" for the bundled model. device: auto, cpu, cuda[:n]. renderer: DreamTalk's `renderer.pt`; None:
    the warp renderer, which needs no weights. wav2vec: hub name or folder of the wav2vec 2.0 model, where the
    checkpoint uses one that it does not hold (None: the one it names).
    Raises InputError: no such file, not a checkpoint, a preset without bundled weights, wav2vec 2.0 not to be
    had or not used, device not there.
    """
    where = as_device(device)
    if checkpoint is None or str(checkpoint) == "demo":
        checkpoint = asset("demo.safetensors")
    elif str(checkpoint) in ("dmt", "dreamtalk"):
        raise InputError(f"no weights are bundled for the preset {checkpoint}; give the path of a checkpoint file")
    learned = None if renderer is None else load_renderer(renderer)
    if is_foreign(checkpoint):
        return Pipeline(
            motion_model(load_denoiser(checkpoint), wav2vec),
            where,
            renderer=learned,
            conventions=DREAMTALKS,
            checkpoint=checkpoint,
        )
    model = load_model(checkpoint)
    if wav2vec is not None:
        _use_wav2vec(model, wav2vec)
    return Pipeline(model, where, renderer=learned, checkpoint=checkpoint)


def _use_wav2vec(model: MotionModel, wav2vec: str) -> None:
    if model.config.speech.pretrained is None:
        raise InputError(
            f"this checkpoint holds its own speech encoder, so wav2vec {wav2vec!r} has no use; leave it out"
        )
    model.config = replace(model.config, speech=replace(model.config.speech, pretrained=wav2vec))


class Pipeline:
    """A model, a renderer and a device; holds no state between calls.

    renderer: DreamTalk's learned one; None: the warp renderer. conventions: DREAMTALKS for DreamTalk's denoiser.
    checkpoint: the file the model came from, whose hash the videos name; None: it is not known.
    Pretrained speech features that the model uses are loaded here: InputError where they cannot be had.
    """

    def __init__(
        self,
        model: MotionModel,
        device: torch.device,
        *,
        renderer: FlowRenderer | None = None,
        conventions: Conventions = OURS,
        checkpoint: FilePath | None = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.model = model.to(device).eval()
        self.device = device
        self.renderer = None if renderer is None else renderer.to(device).eval()
        self.conventions = conventions
        _ = self.model.features

    def stream(
        self,
        audio: FilePath | Blocks,
        image: FilePath | None = None,
        *,
        latency: float | None = None,
        **options: object,
    ) -> Iterator[NDArray[np.uint8]]:
        """Frames uint8 [H, W, 3], 25 per second of sound, as they are made.

        audio: any sound or video file, or blocks of samples as they come; image: a picture with a face, None for
        the bundled portrait; options: the fields of `Options`.
        latency: seconds that the speech encoder waits for further sound before it encodes what it has; a frame comes
        at most that and 0.1 s after its sound (0.6 s under the learned renderer, which looks 13 frames ahead), the
        time for computing not counted. The less, the less each word is heard in its context. None: LIVE_LATENCY for
        blocks; for a file whatever gives the best features (up to a minute is heard before the first frame). With
        the same latency a file and blocks of the same samples give the same frames.
        All input but the blocks is checked before this returns: InputError.
        """
        clock = Stopwatch(self.device)
        file = isinstance(audio, str | os.PathLike)
        latency = LIVE_LATENCY if latency is None and not file else latency
        scene = self._scene(audio if file else None, image, Options(**options), clock, latency=latency)
        blocks = self._blocks(scene, self._prepared(scene, clock), clock, sound=None if file else audio)
        return (frame for block in blocks for frame in block)

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

    def _scene(
        self,
        audio: FilePath | None,
        image: FilePath | None,
        options: Options,
        clock: Stopwatch,
        latency: float | None = None,
    ) -> Scene:
        self.model.schedule.times(options.steps)  # says which numbers of steps there are
        learned = self.renderer is not None
        return prepare(audio, image, options, self.conventions, learned=learned, latency=latency, clock=clock)

    def _prepared(self, scene: Scene, clock: Stopwatch) -> WarpRenderer | FlowFrames:
        """The renderer with all that is computed once per portrait."""
        with clock.stage("render"):
            if self.renderer is None:
                return WarpRenderer(scene.portrait, self.device)
            options = scene.options
            return FlowFrames(self.renderer, scene.picture, self.device, options.precision, options.reuse)

    def _write(self, scene: Scene, target: Path, clock: Stopwatch, report: Report | None) -> None:
        height, width = scene.picture.shape[:2]
        sound, per_frame = scene.sound, scene.sound.rate // FRAME_RATE
        voice = clock.timed(
            "audio",
            media.audio_blocks(scene.audio, RENDER_BLOCK * per_frame, rate=sound.rate, channels=sound.channels),
        )
        renderer = self._prepared(scene, clock)
        tags = provenance(scene.options, self.checkpoint)
        with media.VideoWriter(
            target, height, width, audio_rate=sound.rate, audio_channels=sound.channels, tags=tags
        ) as writer:
            for block in self._blocks(scene, renderer, clock, report):
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

    def _blocks(
        self,
        scene: Scene,
        renderer: WarpRenderer | FlowFrames,
        clock: Stopwatch,
        report: Report | None = None,
        sound: Blocks | None = None,
    ) -> Iterator[NDArray[np.uint8]]:
        """uint8 [t, H, W, 3], t about RENDER_BLOCK, until all frames are shown.

        sound: blocks as they come; None for the scene's file.
        """
        report = report or (lambda stage, done, total: None)
        heard = media.audio_blocks(scene.audio, SAMPLE_RATE) if sound is None else map(media.to_float, sound)
        rows = clock.timed("features", scene_rows(self.model, scene, clock.timed("audio", heard), report))
        motion = clock.timed("motion", motion_pieces(self.model, rows, scene, report))
        done = 0
        for frames in clock.timed("render", renderer.stream(_render_blocks(motion))):
            done += len(frames)
            report("render", done, scene.frames or done)
            shown = frames.cpu().numpy()
            yield stamp(shown) if scene.options.watermark else shown


def _render_blocks(motions: Iterable[Motion]) -> Iterator[Motion]:
    """The same motion in pieces of at most RENDER_BLOCK frames."""
    for motion in motions:
        for start in range(0, len(motion), RENDER_BLOCK):
            some = slice(start, start + RENDER_BLOCK)
            yield Motion(motion.expression[some], motion.pose[some], motion.blink[some])

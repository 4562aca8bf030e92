"""Everything that is known before the first frame is made: options, sound, picture, style and pose, all checked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from . import media
from .conventions import Conventions, generator
from .dreamtalk.crop import SIZE, framed_portrait
from .errors import InputError
from .face.landmarks import load_portrait
from .face.pose import HeldPose, NaturalPose, PoseClip, StillPose, load_pose
from .face.styles import load_style
from .features.chunks import Chunking
from .progress import Stopwatch
from .renderer.flow_reuse import TemporalReuse
from .types import Portrait, StyleClip

FilePath = str | os.PathLike[str]

ASSETS = (
    "demo.safetensors",
    "demo.flac",
    "portrait.png",
    "portrait_landmarks.npz",
    "styles.npz",
    "landmark_basis.npz",
    "emotion_statistics.npz",
)
"""Bundled with the package, in dmt/assets."""

SILENT = 1e-4
"""Peaks below this (-80 dB) are called silence."""

WARP_SIZE = 512
"""Pixels of a side that the warp renderer makes unless told otherwise."""


@dataclass(frozen=True)
class Options:
    """How the face acts. Every default is what `dmt generate` does without flags.

    style: a .mat or .txt clip, or an emotion's name; intensity: 0 neutral, 1 as filmed;
    pose: a .mat file, `natural` or `still`; blink: lids close now and then (warp renderer only: the
    learned one knows no lids); seed: all randomness of the result; steps: of the sampler, divides
    1000; guidance: 1 none; size: pixels of the square picture (None: 512, learned renderer 256).

    Of the warp renderer: landmarks, a file that replaces the detector. Of the learned renderer: crop,
    DreamTalk's crop around the face (False: the picture already is 256 x 256); precision, `exact` or
    `fast`; reuse, above 0 a frame is shown again where the face moves less than this many times its
    mean movement (renderer/flow_frames.py and flow_reuse.py state the errors of both).

    watermark: every frame bears a visible mark that says a machine made it.
    """

    style: FilePath = "neutral"
    intensity: float = 1.0
    pose: FilePath = "natural"
    blink: bool = True
    seed: int = 0
    steps: int = 10
    guidance: float = 1.0
    size: int | None = None
    landmarks: FilePath | None = None
    crop: bool = True
    precision: str = "exact"
    reuse: float = 0.0
    watermark: bool = False


@dataclass(frozen=True)
class Scene:
    """A performance to be made.

    audio, sound, frames: the recording, what is known of it, and the frames it makes; all None where the
    sound has not been heard yet. picture: uint8 RGB [H, W, 3]; portrait: the same with landmarks, None
    under the learned renderer. chunking: how the sound is cut for the speech encoder; None: as its model says.
    """

    audio: FilePath | None
    sound: media.SoundInfo | None
    frames: int | None
    picture: NDArray[np.uint8]
    portrait: Portrait | None
    style: StyleClip
    options: Options
    conventions: Conventions
    notes: tuple[str, ...]
    chunking: Chunking | None = None


def prepare(
    audio: FilePath | None,
    image: FilePath | None,
    options: Options,
    conventions: Conventions,
    *,
    learned: bool = False,
    latency: float | None = None,
    clock: Stopwatch | None = None,
) -> Scene:
    """Read and check all input. Raises InputError, with one sentence, for whatever is wrong first.

    audio: None where the sound comes later; learned: for the learned renderer; latency: seconds, see `Pipeline.stream`.
    """
    clock = clock or Stopwatch()
    _check(options)
    _check_renderer(options, learned)
    chunking = None if latency is None else _low_latency(latency)
    with clock.stage("audio"):
        sound = None if audio is None else media.check_audio(audio)
    frames = None if sound is None else conventions.frames(sound.samples)
    if frames == 0:
        raise InputError(f"{audio} is too short: one frame of this model needs 45 ms of sound")
    with clock.stage("portrait"):
        portrait = None if learned else _portrait(image, options)
        picture = _learned_portrait(image, options) if learned else portrait.image
    style = load_style(options.style, options.intensity)
    pose_source(options, conventions)  # a wrong file is found now, not after the features
    notes = () if portrait is None else portrait.notes
    if sound is not None and sound.peak < SILENT:
        notes += (f"{audio} is silent: the face will rest",)
    return Scene(audio, sound, frames, picture, portrait, style, options, conventions, notes, chunking)


def asset(name: str) -> Path:
    """A file of dmt/assets; InputError where this installation lacks it."""
    path = Path(str(files("dmt") / "assets" / name))
    if not path.is_file():
        raise InputError(f"the bundled file {name} is missing from this installation; install the package again")
    return path


def _check(options: Options) -> None:
    """The ranges of the numbers; InputError names the first that is outside."""
    if not 0 <= options.seed < 2**60:
        raise InputError(f"seed must lie in 0 .. 2^60 - 1, got {options.seed}")
    if options.size is not None and not 64 <= options.size <= 2048:
        raise InputError(f"size must lie in 64 .. 2048 pixels, got {options.size}")
    if not 0 <= options.guidance <= 20:
        raise InputError(f"guidance must lie in 0 .. 20 (1: none), got {options.guidance}")
    if options.precision not in ("exact", "fast"):
        raise InputError(f"precision must be exact or fast, got {options.precision!r}")
    TemporalReuse(options.reuse)


def _check_renderer(options: Options, learned: bool) -> None:
    """InputError for options that the renderer in use does not have: they must not be ignored silently."""
    if learned:
        if options.size not in (None, SIZE):
            raise InputError(
                f"the learned renderer makes {SIZE} x {SIZE} pictures, got size {options.size}; leave it out"
            )
        if options.landmarks is not None:
            raise InputError(
                "landmarks are for the warp renderer; the learned renderer does not use them, leave them out"
            )
    elif options.precision != "exact" or options.reuse or not options.crop:
        raise InputError("precision, reuse and crop are for the learned renderer; give its file as renderer")


def _low_latency(seconds: float) -> Chunking:
    if not 0.04 <= seconds <= 60:
        raise InputError(f"latency must lie in 0.04 .. 60 seconds, got {seconds}")
    return Chunking.low_latency(seconds)


def _portrait(image: FilePath | None, options: Options) -> Portrait:
    size = options.size or WARP_SIZE
    if image is None:
        return load_portrait(asset("portrait.png"), landmarks=asset("portrait_landmarks.npz"), size=size)
    return load_portrait(image, landmarks=options.landmarks, size=size)


def _learned_portrait(image: FilePath | None, options: Options) -> NDArray[np.uint8]:
    return framed_portrait(asset("portrait.png") if image is None else image, crop=options.crop)


def pose_source(options: Options, conventions: Conventions) -> NaturalPose | StillPose | PoseClip | HeldPose:
    """The head's movement, streamed by `.next(frames)`; InputError for a file that is no pose."""
    if options.pose == "natural":
        return NaturalPose(generator(options.seed, 1))
    if options.pose == "still":
        return StillPose()
    if not os.path.exists(options.pose):
        raise InputError(f"no pose {options.pose}: expected natural, still, or the path of a .mat file")
    return conventions.pose(load_pose(options.pose))

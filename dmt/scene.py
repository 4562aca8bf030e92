"""Everything that is known before the first frame is made: options, sound, portrait, style and pose, all checked."""

from __future__ import annotations

import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch

from . import media
from .errors import InputError
from .face.landmarks import load_portrait
from .face.pose import NaturalPose, PoseClip, StillPose, load_pose
from .face.styles import load_style
from .progress import Stopwatch
from .types import Portrait, StyleClip, frames_for

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


@dataclass(frozen=True)
class Options:
    """How the face acts. Every default is what `dmt generate` does without flags.

    style: a .mat or .txt clip, or an emotion's name; intensity: 0 neutral, 1 as filmed;
    pose: a .mat file, `natural` or `still`; blink: lids close now and then; seed: all
    randomness of the result; steps: of the sampler, divides 1000; guidance: 1 none;
    size: pixels of the square picture; landmarks: a file that replaces the detector.
    """

    style: FilePath = "neutral"
    intensity: float = 1.0
    pose: FilePath = "natural"
    blink: bool = True
    seed: int = 0
    steps: int = 10
    guidance: float = 1.0
    size: int = 512
    landmarks: FilePath | None = None


@dataclass(frozen=True)
class Scene:
    """A performance to be made; `sound` and `frames` are of the whole recording."""

    audio: FilePath
    sound: media.SoundInfo
    frames: int
    portrait: Portrait
    style: StyleClip
    options: Options
    notes: tuple[str, ...]


def prepare(audio: FilePath, image: FilePath | None, options: Options, clock: Stopwatch | None = None) -> Scene:
    """Read and check all input. Raises InputError, with one sentence, for whatever is wrong first."""
    clock = clock or Stopwatch()
    _check(options)
    with clock.stage("audio"):
        sound = media.check_audio(audio)
    with clock.stage("portrait"):
        portrait = _portrait(image, options)
    style = load_style(options.style, options.intensity)
    pose_source(options)  # a wrong file is found now, not after the features
    notes = portrait.notes
    if sound.peak < SILENT:
        notes += (f"{audio} is silent: the face will rest",)
    return Scene(audio, sound, frames_for(sound.samples), portrait, style, options, notes)


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
    if not 64 <= options.size <= 2048:
        raise InputError(f"size must lie in 64 .. 2048 pixels, got {options.size}")
    if not 0 <= options.guidance <= 20:
        raise InputError(f"guidance must lie in 0 .. 20 (1: none), got {options.guidance}")


def _portrait(image: FilePath | None, options: Options) -> Portrait:
    if image is None:
        return load_portrait(asset("portrait.png"), landmarks=asset("portrait_landmarks.npz"), size=options.size)
    return load_portrait(image, landmarks=options.landmarks, size=options.size)


def pose_source(options: Options) -> NaturalPose | StillPose | PoseClip:
    """The head's movement, streamed by `.next(frames)`; InputError for a file that is no pose."""
    if options.pose == "natural":
        return NaturalPose(generator(options.seed, 1))
    if options.pose == "still":
        return StillPose()
    if not os.path.exists(options.pose):
        raise InputError(f"no pose {options.pose}: expected natural, still, or the path of a .mat file")
    return PoseClip(load_pose(options.pose))


def generator(seed: int, stream: int) -> torch.Generator:
    """Independent randomness for noise, pose and blinks: changing one flag leaves the others as they were."""
    return torch.Generator().manual_seed(4 * seed + stream)

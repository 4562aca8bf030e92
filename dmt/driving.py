"""From sound to motion, a block at a time: what the pipeline drives the portrait with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from .conventions import Sound, generator
from .diffusion import SmoothNoise
from .face.pose import Blinks
from .features import rows_for
from .features.chunks import Chunking
from .features.extractor import Statistics
from .features.windows import REACH
from .media import audio_blocks
from .model import MotionModel
from .progress import Report
from .rates import ROWS_PER_FRAME, SAMPLE_RATE
from .scene import Scene, pose_source
from .types import Motion, StyleClip

MOTION_BLOCK = 64
"""Frames whose coefficients are sampled at once."""


@torch.inference_mode()
def condition_rows(
    model: MotionModel, sound: Sound, *, chunking: Chunking | None = None, statistics: Statistics | None = None
) -> Iterator[Tensor]:
    """Blocks of 16 kHz sound -> condition rows [1, r, D], 50 per second, consecutive.

    chunking: how the sound is cut (None: as the model says); statistics: what it is normalised by (None: see
    `FeatureExtractor.stream`).
    """
    for features in model.features.stream(sound, chunking=chunking, statistics=statistics):
        yield model.condition(features)


@torch.inference_mode()
def expression_pieces(
    model: MotionModel,
    rows: Iterable[Tensor],
    style: StyleClip,
    noise: SmoothNoise,
    *,
    steps: int = 10,
    guidance: float = 1.0,
    least: int = MOTION_BLOCK,
) -> Iterator[Tensor]:
    """Condition rows -> consecutive coefficients [t, 64], t <= MOTION_BLOCK.

    least: frames waited for, see `portions`. The frames of all pieces are those of all rows at once.
    """
    for held, frames in portions(rows, least):
        start = noise.next(len(frames))[None].to(held.device)
        yield model.sample(held, style, frames=frames, steps=steps, guidance=guidance, noise=start)[0]


def scene_rows(model: MotionModel, scene: Scene, sound: Sound, report: Report) -> Iterator[Tensor]:
    """The condition rows of a scene whose sound comes in blocks."""
    total = None if scene.sound is None else rows_for(scene.sound.samples)
    done, heard = 0, scene.conventions.sound(sound)
    for rows in condition_rows(model, heard, chunking=scene.chunking, statistics=_statistics(model, scene)):
        done += rows.shape[1]
        report("features", min(done, total or done), total or done)
        yield rows


def _statistics(model: MotionModel, scene: Scene) -> Statistics | None:
    """A recording too long to be encoded at once is read an extra time for what it is normalised by."""
    if scene.chunking is not None or scene.sound is None:
        return None
    return recording_statistics(
        model, scene.sound.samples, scene.conventions.sound(audio_blocks(scene.audio, SAMPLE_RATE))
    )


def recording_statistics(model: MotionModel, samples: int, sound: Sound) -> Statistics | None:
    """What a whole recording of so many samples is normalised by; None where it is encoded at once anyway."""
    if rows_for(samples) <= model.features.chunking.whole:
        return None
    return model.features.measure(sound)


def motion_pieces(model: MotionModel, rows: Iterable[Tensor], scene: Scene, report: Report) -> Iterator[Motion]:
    """Consecutive pieces of at most MOTION_BLOCK frames; how they are cut does not change them.

    A scene with a latency makes every frame as soon as its rows are there.
    """
    options = scene.options
    pose, blinks = pose_source(options, scene.conventions), Blinks(generator(options.seed, 2))
    pieces = expression_pieces(
        model,
        rows,
        scene.style,
        scene.conventions.noise(options.seed),
        steps=options.steps,
        guidance=options.guidance,
        least=MOTION_BLOCK if scene.chunking is None else 1,
    )
    done = 0
    for expression in pieces:
        count, device = len(expression), expression.device
        blink = blinks.next(count) if options.blink else torch.zeros(count)
        done += count
        report("motion", done, scene.frames or done)
        yield Motion(expression, pose.next(count).to(device), blink.to(device))


def portions(rows: Iterable[Tensor], least: int = MOTION_BLOCK) -> Iterator[tuple[Tensor, range]]:
    """Pieces of rows [1, r, D] -> (rows [1, R', D], frames to make of them, at most MOTION_BLOCK), in order.

    A portion is handed out once `least` further frames have all the rows they see (fewer at the end); R rows make
    R // 2 frames in all. R' holds every row that those frames see; only rows that a later frame sees are kept.
    """
    held: Tensor | None = None
    dropped = made = 0  # frames whose first row has been let go; frames handed out
    for piece in rows:
        held = piece if held is None else torch.cat([held, piece], dim=1)
        complete = dropped + (held.shape[1] - REACH + 1) // ROWS_PER_FRAME
        while complete - made >= least:
            last = min(complete, made + MOTION_BLOCK)
            yield held, range(made - dropped, last - dropped)
            spent = max(0, last - dropped - REACH)  # the next frame sees back REACH rows; that many frames are enough
            held, dropped, made = held[:, ROWS_PER_FRAME * spent :], dropped + spent, last
    total = dropped + (0 if held is None else held.shape[1] // ROWS_PER_FRAME)
    for first in range(made, total, MOTION_BLOCK):
        yield held, range(first - dropped, min(first + MOTION_BLOCK, total) - dropped)

"""From sound to motion, a block at a time: what the pipeline drives the portrait with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .diffusion import SmoothNoise
from .face.pose import Blinks
from .features import FeatureExtractor, rows_for
from .features.extractor import Statistics
from .features.windows import REACH, pad_blocks
from .media import audio_blocks
from .model import MotionModel
from .progress import Report
from .rates import ROWS_PER_FRAME, SAMPLE_RATE
from .scene import Scene, generator, pose_source
from .types import Motion

MOTION_BLOCK = 64
"""Frames whose coefficients are sampled at once."""


@torch.inference_mode()
def condition_rows(
    model: MotionModel, scene: Scene, sound: Iterable[NDArray[np.float32]], report: Report
) -> Iterator[Tensor]:
    """Blocks of 16 kHz sound -> condition rows [1, r, D], 50 per second, consecutive, all that the frames need."""
    extractor, done, total = model.features, 0, rows_for(scene.sound.samples)
    for features in extractor.stream(pad_blocks(sound), statistics=_statistics(extractor, scene)):
        rows = model.condition(features)
        done += rows.shape[1]
        report("features", min(done, total), total)
        yield rows


def _statistics(extractor: FeatureExtractor, scene: Scene) -> Statistics | None:
    """A recording too long to be encoded at once is read an extra time for what it is normalised by."""
    if rows_for(scene.sound.samples) <= extractor.chunking.whole:
        return None
    return extractor.measure(audio_blocks(scene.audio, SAMPLE_RATE))


@torch.inference_mode()
def motion_pieces(
    model: MotionModel, rows: Iterable[Tensor], scene: Scene, device: torch.device, report: Report
) -> Iterator[Motion]:
    """Consecutive pieces of at most MOTION_BLOCK frames; how they are cut does not change them."""
    options = scene.options
    noise = SmoothNoise(generator(options.seed, 0))
    pose, blinks = pose_source(options), Blinks(generator(options.seed, 2))
    done = 0
    for held, frames in portions(rows, scene.frames):
        count = len(frames)
        expression = model.sample(
            held,
            scene.style,
            frames=frames,
            steps=options.steps,
            guidance=options.guidance,
            noise=noise.next(count)[None].to(device),
        )[0]
        blink = blinks.next(count) if options.blink else torch.zeros(count)
        done += count
        report("motion", done, scene.frames)
        yield Motion(expression, pose.next(count).to(device), blink.to(device))


def portions(rows: Iterable[Tensor], frames: int) -> Iterator[tuple[Tensor, range]]:
    """Pieces of rows [1, r, D] -> (rows [1, R', D], frames to make of them, at most MOTION_BLOCK), in order.

    R' holds every row that those frames see, as far as it exists; only rows that a later frame sees are kept.
    """
    source = iter(rows)
    held: Tensor | None = None
    dropped = 0  # frames whose first row has been let go
    for first in range(0, frames, MOTION_BLOCK):
        last = min(frames, first + MOTION_BLOCK)
        needed = ROWS_PER_FRAME * (last - 1 - dropped) + REACH + 1
        held = _filled(held, source, needed)
        yield held, range(first - dropped, last - dropped)
        spent = max(0, last - dropped - REACH)  # the next frame sees back REACH rows; that many frames are enough
        held, dropped = held[:, ROWS_PER_FRAME * spent :], dropped + spent
    for _ in source:  # read on past the last frame, so that a fault at the very end is found
        pass


def _filled(held: Tensor | None, source: Iterator[Tensor], needed: int) -> Tensor:
    """`held` with pieces from `source` behind it until it has `needed` rows or the source ends."""
    pieces = [] if held is None else [held]
    count = sum(piece.shape[1] for piece in pieces)
    while count < needed and (piece := next(source, None)) is not None:
        pieces.append(piece)
        count += piece.shape[1]
    return torch.cat(pieces, dim=1)

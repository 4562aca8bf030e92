"""From sound to motion, a block at a time: what the pipeline drives the portrait with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .diffusion import MotionNoise
from .face.pose import Blinks
from .features import rows_for, windows
from .model import MotionModel
from .progress import Report
from .rates import ROWS_PER_FRAME, WINDOW
from .scene import Scene, generator, pose_source
from .types import Motion, StyleClip

MOTION_BLOCK = 64
"""Frames whose coefficients are sampled at once."""


@torch.inference_mode()
def condition_rows(
    model: MotionModel, sound: Iterable[NDArray[np.float32]], samples: int, device: torch.device, report: Report
) -> Iterator[Tensor]:
    """Blocks of sound -> condition rows [1, r, D], 50 per second, consecutive. samples: of the whole sound."""
    done, total = 0, rows_for(samples)
    blocks = (torch.from_numpy(block).to(device) for block in sound)
    for features in model.features.stream(blocks):
        rows = model.condition(features)
        done += rows.shape[1]
        report("features", done, total)
        yield rows


@torch.inference_mode()
def motion_pieces(
    model: MotionModel, rows: Iterable[Tensor], scene: Scene, device: torch.device, report: Report
) -> Iterator[Motion]:
    """Consecutive pieces of at most MOTION_BLOCK frames; how they are cut does not change them."""
    options = scene.options
    noise = MotionNoise(generator(options.seed, 0))
    pose, blinks = pose_source(options), Blinks(generator(options.seed, 2))
    style = StyleClip(scene.style.coefficients.to(device), scene.style.padding.to(device))
    done = 0
    for window in frame_windows(rows, scene.frames):
        frames = window.shape[1]
        expression = model.sample(
            window,
            style,
            steps=options.steps,
            guidance=options.guidance,
            noise=noise.next(frames)[None].to(device),
        )[0]
        blink = blinks.next(frames) if options.blink else torch.zeros(frames)
        done += frames
        report("motion", done, scene.frames)
        yield Motion(expression, pose.next(frames).to(device), blink.to(device))


def frame_windows(rows: Iterable[Tensor], frames: int) -> Iterator[Tensor]:
    """Rows [1, r, D] as they come -> windows [1, n, 11, D], n <= MOTION_BLOCK, of `frames` frames in all.

    Only the rows that a later window needs are kept; beyond both ends rows are zero.
    """
    source = iter(rows)
    held = next(source)
    dropped = 0  # rows already let go; even, so that a frame's first row stays a frame's first row
    for first in range(0, frames, MOTION_BLOCK):
        count = min(MOTION_BLOCK, frames - first)
        needed = ROWS_PER_FRAME * (first + count - 1) + WINDOW // 2 + 1
        more = [held]
        have = dropped + held.shape[1]
        while have < needed and (piece := next(source, None)) is not None:
            more.append(piece)
            have += piece.shape[1]
        held = torch.cat(more, dim=1)
        yield windows(held, first - dropped // ROWS_PER_FRAME, count)
        spent = max(dropped, ROWS_PER_FRAME * (first + count) - WINDOW // 2 - 1)
        spent -= spent % ROWS_PER_FRAME
        held, dropped = held[:, spent - dropped :], spent
    for _ in source:  # rows past the last frame: read on, so that a fault at the very end is reported
        pass

"""How soon after a voice begins the face begins to move: sound that has to be heard, and work until the first frame.

from dmt.bench.first_frame import first_frame
print(first_frame(dmt.load(), samples, latency=0.4))
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..pipeline import LIVE_LATENCY, Pipeline
from ..rates import FRAME_RATE, SAMPLE_RATE
from ..scene import FilePath


@dataclass(frozen=True)
class FirstFrame:
    """heard: seconds of sound that had come before the first frame could be made; computed: seconds from the last of
    them to the frame; keeping_up: seconds of work per second of sound over the whole stream (below 1: it keeps up).

    A listener sees the first frame `heard + computed` after the voice begins.
    """

    heard: float
    computed: float
    keeping_up: float

    @property
    def seconds(self) -> float:
        return self.heard + self.computed


def first_frame(
    pipeline: Pipeline,
    samples: NDArray[np.float32],
    image: FilePath | None = None,
    *,
    latency: float = LIVE_LATENCY,
    block: int = 320,
    **options: object,
) -> FirstFrame:
    """Send sound [S] (16 kHz) in blocks of `block` samples, each as soon as the last is used, and time the frames.

    Blocks that come in real time would leave the program waiting in between, so `computed` is what it would be then.
    The portrait is prepared before the first block, as it is before a conversation. options: as `Pipeline.stream`.
    """
    sent, last = 0, 0.0

    def blocks() -> Iterator[NDArray[np.float32]]:
        nonlocal sent, last
        for start in range(0, len(samples), block):
            sent, last = min(len(samples), start + block), time.perf_counter()
            yield samples[start : start + block]

    frames = pipeline.stream(blocks(), image, latency=latency, **options)
    began = time.perf_counter()
    next(frames)
    computed, heard = time.perf_counter() - last, sent / SAMPLE_RATE
    shown = 1 + sum(1 for _ in frames)
    return FirstFrame(heard, computed, (time.perf_counter() - began) * FRAME_RATE / shown)

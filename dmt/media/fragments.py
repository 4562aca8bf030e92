"""An mp4 that is watched while it is made: fragments of a fifth of a second, in memory."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ..rates import FRAME_RATE, SAMPLE_RATE
from .writing import Encoder

FRAGMENT = 0.2
"""Seconds of picture in a fragment."""

_LIVE = {"tune": "zerolatency", "g": str(FRAME_RATE)}
"""No frame waits for a later one; a player can begin at every second."""


class FragmentWriter:
    """H.264 + AAC as fragmented mp4 (ISO BMFF with `moof` boxes), as Media Source Extensions and ffplay take it.

    height, width: of the frames; sound is 16 kHz mono. Each call of `write` hands out the bytes that have become
    whole, possibly none; the concatenation of all of them, `finish` included, is a file that any player opens.
    """

    def __init__(self, height: int, width: int) -> None:
        self._sink = _Sink()
        flags = "delay_moov+default_base_moof+frag_keyframe"  # delayed: it tells what AAC adds in front
        self._container = av.open(
            self._sink, "w", format="mp4", options={"movflags": flags, "frag_duration": str(round(1e6 * FRAGMENT))}
        )
        self._encoder = Encoder(self._container, height, width, FRAME_RATE, SAMPLE_RATE, options=_LIVE)

    def write(self, frame: NDArray[np.uint8], sound: NDArray[np.float32]) -> bytes:
        """Append one frame uint8 [H, W, 3] and its sound float32 [n]; returns the bytes that are now whole."""
        self._encoder.write(frame[None])
        self._encoder.write_audio(sound)
        return self._sink.take()

    def finish(self, sound: NDArray[np.float32]) -> bytes:
        """The rest of the file, `sound` (float32 [n], may be empty) at its end."""
        self._encoder.write_audio(sound)
        self._encoder.flush()
        self._container.close()
        return self._sink.take()

    def close(self) -> None:
        """Give up what is not finished; after `finish` nothing happens."""
        with suppress(av.FFmpegError, OSError):
            self._container.close()


class _Sink:
    """A file object that PyAV writes to; it cannot seek, so nothing that has been taken is ever changed."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def write(self, data: Any) -> int:
        self._bytes += data
        return len(data)

    def take(self) -> bytes:
        taken = bytes(self._bytes)
        self._bytes.clear()
        return taken

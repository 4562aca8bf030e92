"""Films to look at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest


@pytest.fixture
def film(tmp_path) -> Callable[..., Path]:
    """Writes a film whose pictures have the given times in seconds."""

    def write(times: Sequence[float], pictures: Sequence[np.ndarray] | None = None, name: str = "film.mp4") -> Path:
        pictures = pictures or [np.full((64, 64, 3), 10 * (k % 20), np.uint8) for k in range(len(times))]
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast"})
            stream.height, stream.width = pictures[0].shape[:2]
            stream.pix_fmt = "yuv420p"
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
            for time, picture in zip(times, pictures, strict=False):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        return tmp_path / name

    return write

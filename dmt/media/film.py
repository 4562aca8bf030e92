"""Reading a film for what it shows and when: upright pictures with their times, one at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from .reading import _open, _reason

FASTEST = 60.0
"""Pictures a second that are read at most; of faster films some are left out."""


@dataclass(frozen=True)
class FilmInfo:
    """What the header of a film says. rate: pictures per second, seconds: length (0 where not known);
    height, width: of the upright pictures; codec: its name."""

    rate: float
    seconds: float
    height: int
    width: int
    codec: str

    @property
    def pictures(self) -> int:
        """How many pictures `film_pictures` will about yield; 0 where not known."""
        return round(self.seconds * min(self.rate, FASTEST))


def film_info(path: str | os.PathLike[str]) -> FilmInfo:
    """The header of a film and its first picture. InputError: no such file, no picture track, damaged."""
    with _open(path) as container:
        track = _picture_track(container, path)
        seconds = _seconds(container, track)
        rate, codec = float(track.average_rate or track.guessed_rate or 0), track.codec_context.name
    first = next(film_pictures(path), None)
    if first is None:
        raise InputError(f"{path} holds no picture that can be decoded; export the video again")
    height, width = first[1].shape[:2]
    return FilmInfo(rate, seconds, height, width, codec)


def film_pictures(path: str | os.PathLike[str]) -> Iterator[tuple[float, NDArray[np.uint8]]]:
    """(seconds since the first picture, uint8 RGB [H, W, 3]) in order of time, at most `FASTEST` a second.

    Upright (rotation in the file's metadata applied) and with square pixels. A variable frame rate shows in
    the times, which strictly increase. InputError: no such file, no picture track, damaged.
    """
    with _open(path) as container:
        track = _picture_track(container, path)
        track.thread_type = "AUTO"
        start, last = None, -1.0
        try:
            for index, frame in enumerate(container.decode(track)):
                time = frame.time if frame.time is not None else index / float(track.average_rate or 25)
                start = time if start is None else start
                # A little less than the period: rounded time stamps must not cost every other picture.
                if last >= 0 and time - start - last < 0.9 / FASTEST:
                    continue
                last = time - start
                yield last, _upright(frame, track)
        except (av.FFmpegError, ValueError) as error:
            where = f"{max(last, 0.0):.1f} s into its pictures"
            raise InputError(f"{path} is damaged {where} ({_reason(error)}); export or copy it again") from None


def _picture_track(container: Any, path: str | os.PathLike[str]) -> Any:
    """The first track of moving pictures; a cover picture in a sound file is none."""
    for track in container.streams.video:
        if not track.disposition & av.stream.Disposition.attached_pic:
            if track.codec_context is None:
                raise InputError(f"the pictures of {path} are in no form known here; export the video as mp4")
            return track
    raise InputError(f"no picture track in {path}: a video was expected")


def _seconds(container: Any, track: Any) -> float:
    if track.duration and track.time_base:
        return float(track.duration * track.time_base)
    return container.duration / av.time_base if container.duration else 0.0


def _upright(frame: Any, track: Any) -> NDArray[np.uint8]:
    aspect = float(track.sample_aspect_ratio or 1)
    width = max(2, round(frame.width * aspect)) if 0.1 < aspect < 10 else frame.width
    picture = frame.to_ndarray(format="rgb24", width=width, height=frame.height)
    turns = round(frame.rotation / 90) % 4  # rotation: degrees counter-clockwise that set it upright
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture

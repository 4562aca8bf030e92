"""Reading: any container and codec in, blocks of sound or single pictures out."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from ..errors import InputError
from ..rates import SAMPLE_RATE, SAMPLES_PER_FRAME

MIN_SAMPLES = SAMPLES_PER_FRAME
"""Shortest sound accepted, at 16 kHz: what one video frame shows (40 ms)."""

AAC_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
"""Sample rates of the sound track we write; any other becomes 48 kHz."""

_EXACT_DURATION = ("wav", "flac", "mov,mp4,m4a,3gp,3g2,mj2")
"""Containers whose header states the true length, so that a shorter stream means a truncated file."""

LOWEST_RATE = 1000
"""Hz. No voice is left below it, and a false header of 1 Hz would make hours of a second."""

_FORGIVING = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
"""Titles in an unknown encoding are no reason to refuse a sound; PyAV 19 takes them as they are."""

LATEST = 24 * 3600.0
"""Seconds after its container that a sound may begin."""

LAYOUTS = {1: "mono", 2: "stereo"}

PLAYLISTS = {"concat", "dash", "hls", "imf", "rtsp", "sdp"}
"""Texts that FFmpeg would take for sound, opening the files and addresses that they name."""


@dataclass(frozen=True)
class SoundInfo:
    """What a complete reading of a sound track found.

    samples: length at 16 kHz; peak: largest |sample| of the mono signal;
    rate, channels: of the sound track to write (an AAC rate, at most stereo).
    """

    samples: int
    peak: float
    rate: int
    channels: int


def read_audio(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """The whole first sound track as float32 [S], 16 kHz, mono, full scale 1.

    Raises InputError for anything that is not at least 40 ms of finite sound.
    """
    check_audio(path)
    return np.concatenate(list(audio_blocks(path, SAMPLE_RATE * 10)))


def check_audio(path: str | os.PathLike[str]) -> SoundInfo:
    """Read a sound track once from end to end, keeping nothing; InputError says what is wrong with it.

    About a thousand times faster than real time, so a fault in the last second is
    found before the first frame is made.
    """
    samples, peak = 0, 0.0
    for block in audio_blocks(path, SAMPLE_RATE * 10):
        samples += len(block)
        peak = max(peak, float(np.abs(block).max(initial=0.0)))
    if samples < MIN_SAMPLES:
        raise InputError(
            f"sound too short: {path} holds {1000 * samples / SAMPLE_RATE:.0f} ms, "
            f"at least {1000 * MIN_SAMPLES // SAMPLE_RATE} ms are needed"
        )
    with _open_sound(path) as (_, track):
        rate = track.rate if track.rate in AAC_RATES else 48_000
        return SoundInfo(samples, peak, rate, min(2, track.codec_context.channels))


def check_length(path: str | os.PathLike[str], seconds: float) -> None:
    """InputError if the sound is longer than that; no more of it is decoded."""
    heard = 0
    for block in audio_blocks(path, SAMPLE_RATE * 10):
        heard += len(block)
        if heard > seconds * SAMPLE_RATE:
            raise InputError(f"{path} is longer than {seconds:g} s, the limit here; send less")


def audio_blocks(
    path: str | os.PathLike[str], samples: int, *, rate: int = SAMPLE_RATE, channels: int = 1
) -> Iterator[NDArray[np.float32]]:
    """The first sound track in blocks of `samples` (the last may be shorter), memory flat.

    Yields float32 [n] for one channel, [n, channels] else, at `rate` Hz. More channels
    are mixed down, a track that starts late in its container is led in by silence.
    Raises InputError: no such file, no sound track, damaged or truncated, NaN or Inf.
    """
    if samples < 1:
        raise InputError(f"block size must be at least 1 sample, got {samples}")
    held: list[NDArray[np.float32]] = []
    count = 0
    for piece in _decoded(path, rate, channels):
        if not np.isfinite(piece).all():
            raise InputError(f"{path} contains NaN or Inf samples; export the sound again")
        held.append(piece)
        count += len(piece)
        if count >= samples:
            joined = np.concatenate(held)
            whole = count - count % samples
            for start in range(0, whole, samples):
                yield _shaped(joined[start : start + samples], channels)
            held, count = [joined[whole:]], count - whole
    if count:
        yield _shaped(np.concatenate(held), channels)


def read_frames(path: str | os.PathLike[str]) -> Iterator[NDArray[np.uint8]]:
    """The frames of a video, uint8 [H, W, 3] RGB, one at a time. Raises InputError if there are none."""
    with _open(path) as container:
        if not container.streams.video:
            raise InputError(f"no picture track in {path}: a video was expected")
        if container.streams.video[0].codec_context is None:
            raise InputError(f"the pictures of {path} are in no form known here; export the video as mp4")
        try:
            for frame in container.decode(container.streams.video[0]):
                yield frame.to_ndarray(format="rgb24")
        except (av.FFmpegError, ValueError) as error:
            raise InputError(f"{path} is damaged: {_reason(error)}") from None


def _remixed(block: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    """[n, 1 or 2] to [n, channels]: the mean of a pair, or one channel twice."""
    if block.shape[1] == channels:
        return block
    return block.mean(axis=1, keepdims=True) if channels == 1 else np.repeat(block, channels, axis=1)


def _shaped(block: NDArray[np.float32], channels: int) -> NDArray[np.float32]:
    return block[:, 0] if channels == 1 else block


@contextmanager
def _open(path: str | os.PathLike[str]) -> Iterator[Any]:
    """A container opened for reading; every way of failing told apart."""
    if not os.path.exists(path):
        raise InputError(f"no such file: {path}")
    if os.path.isdir(path):
        raise InputError(f"{path} is a folder; a media file was expected")
    if not os.path.isfile(path):  # a pipe would be waited for, and could not be read twice
        raise InputError(f"{path} is a pipe or a device; save the sound or video to a file first")
    try:
        formats = ",".join(sorted(av.formats_available - PLAYLISTS))
        name = "file:" + os.path.abspath(path)  # without it, a colon in a name would make it an address
        container = av.open(name, options={"format_whitelist": formats}, **_FORGIVING)
    except PermissionError:
        raise InputError(f"no permission to read {path}") from None
    except (av.FFmpegError, OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a media file that can be read ({_reason(error)}); a sound or video file was expected"
        ) from None
    try:
        yield container
    finally:
        container.close()


@contextmanager
def _open_sound(path: str | os.PathLike[str]) -> Iterator[tuple[Any, Any]]:
    with _open(path) as container:
        if not container.streams.audio:
            raise InputError(f"no sound track in {path}: choose a file with sound")
        track = container.streams.audio[0]
        if track.codec_context is None or track.codec_context.channels < 1:
            raise InputError(f"the sound of {path} is in no form known here; export it as wav, mp3, m4a or flac")
        if track.rate < LOWEST_RATE:
            raise InputError(
                f"{path} says its sound has {track.rate} samples a second; at least {LOWEST_RATE} are needed"
            )
        yield container, track


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _decoded(path: str | os.PathLike[str], rate: int, channels: int) -> Iterator[NDArray[np.float32]]:
    """Resampled pieces [n, channels] as the codec hands them out."""
    with _open_sound(path) as (container, track):
        # FFmpeg sums a float stereo pair into mono 3 dB too loud; the mean is taken here instead.
        inner = min(2, track.codec_context.channels)
        resampler = av.AudioResampler(format="flt", layout=LAYOUTS[inner], rate=rate)
        made = 0
        begun = False
        try:
            for frame in container.decode(track):
                if not begun:
                    begun = True
                    yield from _silence(_late_start(path, container, frame), rate, channels)
                frame.pts = None  # a jump in time stamps must not make the resampler refuse
                for piece in resampler.resample(frame):
                    made += piece.samples
                    yield _remixed(piece.to_ndarray().reshape(-1, inner), channels)
            for piece in resampler.resample(None) if begun else ():
                made += piece.samples
                yield _remixed(piece.to_ndarray().reshape(-1, inner), channels)
        except InputError:
            raise
        except (av.FFmpegError, ValueError) as error:
            raise InputError(
                f"{path} is damaged or truncated {made / rate:.1f} s into its sound ({_reason(error)}); "
                "export or copy it again"
            ) from None
        _check_complete(path, container, track, made / rate)


def _late_start(path: str | os.PathLike[str], container: Any, frame: Any) -> float:
    """Seconds of silence before the first sound, where the container (its picture) starts earlier."""
    if frame.pts is None or container.start_time is None:
        return 0.0
    late = float(frame.pts * frame.time_base) - container.start_time / av.time_base
    if late > LATEST:
        raise InputError(f"the sound of {path} would begin after {late / 3600:.0f} hours; its times are damaged")
    return late if late > 0.001 else 0.0


def _silence(seconds: float, rate: int, channels: int) -> Iterator[NDArray[np.float32]]:
    """In pieces of a second: how much there is says the file."""
    left = round(seconds * rate)
    while left > 0:
        yield np.zeros((min(left, rate), channels), np.float32)
        left -= rate


def _check_complete(path: str | os.PathLike[str], container: Any, track: Any, seconds: float) -> None:
    if container.format.name not in _EXACT_DURATION or not track.duration:
        return
    promised = float(track.duration * track.time_base)
    if seconds < 0.98 * promised - 0.25:
        raise InputError(
            f"{path} is truncated: its header promises {promised:.1f} s of sound and {seconds:.1f} s are there; "
            "copy or export it again"
        )

"""Sound in, video out: lengths, synchrony, faults told apart, nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
import soundfile

from dmt import media
from dmt.errors import InputError


def tone(seconds: float, rate: int = 16_000, hertz: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_wav(path, samples, rate=16_000):
    soundfile.write(path, samples, rate, subtype="FLOAT")
    return path


def write_sound(path, samples: np.ndarray, rate: int, codec: str, form: str, offset: float = 0.0):
    """Mono sound through PyAV, in any container, beginning `offset` seconds after a one-frame picture track."""
    with av.open(str(path), "w", format=form) as container:
        if offset:
            picture = container.add_stream("libx264", rate=25)
            picture.width = picture.height = 64
            picture.pix_fmt = "yuv420p"
        stream = container.add_stream(codec, rate=rate, layout="mono")
        if offset:
            for index in range(5):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                frame.pts = index
                container.mux(picture.encode(frame))
            container.mux(picture.encode(None))
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
        frame.pts = round(offset * rate)
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "form", "rate"),
    [
        ("a.m4a", "aac", "mp4", 44_100),
        ("a.mp3", "libmp3lame", "mp3", 44_100),
        ("a.ogg", "libopus", "ogg", 48_000),
        ("a.mkv", "ac3", "matroska", 48_000),
        ("a.flac", "flac", "flac", 22_050),
    ],
)
def test_any_container_becomes_16_khz_mono(tmp_path, name, codec, form, rate):
    path = write_sound(tmp_path / name, tone(1.5, rate), rate, codec, form)
    wave = media.read_audio(path)
    assert wave.dtype == np.float32 and wave.ndim == 1
    assert abs(len(wave) - 24_000) <= 0.1 * 16_000  # lossy codecs pad; within 100 ms
    middle = wave[8000:16000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(8000)))
    assert abs(int(spectrum.argmax()) - 220) <= 1  # 440 Hz at 2 Hz per bin
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.06)


def test_stereo_is_averaged_and_kept(tmp_path):
    left = tone(1.0, 44_100)
    path = write_wav(tmp_path / "stereo.wav", np.stack([left, np.zeros_like(left)], 1), 44_100)
    assert np.abs(media.read_audio(path)).max() == pytest.approx(0.25, abs=0.01)
    both = np.concatenate(list(media.audio_blocks(path, 4410, rate=44_100, channels=2)))
    np.testing.assert_allclose(both[:, 0], left, atol=1e-6)
    assert not both[:, 1].any()
    info = media.check_audio(path)
    assert (info.rate, info.channels, info.samples) == (44_100, 2, 16_000)


def test_equal_stereo_keeps_its_level(tmp_path):
    path = write_wav(tmp_path / "equal.wav", np.stack([tone(1.0), tone(1.0)], 1))
    np.testing.assert_allclose(media.read_audio(path), tone(1.0), atol=1e-6)


@pytest.mark.parametrize("size", [1, 333, 16_000, 10**7])
def test_blocks_are_of_the_size_asked_and_join_to_the_whole(tmp_path, size):
    wave = np.random.default_rng(0).standard_normal(5_001).astype(np.float32) * 0.1
    path = write_wav(tmp_path / "noise.wav", wave)
    blocks = list(media.audio_blocks(path, size))
    assert all(len(block) == size for block in blocks[:-1]) and 0 < len(blocks[-1]) <= size
    np.testing.assert_array_equal(np.concatenate(blocks), wave)


def test_an_unusual_rate_and_many_channels(tmp_path):
    four = np.random.default_rng(0).standard_normal((37_800, 4)).astype(np.float32) * 0.05
    info = media.check_audio(write_wav(tmp_path / "four.wav", four, 37_800))
    assert info.samples == 16_000 and (info.rate, info.channels) == (48_000, 2)


def test_sound_that_starts_late_is_led_in_by_silence(tmp_path):
    path = write_sound(tmp_path / "late.mkv", tone(1.0, 48_000), 48_000, "libopus", "matroska", offset=0.5)
    wave = media.read_audio(path)
    assert not wave[: int(0.47 * 16_000)].any()
    assert np.abs(wave[int(0.55 * 16_000) : int(0.7 * 16_000)]).max() > 0.4
    assert len(wave) / 16_000 == pytest.approx(1.5, abs=0.05)


def test_long_sound_is_read_with_flat_memory(tmp_path):
    path = tmp_path / "long.wav"
    with soundfile.SoundFile(path, "w", 16_000, 1, subtype="PCM_16") as file:
        second = tone(10.0)
        for _ in range(240):  # 40 minutes: 154 MB as float32
            file.write(second)
    # In a process of its own, whose peak nothing has raised before.
    code = """
import sys
from dmt import media
from dmt.progress import peak_memory
before = peak_memory()
print(media.check_audio(sys.argv[1]).samples, peak_memory() - before)
"""
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    samples, grown = map(int, done.stdout.split())
    assert samples == 240 * 160_000 and grown < 40e6


def bad_sounds(folder):
    """name -> (file, words its error must hold)."""
    nan, inf = tone(1.0), tone(1.0)
    nan[700] = np.nan
    inf[-1] = np.inf
    whole = write_wav(folder / "whole.wav", tone(2.0)).read_bytes()
    (folder / "cut.wav").write_bytes(whole[: len(whole) // 2])
    flac = write_sound(folder / "whole.flac", tone(2.0), 16_000, "flac", "flac").read_bytes()
    (folder / "cut.flac").write_bytes(flac[: len(flac) // 2])
    m4a = write_sound(folder / "whole.m4a", tone(2.0), 16_000, "aac", "mp4").read_bytes()
    (folder / "cut.m4a").write_bytes(m4a[: len(m4a) // 2])
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("not sound " * 50)
    with media.VideoWriter(folder / "mute.mp4", 64, 64, audio_rate=None) as writer:
        writer.write(np.zeros((5, 64, 64, 3), np.uint8))
    return {
        "absent": (folder / "absent.wav", "no such file"),
        "folder": (folder, "folder"),
        "text": (folder / "text.wav", "not a media file"),
        "zero bytes": (folder / "empty.wav", "not a media file"),
        "no sound track": (folder / "mute.mp4", "no sound track"),
        "no samples": (write_wav(folder / "none.wav", tone(0.0)), "0 ms, at least 40 ms"),
        "10 ms": (write_wav(folder / "short.wav", tone(0.01)), "10 ms, at least 40 ms"),
        "NaN": (write_wav(folder / "nan.wav", nan), "NaN or Inf"),
        "Inf": (write_wav(folder / "inf.wav", inf), "NaN or Inf"),
        "cut wav": (folder / "cut.wav", "truncated"),
        "cut flac": (folder / "cut.flac", "truncated"),
        "cut m4a": (folder / "cut.m4a", "not a media file"),
    }


def test_each_fault_of_a_sound_is_told_apart(tmp_path):
    for name, (path, words) in bad_sounds(tmp_path).items():
        with pytest.raises(InputError) as caught:
            media.read_audio(path)
        assert words in str(caught.value), name
        assert "\n" not in str(caught.value), name


def test_40_ms_is_enough(tmp_path):
    assert len(media.read_audio(write_wav(tmp_path / "a.wav", tone(0.04)))) == 640


def clicks(rate: int, times: list[float], seconds: float, channels: int) -> np.ndarray:
    """Bursts of 2 kHz, 20 ms long, that begin at `times`."""
    wave = np.zeros((round(seconds * rate), channels), np.float32)
    burst = 0.8 * np.sin(2 * np.pi * 2000 * np.arange(rate // 50) / rate)
    for time in times:
        start = round(time * rate)
        wave[start : start + len(burst)] = burst[:, None]
    return wave


def test_what_is_written_is_in_sync_and_as_long_as_the_sound(tmp_path):
    path, rate, frames, times = tmp_path / "out.mp4", 44_100, 100, [0.52, 2.0, 3.48]
    sound = clicks(rate, times, 4.0, 2)
    pictures = np.zeros((frames, 66, 98, 3), np.uint8)
    for time in times:
        pictures[round(time * 25)] = 255  # a flash with each click
    with media.VideoWriter(path, 66, 98, audio_rate=rate, audio_channels=2) as writer:
        for first in range(0, frames, 16):
            writer.write(pictures[first : first + 16])
            writer.write_audio(sound[first * rate // 25 : (first + 16) * rate // 25])
        assert not path.exists()
    seen = [frame.mean() for frame in media.read_frames(path)]
    assert len(seen) == frames
    assert [index / 25 for index, value in enumerate(seen) if value > 128] == times
    heard = np.concatenate(list(media.audio_blocks(path, rate, rate=rate, channels=2)))
    loud = np.abs(heard[:, 0]) > 0.3
    starts = [i / rate for i in np.flatnonzero(loud) if not loud[max(0, i - rate // 10) : i].any()]
    assert starts == pytest.approx(times, abs=0.005)
    assert abs(len(heard) / rate - frames / 25) <= 0.04
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, video.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert video.average_rate == 25 and video.start_time == 0
        assert (audio.codec_context.name, audio.rate, audio.channels) == ("aac", rate, 2)
        assert container.metadata["comment"] == media.PROVENANCE
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # a player can begin before the end is there


def test_colours_and_odd_sizes_survive(tmp_path):
    path = tmp_path / "odd.mp4"
    colours = np.array([[200, 60, 30], [20, 180, 90], [90, 90, 200]], np.uint8)
    with media.VideoWriter(path, 65, 95, audio_rate=None) as writer:
        writer.write(np.broadcast_to(colours[:, None, None], (3, 65, 95, 3)).copy())
    seen = list(media.read_frames(path))
    assert [frame.shape for frame in seen] == [(66, 96, 3)] * 3
    for frame, colour in zip(seen, colours, strict=True):
        assert np.abs(frame[30, 40].astype(int) - colour).max() <= 6


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_nothing_is_left_after_an_error(tmp_path, error):
    (tmp_path / "out.mp4").write_bytes(b"an older video")
    with pytest.raises(error), media.VideoWriter(tmp_path / "out.mp4", 64, 64) as writer:
        writer.write(np.zeros((3, 64, 64, 3), np.uint8))
        writer.write_audio(tone(0.12))
        raise error
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]
    assert (tmp_path / "out.mp4").read_bytes() == b"an older video"


def test_a_wrong_frame_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected uint8"), media.VideoWriter(tmp_path / "o.mp4", 64, 64) as writer:
        writer.write(np.zeros((1, 32, 64, 3), np.uint8))
    assert not list(tmp_path.iterdir())


def test_outputs_that_cannot_be_written_are_refused_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    for path, words in (
        (tmp_path / "no" / "out.mp4", "does not exist"),
        (tmp_path / "file" / "out.mp4", "does not exist"),
        (tmp_path / "out.avi", "must be named *.mp4"),
        (tmp_path / "folder.mp4", "is a folder"),
        ("/proc/out.mp4", "not writable"),
    ):
        with pytest.raises(InputError) as caught:
            media.check_output(path)
        assert words in str(caught.value)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.mp4"]


def test_reading_frames_needs_a_picture_track(tmp_path):
    with pytest.raises(InputError, match="no picture track"):
        next(media.read_frames(write_wav(tmp_path / "a.wav", tone(0.1))))

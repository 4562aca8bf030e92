"""The recipe with a tiny random model: lengths, seeds, blocks, laziness, reports; and the noise it starts from."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from dmt import driving, media, pipeline
from dmt.conventions import DREAMTALKS, OURS
from dmt.diffusion import SmoothNoise
from dmt.driving import motion_pieces, portions, scene_rows
from dmt.errors import InputError
from dmt.features import windows
from dmt.pipeline import Pipeline
from dmt.progress import STAGES, Stopwatch
from dmt.scene import Options, prepare

CPU = torch.device("cpu")
SIZE = 96


def quiet(stage: str, done: int, total: int) -> None:
    """A report that nobody reads."""


@pytest.fixture(scope="module")
def tiny(tiny_model) -> Pipeline:
    return Pipeline(tiny_model, CPU)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sound")


@pytest.fixture(scope="module")
def short(folder, voice):
    return voice(folder / "short.wav", 1.3)


@pytest.fixture(scope="module")
def long(folder, voice):
    return voice(folder / "long.wav", 4.1)


def motion_of(tiny: Pipeline, audio, block: int = 16_000, **options):
    """Expression, pose and blink of a whole recording, read in blocks of `block` samples."""
    scene = prepare(audio, None, Options(size=SIZE, **options), OURS)
    rows = scene_rows(tiny.model, scene, media.audio_blocks(audio, block), quiet)
    pieces = list(motion_pieces(tiny.model, rows, scene, quiet))
    return tuple(torch.cat([getattr(piece, name) for piece in pieces]) for name in ("expression", "pose", "blink"))


@pytest.mark.parametrize("frames", [1, 2, 5, 63, 64, 65, 130, 200])
@pytest.mark.parametrize("cut", [1, 7, 1000])
@pytest.mark.parametrize("least", [1, 64])
def test_portions_show_every_frame_its_window(frames, cut, least):
    rows = torch.randn(1, 2 * frames + 1, 3)
    made, kept = [], []
    for held, some in portions(rows.split(cut, dim=1), least):
        assert 1 <= len(some) <= driving.MOTION_BLOCK
        made.append(windows(held, some.start, len(some)))
        kept.append(held.shape[1])
    torch.testing.assert_close(torch.cat(made, dim=1), windows(rows, 0, frames), rtol=0, atol=0)
    assert max(kept) <= 2 * driving.MOTION_BLOCK + 2 * 11 + cut


def test_a_frame_is_made_as_soon_as_its_rows_are_there():
    came, made = 0, 0

    def rows():
        nonlocal came
        for _ in range(40):
            came += 3
            yield torch.zeros(1, 3, 2)

    for _, some in portions(rows(), 1):
        assert made == 0 or 2 * (made + len(some) - 1) + 5 < came or came == 120
        made += len(some)
        assert made == 60 or made == (came - 4) // 2
    assert made == 60


def test_no_rows_make_no_frames():
    assert list(portions([])) == [] and list(portions([torch.zeros(1, 1, 3)])) == []


def test_noise_does_not_depend_on_how_it_is_asked_for():
    whole = SmoothNoise(torch.Generator().manual_seed(3)).next(130)
    source = SmoothNoise(torch.Generator().manual_seed(3))
    pieces = torch.cat([source.next(n) for n in (1, 0, 24, 1, 60, 44)])
    assert torch.equal(whole, pieces)


def test_noise_is_standard_normal_in_every_frame_and_smooth():
    noise = SmoothNoise(torch.Generator().manual_seed(0), width=4000, temperature=1.0).next(26)
    assert noise.std(dim=1).sub(1).abs().max() < 0.05 and noise.mean(dim=1).abs().max() < 0.07
    neighbours = (noise[1:] - noise[:-1]).square().mean().sqrt()
    assert neighbours < 0.1  # independent frames would give 1.41
    free = SmoothNoise(torch.Generator().manual_seed(0), width=4000, period=1, temperature=1.0).next(10)
    assert (free[1:] - free[:-1]).square().mean().sqrt() > 1.3


@pytest.mark.parametrize("seed", [0, 7])
def test_dreamtalks_noise_is_torchs(seed):
    source = DREAMTALKS.noise(seed)
    pieces = torch.cat([source.next(n) for n in (1, 64, 3, 17)])
    assert torch.equal(pieces, torch.randn(1, 85, 64, generator=torch.Generator().manual_seed(seed))[0])
    torch.manual_seed(seed)
    assert torch.equal(DREAMTALKS.noise(None).next(85), pieces)


def test_blocks_do_not_change_the_motion(tiny, long, monkeypatch):
    expected = motion_of(tiny, long)
    monkeypatch.setattr(driving, "MOTION_BLOCK", 7)
    for block in (333, 16_000 * 60):
        for ours, theirs in zip(motion_of(tiny, long, block), expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_seeds_make_and_repeat_a_performance(tiny, short):
    first, again, other = (motion_of(tiny, short, seed=seed) for seed in (4, 4, 5))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0]) and not torch.equal(first[1], other[1])


def test_one_flag_leaves_the_rest_as_it_was(tiny, folder, voice):
    audio = voice(folder / "eight.wav", 8.0)
    expression, pose, blink = motion_of(tiny, audio)
    assert blink.max() > 0.9
    without = motion_of(tiny, audio, blink=False)
    assert torch.equal(without[0], expression) and torch.equal(without[1], pose) and not without[2].any()
    still = motion_of(tiny, audio, pose="still")
    assert torch.equal(still[0], expression) and torch.equal(still[2], blink)
    assert torch.equal(still[1], still[1][:1].expand_as(still[1])) and pose[:, :3].std() > 0


def test_style_and_guidance_reach_the_model(tiny, short):
    neutral, happy = motion_of(tiny, short)[0], motion_of(tiny, short, style="happy")[0]
    stronger = motion_of(tiny, short, style="happy", guidance=3.0)[0]
    assert not torch.allclose(neutral, happy) and not torch.allclose(happy, stronger)


def test_a_stream_has_one_frame_for_each_40_ms(tiny, short):
    frames = list(tiny.stream(short, size=SIZE, steps=2))
    assert len(frames) == 33  # 32.5, rounded up
    assert all(frame.dtype == np.uint8 and frame.shape == frames[0].shape == (SIZE, SIZE, 3) for frame in frames)
    assert np.ptp(np.stack(frames).astype(int), axis=0).max() > 20  # something moves


def test_the_shortest_sound_makes_one_frame(tiny, folder, voice):
    assert len(list(tiny.stream(voice(folder / "blip.wav", 0.04), size=SIZE, steps=2))) == 1


def test_frames_come_before_the_sound_has_been_read(tiny, folder, voice, monkeypatch):
    audio, read, blocks = voice(folder / "half_minute.wav", 30.0), [], media.audio_blocks

    def counted(path, samples, **options):
        for block in blocks(path, samples, **options):
            read.append(len(block))
            yield block

    frames = tiny.stream(audio, size=SIZE, steps=1)
    monkeypatch.setattr(pipeline.media, "audio_blocks", counted)
    next(frames)
    assert 0 < sum(read) < 8 * 16_000
    frames.close()


def test_generate_writes_what_stream_yields_with_the_original_sound(tiny, folder, voice, tmp_path):
    audio, seen = voice(folder / "stereo.wav", 3.0, 44_100, 2), []
    result = tiny.generate(
        audio, output=tmp_path / "o.mp4", report=lambda *told: seen.append(told), size=SIZE, steps=2, style="sad"
    )
    assert [entry.name for entry in tmp_path.iterdir()] == ["o.mp4"] and result.path == tmp_path / "o.mp4"
    written = np.stack(list(media.read_frames(result.path))).astype(float)
    streamed = np.stack(list(tiny.stream(audio, size=SIZE, steps=2, style="sad"))).astype(float)
    assert written.shape == streamed.shape and result.frames == len(written) == 75
    assert np.abs(written - streamed).mean() < 3  # H.264 is lossy, a frame out of place is worse
    info = media.check_audio(result.path)
    assert (info.rate, info.channels) == (44_100, 2) and abs(info.samples / 16_000 - 3.0) <= 0.04
    sound, original = media.read_audio(result.path)[:47_000], media.read_audio(audio)[:47_000]
    assert np.corrcoef(sound, original)[0, 1] > 0.9  # in sync: 120 Hz lose it within 2 ms
    check_reports(seen)
    check_times(result)


def check_reports(seen):
    for stage in STAGES:
        done = [count for name, count, _ in seen if name == stage]
        totals = {total for name, _, total in seen if name == stage}
        assert done == sorted(done) and len(totals) == 1 and done[-1] == totals.pop(), stage


def check_times(result):
    assert set(result.timings) == set(STAGES) and all(seconds > 0 for seconds in result.timings.values())
    assert 0.8 * result.wall_seconds < sum(result.timings.values()) <= result.wall_seconds
    assert result.real_time_factor == pytest.approx(result.wall_seconds / result.seconds)
    assert result.peak_memory > 50e6 and result.peak_gpu_memory is None


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_an_interruption_leaves_no_file(tiny, short, tmp_path, error):
    def stop(stage, done, total):
        if stage == "encode":
            raise error

    with pytest.raises(error):
        tiny.generate(short, output=tmp_path / "o.mp4", report=stop, size=SIZE, steps=1)
    assert not list(tmp_path.iterdir())


def test_silence_is_said(tiny, folder, tmp_path):
    soundfile.write(folder / "silence.wav", np.zeros(8000, np.float32), 16_000)
    result = tiny.generate(folder / "silence.wav", output=tmp_path / "o.mp4", size=SIZE, steps=1)
    assert result.frames == 13 and any("silent" in note for note in result.notes)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seed": -1}, "seed"),
        ({"size": 63}, "size"),
        ({"size": 2049}, "size"),
        ({"guidance": float("nan")}, "guidance"),
        ({"steps": 0}, "steps"),
        ({"steps": 7}, "must divide 1000"),
        ({"intensity": -1.0}, "intensity"),
        ({"style": "bored"}, "expected one of angry"),
        ({"pose": "wild"}, "natural, still"),
    ],
)
def test_wrong_options_are_refused_before_the_stream_begins(tiny, short, options, words):
    with pytest.raises(InputError, match=words):
        tiny.stream(short, **options)


def test_an_unknown_option_is_an_error(tiny, short):
    with pytest.raises(TypeError, match="stile"):
        tiny.stream(short, stile="happy")


def test_load_says_what_is_wrong(tmp_path):
    (tmp_path / "wrong.safetensors").write_bytes(b"nothing")
    with pytest.raises(InputError, match="no checkpoint"):
        pipeline.load(tmp_path / "absent.safetensors")
    with pytest.raises(InputError, match="cannot be read"):
        pipeline.load(tmp_path / "wrong.safetensors")
    with pytest.raises(InputError, match="no weights are bundled"):
        pipeline.load("dmt")
    with pytest.raises(InputError, match="unknown device"):
        pipeline.load(device="quantum")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA GPU"):
            pipeline.load(device="cuda")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_peak_memory_is_the_process_own():
    """Not that of a large one which started it."""
    child = "from dmt.progress import peak_memory; print(peak_memory())"
    code = "import subprocess, sys; held = b'1' * 1_500_000_000; subprocess.run([sys.executable, '-c', sys.argv[1]])"
    done = subprocess.run([sys.executable, "-c", code, child], capture_output=True, text=True)
    assert 50e6 < int(done.stdout) < 1.2e9, done.stderr


def test_the_inner_stage_stops_the_clock_of_the_outer():
    clock = Stopwatch()
    with clock.stage("render"):
        time.sleep(0.02)
        with clock.stage("motion"):
            time.sleep(0.05)
    assert clock.seconds["motion"] == pytest.approx(0.05, abs=0.02)
    assert clock.seconds["render"] == pytest.approx(0.02, abs=0.015)
    assert list(clock.timed("encode", [1, 2])) == [1, 2]

"""Disks that fill, programs that are killed, two that write one file: a video is whole or it is not there."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from dmt import media
from dmt.atomic import atomic
from dmt.checkpoint import save_model
from dmt.cli.app import run
from dmt.dreamtalk.files import write_array, write_picture, write_wav
from dmt.errors import InputError

NOISE = np.random.default_rng(0).integers(0, 255, (12, 256, 256, 3), dtype=np.uint8)
posix = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="locks on files are POSIX's")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 256 kB with an older file on it."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "none", str(folder)], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        (folder / "o.mp4").write_bytes(b"older")
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def video(path: Path) -> None:
    with media.VideoWriter(path, 256, 256, audio_rate=None) as out:
        out.write(NOISE)


WRITERS = {
    "video": video,
    "wav": lambda path: write_wav(path, [np.zeros(16_000, np.float32)] * 20),
    "array": lambda path: write_array(path, NOISE),
    "picture": lambda path: write_picture(path, NOISE.reshape(-1, 256, 3)),
}


@pytest.mark.parametrize("kind", [*WRITERS, "model"])
def test_a_full_disk_is_one_sentence_and_leaves_nothing(small_disk, tiny_model, kind):
    write = WRITERS.get(kind, lambda path: save_model(path, tiny_model, {}))
    with pytest.raises(InputError, match="disk is full; free some space"):
        write(small_disk / "o.mp4")
    assert os.listdir(small_disk) == ["o.mp4"] and (small_disk / "o.mp4").read_bytes() == b"older"


def test_generate_on_a_full_disk(small_disk, voice, tiny_checkpoint, tmp_path, capfd):
    audio = voice(tmp_path / "voice.wav", 4)
    (small_disk / "ballast").write_bytes(bytes(200_000))
    common = ["-a", str(audio), "--checkpoint", str(tiny_checkpoint), "--size", "256", "--steps", "1"]
    assert run(["generate", *common, "-o", str(small_disk / "o.mp4")]) == 2
    shown = capfd.readouterr()
    assert shown.err.strip().splitlines()[-1].startswith("dmt: cannot write") and "Traceback" not in shown.err
    assert "wrote" not in shown.out and (small_disk / "o.mp4").read_bytes() == b"older"
    assert sorted(os.listdir(small_disk)) == ["ballast", "o.mp4"]


def test_a_read_only_disk_is_one_sentence(small_disk, voice, tiny_checkpoint, tmp_path, capfd):
    """A disk, not a folder: permissions do not stop root, who often runs such tests."""
    audio, out = voice(tmp_path / "voice.wav", 0.2), str(small_disk / "o.mp4")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    generate = ["generate", "-a", str(audio), "--checkpoint", str(tiny_checkpoint), "--size", "64", "-o", out]
    for arguments in (
        generate,
        ["styles", "-p", str(small_disk / "o.png")],
        ["export", "-o", str(small_disk / "o.onnx")],
    ):
        assert run(arguments) == 2
        assert "Read-only file system" in capfd.readouterr().err
    (tmp_path / "jobs.csv").write_text("audio\nvoice.wav\n")
    assert run(["batch", str(tmp_path / "jobs.csv"), "-o", str(small_disk / "videos")]) == 2
    assert "cannot be made (Read-only file system)" in capfd.readouterr().err
    assert os.listdir(small_disk) == ["o.mp4"] and (small_disk / "o.mp4").read_bytes() == b"older"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_what_systems_call_a_full_disk(tmp_path, number):
    with pytest.raises(InputError, match="disk is full"), atomic(tmp_path / "a"):
        raise OSError(number, os.strerror(number))
    assert not os.listdir(tmp_path)


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(OSError, match="other"), atomic(tmp_path / "a"):
        raise OSError(errno.EIO, "other")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("name", ["n" * 300 + ".mp4", "a\0b.mp4"])
def test_names_that_no_file_can_have_are_refused_before_the_work(tmp_path, name):
    with pytest.raises(InputError, match="cannot write"):
        media.check_output(tmp_path / name)


@posix
def test_killed_in_the_middle(tmp_path, voice, tiny_checkpoint):
    audio, out = voice(tmp_path / "voice.wav", 60), tmp_path / "out"
    out.mkdir()
    arguments = ["generate", "--checkpoint", str(tiny_checkpoint), "--size", "96", "--steps", "1"]
    command = [*arguments, "-a", str(audio), "-o", str(out / "o.mp4")]
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; from dmt.cli import main; main(sys.argv[1:])", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not os.listdir(out) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)  # into the middle of the work
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (left,) = os.listdir(out)
    assert left.startswith(".o-") and left.endswith(".part"), "hidden, and no video"
    assert run([*arguments, "-a", str(voice(tmp_path / "short.wav", 0.2)), "-o", str(out / "o.mp4")]) == 0
    assert os.listdir(out) == ["o.mp4"] and len(list(media.read_frames(out / "o.mp4"))) == 5


@posix
def test_a_part_in_use_is_left_alone(tmp_path):
    with atomic(tmp_path / "a") as first:
        first.write_bytes(b"first")
        with atomic(tmp_path / "a") as second:
            assert second != first and second.read_bytes() == b""
            second.write_bytes(b"second")
        assert first.read_bytes() == b"first" and (tmp_path / "a").read_bytes() == b"second"
    assert (tmp_path / "a").read_bytes() == b"first" and os.listdir(tmp_path) == ["a"]


def test_two_videos_to_one_place_are_each_whole_and_the_last_wins(tmp_path):
    target = tmp_path / "o.mp4"
    first = media.VideoWriter(target, 64, 64, audio_rate=None).__enter__()
    second = media.VideoWriter(target, 96, 96, audio_rate=None).__enter__()
    for _ in range(10):
        first.write(NOISE[:1, :64, :64])
        second.write(NOISE[:1, :96, :96])
    second.__exit__(None, None, None)
    assert [frame.shape for frame in media.read_frames(target)] == [(96, 96, 3)] * 10
    first.__exit__(None, None, None)
    assert [frame.shape for frame in media.read_frames(target)] == [(64, 64, 3)] * 10
    assert os.listdir(tmp_path) == ["o.mp4"]


WRITE_OFTEN = """
import sys
from dmt.atomic import atomic
for _ in range(150):
    with atomic(sys.argv[1]) as part, open(part, "wb") as out:
        for _ in range(20):
            out.write(sys.argv[2].encode() * 5000)
"""


def test_processes_that_write_one_file_at_once(tmp_path):
    target = tmp_path / "o.bin"
    writers = [subprocess.Popen([sys.executable, "-c", WRITE_OFTEN, str(target), letter]) for letter in "abc"]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        if target.exists():
            content = target.read_bytes()
            assert len(content) == 100_000 and len(set(content)) == 1, "a mixture, or half a file"
            seen.add(content[:1])
        time.sleep(0.002)
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert seen and os.listdir(tmp_path) == ["o.bin"]

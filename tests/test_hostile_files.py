"""Files that are damaged or made to harm: every reader answers with one sentence, soon, in little memory."""

from __future__ import annotations

import json
import os
import resource
import signal
import struct
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from readers import KINDS, STATE, Kind, Reader, cases, film, frames, landmarks, state
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from dmt import media
from dmt.batch.jobs import read_jobs
from dmt.checkpoint import load_model
from dmt.data.tracks import read_motion
from dmt.errors import InputError, why
from dmt.face.image import read_image
from dmt.face.pose import load_pose
from dmt.face.styles import load_style
from dmt.inspection import inspect

SECONDS = 60
"""No reader may take longer, however busy the machine."""
ROOM = 1 << 30
"""Bytes of address space that a reader may take for a file of some kilobytes (decoders reserve before they look)."""


class Hung(BaseException):
    """Not an Exception, so that no reader can take it for a damaged file."""


@contextmanager
def bounded() -> Iterator[None]:
    """Ends a reader that hangs, and refuses memory beyond `ROOM`."""

    def stop(number: int, frame: object) -> None:
        raise Hung(f"still reading after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits of memory and time are Linux's")


def answer(reader: Reader, path: Path) -> str | None:
    """None if the file was read, else the sentence; any other exception is a failure."""
    try:
        with bounded():
            reader(path)
    except InputError as error:
        sentence = str(error)
        ours = sentence.replace(str(path), "")  # names are the user's own, however odd
        assert ours.strip() and "Traceback" not in ours and ours.isprintable() and len(ours) < 1000, sentence
        return sentence
    return None


def damaged(good: bytes) -> some.SearchStrategy[bytes]:
    """Random bytes, or the file cut short, with bits turned, with a number made huge, or with a piece lost or twice."""
    place = some.integers(0, len(good) - 1) | some.integers(0, min(len(good), 400) - 1)
    huge = some.sampled_from([b"\xff" * 4, b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0" * 4, b"9999"])
    turns = some.lists(some.tuples(place, some.integers(1, 255)), min_size=1, max_size=5)
    return some.one_of(
        some.binary(max_size=200),
        place.map(lambda end: good[:end]),
        turns.map(lambda pairs: _turned(good, pairs)),
        some.tuples(place, huge).map(lambda at: good[: at[0]] + at[1] + good[at[0] + 4 :]),
        some.tuples(place, place).map(lambda ends: good[: ends[0]] + good[ends[1] :]),
    )


def _turned(good: bytes, pairs: list[tuple[int, int]]) -> bytes:
    out = bytearray(good)
    for place, bits in pairs:
        out[place] ^= bits
    return bytes(out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("hostile")


def survive(kind: Kind, folder: Path, examples: int) -> None:
    good, case = folder / kind.name, folder / f"case{Path(kind.name).suffix}"
    kind.write(good)
    for reader in kind.readers:
        assert answer(reader, good) is None or reader is load_pose or good.suffix == ".npz", (reader, kind.name)
    there = sorted(folder.iterdir())

    @settings(max_examples=examples // kind.cost, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(content=damaged(good.read_bytes()))
    def attack(content: bytes) -> None:
        case.write_bytes(content)
        for reader in kind.readers:
            answer(reader, case)
        assert {*folder.iterdir()} - {case} == {*there} - {case}, "a reader wrote a file"

    attack()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_damage(kind: Kind, folder: Path) -> None:
    survive(kind, folder, 12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_much_damage(kind: Kind, folder: Path) -> None:
    survive(kind, folder, 2000)


def promising_npy(path: Path, shape: str) -> Path:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 64)
    return path


@pytest.mark.parametrize("shape", ["(1000000000000, 73)", "(40000000, 73)", "(-1, 73)", "(0, 73)", "(2**70, 73)"])
def test_an_array_that_promises_more_than_it_holds(tmp_path, shape):
    path = promising_npy(tmp_path / "a.npy", shape)
    for reader in (read_motion, landmarks, inspect):
        said = answer(reader, path)
        assert said or (reader is inspect and shape == "(0, 73)"), reader


def test_a_mat_that_promises_more_than_it_holds(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"coeff": np.zeros((4, 257), np.float32)})
    good = (tmp_path / "a.mat").read_bytes()
    shape, size = struct.pack("<ii", 4, 257), struct.pack("<I", 4 * 257 * 4)
    assert good.count(shape) == 1 and size in good
    bad = good.replace(shape, struct.pack("<ii", 4_000_000, 257)).replace(size, struct.pack("<I", 0xFFFF_FFF0))
    (tmp_path / "a.mat").write_bytes(bad)
    for reader in (load_style, read_motion, inspect):
        assert answer(reader, tmp_path / "a.mat")


def test_weights_that_promise_more_than_they_hold(tmp_path):
    header = json.dumps({"a": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 64)
    (tmp_path / "b.safetensors").write_bytes(struct.pack("<Q", 1 << 62) + header)
    for name in ("a.safetensors", "b.safetensors"):
        for reader in (load_model, state, inspect):
            assert answer(reader, tmp_path / name)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("denoiser", "width", 60_000),
        ("denoiser", "content_layers", 10**9),
        ("speech", "feed_forward", 2**40),
        ("speech", "layers", 200),
        ("tacotron", "mels", 10**9),
        ("denoiser", "heads", 0),
        ("denoiser", "width", -8),
    ],
)
def test_a_checkpoint_whose_configuration_asks_for_a_giant(tmp_path, tiny_checkpoint, part, name, value):
    with safe_open(tiny_checkpoint, "pt") as file:
        metadata = file.metadata()
    config = json.loads(metadata["config"])
    config[part][name] = value
    save_file(load_file(tiny_checkpoint), tmp_path / "a.safetensors", metadata | {"config": json.dumps(config)})
    assert answer(load_model, tmp_path / "a.safetensors")


class Harm:
    """What a hostile pickle would do."""

    def __reduce__(self):
        return (os.mkdir, ("/tmp/harm-was-done",))


def test_a_checkpoint_that_would_run_code(tmp_path):
    for name, new in (("a.pth", True), ("a.pt", False)):
        torch.save(STATE | {"optimiser": Harm()}, tmp_path / name, _use_new_zipfile_serialization=new)
        for reader in (state, inspect):
            assert answer(reader, tmp_path / name)
    assert not os.path.exists("/tmp/harm-was-done")


def test_an_archive_that_unfolds_to_gigabytes(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("landmarks.npy", "w", force_zip64=True) as out,
    ):
        np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": (1 << 25, 3)})
        for _ in range(100):
            out.write(bytes(1 << 20))
    assert "unfolds" in answer(landmarks, tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("said", "quoted"),
    [
        ("no such key\n  missing: a.weight\n", "no such key missing: a.weight"),
        ("a\x1b[31mb\x07\udcffc", "a?[31mb??c"),
        ("x" * 201, "x" * 200 + "..."),
        (" \n", "ValueError"),
    ],
)
def test_words_of_other_libraries_are_quoted_in_one_printable_line(said, quoted):
    assert why(ValueError(said)) == quoted


def test_an_archive_whose_names_are_pages_long(tmp_path):
    """zipfile quotes the name that it did not expect (a fuzzer found it): here 10,000 characters."""
    np.savez(tmp_path / "a.npz", landmarks=np.zeros((478, 2)))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[26:28] = struct.pack("<H", 2500)  # length of the name, in front of the array itself
    content[60:2600] = b"\x07\xff" * 1270
    (tmp_path / "a.npz").write_bytes(content)
    for reader in (landmarks, inspect):
        assert len(answer(reader, tmp_path / "a.npz")) < 600


def test_a_picture_of_more_pixels_than_memory(tmp_path):
    (tmp_path / "a.ppm").write_bytes(b"P6 100000 100000 255\n" + bytes(1000))
    assert answer(read_image, tmp_path / "a.ppm")


def wav_header(path: Path, rate: int, channels: int, data: int) -> Path:
    form = struct.pack("<HHIIHH", 1, channels, rate, (rate * channels * 2) % 2**32, (channels * 2) % 2**16, 16)
    path.write_bytes(b"RIFF" + struct.pack("<I", 0xFFFF_FFFF) + b"WAVEfmt " + struct.pack("<I", 16) + form)
    with path.open("ab") as out:
        out.write(b"data" + struct.pack("<I", data) + bytes(20_000))
    return path


@pytest.mark.parametrize(
    ("rate", "channels", "data"),
    [(1, 1, 20_000), (0, 1, 20_000), (2**32 - 1, 1, 20_000), (16_000, 0, 20_000), (16_000, 65_535, 20_000)],
)
def test_a_sound_whose_header_lies(tmp_path, rate, channels, data):
    assert answer(media.check_audio, wav_header(tmp_path / "a.wav", rate, channels, data))


@pytest.mark.parametrize(
    "text", ["#EXTM3U\n#EXTINF:1,\nother.wav\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile other.wav\n"]
)
@pytest.mark.parametrize("name", ["a.wav", "a.m3u8", "a.ffconcat"])
def test_a_playlist_opens_no_other_file(tmp_path, voice, text, name):
    voice(tmp_path / "other.wav", 1)
    (tmp_path / name).write_text(text)
    for reader in (media.check_audio, frames, film):
        assert "not a media file" in answer(reader, tmp_path / name)


@pytest.mark.parametrize("name", ["no\0zero", "n" * 300, "\udcff\udcfe", "-", "a\nb", "http:/localhost/x", "%d", "~"])
def test_strange_names(tmp_path, name):
    for suffix, reader in cases():
        assert answer(reader, tmp_path / f"{name}{suffix}") or reader.__name__ == "is_foreign"


def test_names_that_look_like_addresses_are_files(tmp_path, voice, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("concat:a.wav", "pipe:0.wav", "50%d.wav", "-i.wav", "\udcff.wav"):
        with suppress(UnicodeEncodeError):  # soundfile writes no such name; it is moved there
            os.rename(voice(Path("plain.wav"), 0.1), name)
        assert media.check_audio(name).samples == 1600


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    assert "pipe" in answer(media.check_audio, tmp_path / "a.wav")
    for suffix, reader in cases():
        if suffix != ".wav":
            os.mkfifo(tmp_path / f"{reader.__name__}{suffix}")
            said = answer(reader, tmp_path / f"{reader.__name__}{suffix}")
            assert said or reader.__name__ == "is_foreign"


@pytest.mark.parametrize(
    "output",
    ["../o.mp4", "/tmp/o.mp4", "a/../../o.mp4", "..\\o.mp4", ".hidden/o.mp4", "a/./../../o.mp4", "o.mp4\0", "x" * 300],
)
def test_no_job_writes_outside_its_folder(tmp_path, output):
    (tmp_path / "jobs.jsonl").write_text(json.dumps({"audio": "a.wav", "output": output}))
    with suppress(InputError):
        out = tmp_path / "out"
        for job in read_jobs(tmp_path / "jobs.jsonl"):
            assert (out / job.output).resolve().is_relative_to(out)
            assert ".." not in Path(job.output).parts

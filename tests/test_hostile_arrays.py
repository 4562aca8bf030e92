"""Numbers, pictures and sounds that promise more than they hold, or hold what they should not."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from hostile import answer, limited
from readers import landmarks

from dmt import media
from dmt.data.dreamtalk import _features
from dmt.data.tracks import read_motion
from dmt.dreamtalk.files import read_picture
from dmt.evaluation.lips import _reference
from dmt.face.basis import LandmarkBasis
from dmt.face.image import read_image
from dmt.face.styles import load_style
from dmt.inspection import inspect

pytestmark = limited


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


def test_an_archive_that_unfolds_to_gigabytes(tmp_path):
    with (
        zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("landmarks.npy", "w", force_zip64=True) as out,
    ):
        np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": (1 << 25, 3)})
        for _ in range(100):
            out.write(bytes(1 << 20))
    assert "unfolds" in answer(landmarks, tmp_path / "a.npz")


def test_an_archive_whose_names_are_pages_long(tmp_path):
    """zipfile quotes the name that it did not expect (a fuzzer found it): here 10,000 characters."""
    np.savez(tmp_path / "a.npz", landmarks=np.zeros((478, 2)))
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[26:28] = struct.pack("<H", 2500)  # length of the name, in front of the array itself
    content[60:2600] = b"\x07\xff" * 1270
    (tmp_path / "a.npz").write_bytes(content)
    for reader in (landmarks, inspect):
        assert len(answer(reader, tmp_path / "a.npz")) < 600


@pytest.mark.parametrize("values", [np.float32(3), np.zeros(0), np.zeros((0, 64)), np.array("text"), np.array([1j])])
def test_arrays_of_odd_shapes_and_kinds(tmp_path, values):
    np.save(tmp_path / "a.npy", values)
    np.savez(tmp_path / "a.npz", seed=values, rows=np.zeros((3, 2)))
    for reader in (read_motion, landmarks, _features, _reference):
        assert answer(reader, tmp_path / "a.npy"), reader
    said = answer(inspect, tmp_path / "a.npy")
    assert said is None or "expected numbers" in said
    assert inspect(tmp_path / "a.npz").kind == "named arrays (.npz)"


def test_an_archive_of_other_files(tmp_path):
    """numpy hands them out as bytes."""
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("landmarks.npy", b"no array")
    for reader in (landmarks, inspect, LandmarkBasis.load):
        assert answer(reader, tmp_path / "a.npz"), reader


def test_an_archive_that_is_named_an_array(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        np.savez(file, a=np.zeros((478, 2)), b=np.zeros(3))
    for reader in (inspect, landmarks, read_motion, _features, _reference):
        assert answer(reader, tmp_path / "a.npy"), reader


@pytest.mark.parametrize("size", [1e5, 1e30, -1e30])
def test_style_clips_beyond_any_face(tmp_path, size):
    """They end in numbers that no renderer can draw."""
    np.savetxt(tmp_path / "a.txt", np.full((4, 64), size))
    assert "beyond" in answer(load_style, tmp_path / "a.txt")
    assert "beyond" in answer(lambda _: load_style("happy", 1e6), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n/Times findfont\nshowpage\n",
        struct.pack(">5I4s2I", 0xA0000000, 1, 64, 64, 1, b"GIMP", 9, 0) + bytes(5000),
        struct.pack(">5I", 0xA0000000, 1, 0x51A6A000, 1, 1) + bytes(60),  # takes 2.6 GB: a fuzzer found it
    ],
)
@pytest.mark.parametrize("reader", [read_image, read_picture])
def test_pictures_of_kinds_that_nobody_makes_portraits_in(tmp_path, content, reader):
    """Pillow would give PostScript to an interpreter, and take the word of GIMP's brushes for their length."""
    (tmp_path / "a.png").write_bytes(content)
    assert "of no kind known here" in answer(reader, tmp_path / "a.png")


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


def test_a_sound_that_begins_after_years(tmp_path):
    """Silence up to there would fill the memory."""
    import av

    with av.open(str(tmp_path / "a.mkv"), "w") as out:
        pictures, sound = out.add_stream("mjpeg", 25), out.add_stream("pcm_s16le", 16_000, layout="mono")
        pictures.width = pictures.height = 64
        pictures.pix_fmt = "yuvj420p"
        out.mux(pictures.encode(av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), "rgb24")))
        heard = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.int16), "s16", "mono")
        heard.rate, heard.pts = 16_000, 16_000 * 3600 * 24 * 400
        out.mux(sound.encode(heard))
    assert "begin after 9600 hours" in answer(media.check_audio, tmp_path / "a.mkv")

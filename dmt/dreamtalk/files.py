"""The files DreamTalk leaves behind, each written whole or not at all."""

from __future__ import annotations

import os
import wave
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..atomic import atomic, made_folder
from ..errors import InputError, why
from ..face.image import open_picture
from ..media import to_float, to_int16
from ..rates import COEFFICIENTS, POSE, SAMPLE_RATE


def prepare_folder(folder: Path) -> Path:
    """Make a folder for outputs; InputError where that cannot be done."""
    made_folder(folder)
    if not os.access(folder, os.W_OK):
        raise InputError(f"the folder {folder} is not writable")
    return folder


def write_wav(target: Path, blocks: Iterable[np.ndarray]) -> int:
    """Blocks of float [n] at 16 kHz -> 16-bit mono wav, as they come; returns the samples written."""
    count = 0
    with atomic(target) as part, wave.open(os.fspath(part), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(SAMPLE_RATE)
        for block in blocks:
            out.writeframes(to_int16(block).astype("<i2").tobytes())
            count += len(block)
    return count


class Wav:
    """A wav that `write_wav` wrote, read in pieces as its readers get it: int16 / 32768, float32."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self, first: int, stop: int) -> np.ndarray:
        """Samples first .. stop - 1 (fewer at the end of the file), float32 [n]."""
        with wave.open(os.fspath(self.path), "rb") as file:
            file.setpos(min(first, file.getnframes()))
            return to_float(np.frombuffer(file.readframes(stop - first), "<i2"))

    def blocks(self, samples: int) -> Iterator[np.ndarray]:
        """The whole file in blocks of `samples`; the last may be shorter."""
        with wave.open(os.fspath(self.path), "rb") as file:
            while data := file.readframes(samples):
                yield to_float(np.frombuffer(data, "<i2"))


def write_rows(target: Path, pieces: Iterable[np.ndarray], width: int) -> int:
    """A .npy file [T, width] float32 from pieces [t, width], written as they come; returns T.

    The header is written last, when T is known; numpy pads headers so that the longest T fits.
    """
    count = 0
    with atomic(target) as part, open(part, "wb") as out:
        _rows_header(out, 0, width)
        start = out.tell()
        for piece in pieces:
            out.write(np.ascontiguousarray(piece, dtype="<f4").data)
            count += len(piece)
        out.seek(0)
        _rows_header(out, count, width)
        assert out.tell() == start, "the header of a .npy file changed its length"
    return count


def _rows_header(out: BinaryIO, rows: int, width: int) -> None:
    np.lib.format.write_array_header_1_0(out, {"descr": "<f4", "fortran_order": False, "shape": (rows, width)})


def read_rows(path: Path, first: int, stop: int) -> np.ndarray:
    """Rows first .. stop - 1 of a .npy file [T, D].

    The file is mapped anew each time, because pages stay counted as this process's while they are mapped.
    """
    return np.array(np.load(path, mmap_mode="r", allow_pickle=False)[first:stop])


def write_array(target: Path, values: np.ndarray) -> None:
    """A .npy file."""
    with atomic(target) as part, open(part, "wb") as out:
        np.save(out, values, allow_pickle=False)


def write_picture(target: Path, picture: np.ndarray) -> None:
    """uint8 RGB [H, W, 3] as PNG."""
    with atomic(target) as part:
        Image.fromarray(picture).save(part, format="PNG")


def read_picture(path: str | os.PathLike[str]) -> np.ndarray:
    """uint8 RGB [H, W, 3] as OpenCV reads it: upright, alpha dropped (not blended), grey repeated."""
    path = Path(path)
    if not os.path.isfile(path):
        raise InputError(f"no such image: {path}")
    try:
        with open_picture(path) as opened:
            upright = ImageOps.exif_transpose(opened)
            if upright.mode not in ("RGB", "RGBA"):
                upright = upright.convert("RGBA" if "transparency" in upright.info else "RGB")
            return np.ascontiguousarray(np.asarray(upright)[..., :3])
    except UnidentifiedImageError:
        raise InputError(f"{path} cannot be read as an image: it is of no kind known here") from None
    except (OSError, ValueError, SyntaxError, EOFError, MemoryError, Image.DecompressionBombError) as error:
        raise InputError(f"{path} cannot be read as an image: {why(error)}") from None


def face_motion(expression: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """[L, 64] and [L, 9] -> rows of `facemotion.npy`, float32 [L, 73]."""
    assert expression.shape[1] == COEFFICIENTS and pose.shape[1] == POSE
    return np.concatenate([expression, pose], 1).astype(np.float32)

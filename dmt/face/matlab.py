"""MATLAB's .mat files of versions 4 to 7, as far as they hold plain arrays of real numbers.

scipy reads more of them, in compiled code that a damaged file can crash, and with it a service that others send files
to. Here a file is bytes that are counted before they are taken; what is no array of numbers is passed over.
Source: MathWorks, "MAT-File Format", R2024a; held equal to scipy's reading by tests.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

LARGEST = 1 << 29
"""Bytes that one array may unfold to: hours of coefficients."""
MOST = 1000
"""Arrays that one file may hold."""

_COMPRESSED, _MATRIX = 15, 14
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
"""How numbers lie in the file, by data type; their class says what they are."""
_NUMBERS = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_OTHERS = {1: "cells", 2: "structure", 3: "object", 4: "text", 5: "sparse matrix", 16: "function", 17: "object"}
_COMPLEX = 0x08
_OLD = ("f8", "f4", "i4", "i2", "u2", "u1")
"""Of version 4, by its precision digit."""


@dataclass(frozen=True)
class Variable:
    """kind: `numbers`, or what else it is, in a word; values: [shape], None for no numbers or not wanted."""

    name: str
    kind: str
    shape: tuple[int, ...]
    values: NDArray[np.generic] | None = None


class _Bytes(Protocol):
    def read(self, count: int, /) -> bytes: ...


def read_variables(path: str | os.PathLike[str], wanted: Container[str] | None = None) -> list[Variable]:
    """All variables of a file, in its order; values of those `wanted` (None: all).

    ValueError, OSError: no .mat file, version 7.3 (which is HDF5), damaged, an array of more than `LARGEST` bytes.
    """
    with open(path, "rb") as file:
        try:
            variables = list(islice(_variables(file, wanted), MOST + 1))
        except struct.error:
            raise ValueError("a damaged tag") from None
    if len(variables) > MOST:
        raise ValueError(f"more than {MOST} arrays")
    return variables


def _variables(file: io.BufferedReader, wanted: Container[str] | None) -> Iterator[Variable]:
    size = os.fstat(file.fileno()).st_size
    head = file.read(128)
    if len(head) >= 20 and 0 in head[:4]:
        file.seek(0)
        return _version_4(file, size, wanted)
    if len(head) < 128 or head[126:] not in (b"IM", b"MI"):
        raise ValueError("it does not begin as one")
    order = "<" if head[126:] == b"IM" else ">"
    version = struct.unpack(order + "H", head[124:126])[0]
    if version != 0x0100:
        raise ValueError("it is of version 7.3; save it with -v7" if version == 0x0200 else f"version {version:#x}")
    return _version_5(file, size, order, wanted)


def _version_5(file: io.BufferedReader, size: int, order: str, wanted: Container[str] | None) -> Iterator[Variable]:
    while (start := file.tell()) < size:
        kind, length = struct.unpack(order + "II", _exactly(file, 8))
        if start + 8 + length > size:
            raise ValueError("it is cut short")
        if kind == _COMPRESSED:
            packed = _Packed(file.read(length))
            if struct.unpack(order + "II", _exactly(packed, 8))[0] == _MATRIX:
                yield _matrix(packed, order, wanted)
        elif kind == _MATRIX:
            yield _matrix(io.BytesIO(file.read(length)), order, wanted)
        elif kind not in _STORED:
            raise ValueError(f"an element of unknown type {kind}")
        file.seek(start + 8 + length)


def _matrix(source: _Bytes, order: str, wanted: Container[str] | None) -> Variable:
    """One array: flags, dimensions, name, numbers."""
    flags = struct.unpack(order + "I", _element(source, order, 64)[1][:4])[0]
    kind, is_complex = flags & 0xFF, bool(flags >> 8 & _COMPLEX)
    if kind == 17:  # has no dimensions, and what follows is documented nowhere
        return Variable("", _OTHERS[kind], ())
    if kind not in _NUMBERS and kind not in _OTHERS:
        raise ValueError(f"an array of unknown class {kind}")
    lengths = _element(source, order, 4 * 32)[1]
    shape = struct.unpack(f"{order}{len(lengths) // 4}i", lengths[: len(lengths) // 4 * 4])
    name = _element(source, order, 4096)[1].decode("latin-1")
    if kind in _OTHERS or is_complex:
        return Variable(name, _OTHERS.get(kind, "complex numbers"), shape)
    count = _count(name, shape, np.dtype(_NUMBERS[kind]).itemsize)
    if wanted is not None and name not in wanted:
        return Variable(name, "numbers", shape)
    stored, data = _element(source, order, LARGEST)
    if stored not in _STORED:
        raise ValueError(f"the numbers of {name[:40]!r} are of unknown type {stored}")
    values = np.frombuffer(data, order + _STORED[stored]) if len(data) % np.dtype(_STORED[stored]).itemsize == 0 else ()
    if len(values) != count:
        raise ValueError(f"{name[:40]!r} promises {count} numbers and holds {len(data)} bytes")
    with np.errstate(invalid="ignore"):
        return Variable(name, "numbers", shape, values.astype(_NUMBERS[kind]).reshape(shape, order="F"))


def _element(source: _Bytes, order: str, most: int) -> tuple[int, bytes]:
    """Data type and content of the next element; up to four bytes lie in the tag itself."""
    tag = _exactly(source, 8)
    kind, length = struct.unpack(order + "II", tag)
    if kind >> 16:
        if kind >> 16 > 4:
            raise ValueError("a damaged tag")
        return kind & 0xFFFF, tag[4 : 4 + (kind >> 16)]
    if length > most:
        raise ValueError(f"an element of {length} bytes, where at most {most} belong")
    content = _exactly(source, length)
    source.read(-length % 8)
    return kind, content


def _version_4(file: io.BufferedReader, size: int, wanted: Container[str] | None) -> Iterator[Variable]:
    while file.tell() < size:
        head = _exactly(file, 20)
        order = "<" if 0 <= struct.unpack("<i", head[:4])[0] < 5000 else ">"
        code, rows, columns, is_complex, length = struct.unpack(order + "5i", head)
        digits = [code // 1000, code // 100 % 10, code // 10 % 10, code % 10]
        if digits[0] != (order == ">") or digits[1] or digits[2] >= len(_OLD) or digits[3] > 2 or not 0 < length < 4096:
            raise ValueError("a damaged header")
        name = _exactly(file, length).rstrip(b"\0").decode("latin-1")
        dtype, shape = np.dtype(order + _OLD[digits[2]]), (rows, columns)
        count = _count(name, shape, dtype.itemsize)
        end = file.tell() + count * dtype.itemsize * (2 if is_complex else 1)
        if end > size:
            raise ValueError("it is cut short")
        if digits[3] or is_complex:
            yield Variable(name, ("complex numbers", "text", "sparse matrix")[digits[3]], shape)
        elif wanted is not None and name not in wanted:
            yield Variable(name, "numbers", shape)
        else:
            values = np.frombuffer(_exactly(file, count * dtype.itemsize), dtype)
            yield Variable(name, "numbers", shape, values.astype(dtype.newbyteorder("=")).reshape(shape, order="F"))
        file.seek(end)


def _count(name: str, shape: tuple[int, ...], itemsize: int) -> int:
    count = math.prod(shape)
    if len(shape) < 2 or min(shape) < 0:
        raise ValueError(f"{name[:40]!r} has the shape {shape}")
    if count * itemsize > LARGEST:
        raise ValueError(f"{name[:40]!r} would take {count * itemsize / 1e9:.1f} GB")
    return count


def _exactly(source: _Bytes, count: int) -> bytes:
    content = source.read(count)
    if len(content) != count:
        raise ValueError("it is cut short")
    return content


class _Packed:
    """A zlib stream that unfolds no further than it is read."""

    def __init__(self, content: bytes) -> None:
        self._engine, self._left = zlib.decompressobj(), content

    def read(self, count: int) -> bytes:
        """So many bytes, fewer at the end. ValueError: damaged."""
        pieces, missing = [], count
        try:
            while missing:
                piece = self._engine.decompress(self._left, missing)
                self._left = self._engine.unconsumed_tail
                if not piece:
                    break
                pieces.append(piece)
                missing -= len(piece)
        except zlib.error as error:
            raise ValueError(str(error)) from None
        return b"".join(pieces)

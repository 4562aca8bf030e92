"""Our reading of .mat files is scipy's, where scipy's is safe; and what is made to harm is one sentence."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from dmt.face.matlab import LARGEST, MOST, read_variables

KINDS = ("f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8")


def arrays() -> dict[str, object]:
    random = np.random.default_rng(0)
    plain = {f"a_{kind}": (100 * random.standard_normal((3, 5))).astype(kind) for kind in KINDS}
    shapes = {"empty": np.zeros((0, 257)), "one": np.ones((1, 1)), "row": np.arange(4), "three": np.ones((2, 3, 4))}
    small = {"few": np.array([[1, 2]], np.int8), "four": np.arange(4, dtype=np.uint8)[None], "flag": np.array([[True]])}
    return plain | shapes | small


def same(path: Path) -> None:
    theirs = {name: value for name, value in scipy.io.loadmat(path).items() if not name.startswith("__")}
    found = {variable.name: variable for variable in read_variables(path) if variable.values is not None}
    assert list(found) == list(theirs)
    for name, value in theirs.items():
        got = found[name].values
        assert got.shape == value.shape == found[name].shape
        assert got.dtype == value.dtype or value.dtype == bool, name
        assert np.array_equal(got, value)


@pytest.mark.parametrize("packed", [False, True])
def test_numbers_of_versions_5_to_7(tmp_path, packed):
    scipy.io.savemat(tmp_path / "a.mat", arrays(), do_compression=packed)
    same(tmp_path / "a.mat")


def test_numbers_of_version_4(tmp_path):
    random = np.random.default_rng(0)
    content = {f"a_{k}": (50 * random.standard_normal((3, 5))).astype(k) for k in ("f8", "f4", "i4", "i2", "u2", "u1")}
    scipy.io.savemat(tmp_path / "a.mat", content, format="4")
    same(tmp_path / "a.mat")


def test_big_endian_and_numbers_stored_smaller_than_they_are(tmp_path):
    """As MATLAB writes doubles that are whole numbers, on a machine of the other kind."""

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)

    body = element(6, struct.pack(">II", 6, 0)) + element(5, struct.pack(">ii", 2, 3)) + element(1, b"coeff")
    body += element(3, struct.pack(">6h", 1, -2, 3, 4, 5, 300))
    content = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(">H", 0x0100) + b"MI" + element(14, body)
    (tmp_path / "a.mat").write_bytes(content)
    (variable,) = read_variables(tmp_path / "a.mat")
    assert np.array_equal(variable.values, scipy.io.loadmat(tmp_path / "a.mat")["coeff"])
    assert variable.values.dtype == np.float64 and variable.values.tolist() == [[1, 3, 5], [-2, 4, 300]]


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_no_number_is_passed_over(tmp_path, packed):
    others = {
        "words": "hello",
        "cells": np.array([["a", np.ones(3)]], object),
        "parts": {"x": 1, "y": {"z": 2}},
        "thin": scipy.sparse.eye_array(3, format="csc"),
        "wave": np.ones((2, 2), complex),
        "coeff": np.ones((2, 257)),
    }
    scipy.io.savemat(tmp_path / "a.mat", others, do_compression=packed)
    found = {variable.name: (variable.kind, variable.values is None) for variable in read_variables(tmp_path / "a.mat")}
    assert found.pop("coeff") == ("numbers", False)
    kinds = {
        "words": "text",
        "cells": "cells",
        "parts": "structure",
        "thin": "sparse matrix",
        "wave": "complex numbers",
    }
    assert found == {name: (kind, True) for name, kind in kinds.items()}


def test_only_what_is_wanted_is_read(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {"coeff": np.ones((2, 3)), "other": np.ones((4, 5))})
    shapes = {v.name: (v.shape, v.values is None) for v in read_variables(tmp_path / "a.mat", {"coeff"})}
    assert shapes == {"coeff": ((2, 3), False), "other": ((4, 5), True)}


HEAD = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def promising(rows: int, packed: bool, stored: int = 9) -> bytes:
    """A coeff of so many rows of numbers of that data type, none of which is there."""
    body = struct.pack("<IIII", 6, 8, 6, 0) + struct.pack("<IIii", 5, 8, rows, 257)
    body += struct.pack("<II5s3x", 1, 5, b"coeff") + struct.pack("<II", stored, min(abs(rows) * 257 * 8, 2**32 - 1))
    body = struct.pack("<II", 14, len(body)) + body
    if packed:
        body = zlib.compress(body)
        body = struct.pack("<II", 15, len(body)) + body
    return HEAD + body


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("rows", [4, 200_000, 2**31 - 1, -1])
def test_what_promises_more_than_it_holds(tmp_path, rows, packed):
    (tmp_path / "a.mat").write_bytes(promising(rows, packed))
    with pytest.raises(ValueError, match=r"cut short|would take|has the shape|at most"):
        read_variables(tmp_path / "a.mat")


@pytest.mark.parametrize("packed", [False, True])
def test_numbers_of_no_known_type(tmp_path, packed):
    """What ends a process that reads it with scipy 1.17 (a fuzzer found it)."""
    (tmp_path / "a.mat").write_bytes(promising(0, packed, stored=0x99))
    with pytest.raises(ValueError, match="unknown type 153"):
        read_variables(tmp_path / "a.mat")


def test_an_archive_of_nothing_unfolds_no_further_than_it_is_read(tmp_path):
    body = zlib.compress(struct.pack("<II", 14, 2**32 - 8) + bytes(1 << 20))
    (tmp_path / "a.mat").write_bytes(HEAD + struct.pack("<II", 15, len(body)) + body)
    with pytest.raises(ValueError, match="damaged tag"):
        read_variables(tmp_path / "a.mat")
    assert LARGEST < 2**30


def test_too_many(tmp_path):
    scipy.io.savemat(tmp_path / "a.mat", {f"a{i}": 1.0 for i in range(MOST + 1)}, format="4")
    with pytest.raises(ValueError, match="more than 1000"):
        read_variables(tmp_path / "a.mat")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "does not begin"),
        (b"hello", "does not begin"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + struct.pack("<H", 0x0200) + b"IM", "-v7"),
        (bytes(20), "damaged header"),
        (
            HEAD + b"\x0e\0\0\0\xff\xff\0\0",
            "cut short",
        ),
    ],
)
def test_what_is_no_such_file(tmp_path, content, words):
    (tmp_path / "a.mat").write_bytes(content)
    with pytest.raises(ValueError, match=words):
        read_variables(tmp_path / "a.mat")

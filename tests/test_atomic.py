"""Outputs appear whole or not at all."""

from __future__ import annotations

import os

import pytest

from dmt.atomic import atomic
from dmt.errors import InputError


def test_a_file_appears_when_it_is_whole(tmp_path):
    target = tmp_path / ("sehr ünïcode " + "é" * 100 + ".bin")  # long in bytes, as file systems count
    target.write_bytes(b"older")
    with atomic(target) as part:
        part.write_bytes(b"newer")
        assert target.read_bytes() == b"older" and part.parent == tmp_path and part.suffix == ".part"
    assert target.read_bytes() == b"newer" and list(tmp_path.iterdir()) == [target]


def test_permissions_are_those_of_any_new_file(tmp_path):
    (tmp_path / "usual").touch()
    with atomic(tmp_path / "ours"):
        pass
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "usual").stat().st_mode


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_nothing_is_left_of_a_failure(tmp_path, error):
    (tmp_path / "a").write_text("older")
    with pytest.raises(error), atomic(tmp_path / "a") as part:
        part.write_text("half")
        raise error
    assert os.listdir(tmp_path) == ["a"] and (tmp_path / "a").read_text() == "older"


@pytest.mark.parametrize(
    ("name", "words"), [("no/such/a", "does not exist"), ("", "is a folder"), ("/proc/a", "not writable")]
)
def test_where_nothing_can_be_written(tmp_path, name, words):
    with pytest.raises(InputError, match=words), atomic(tmp_path / name):
        raise AssertionError("the body must not run")

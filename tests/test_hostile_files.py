"""Files that are damaged or made to harm: every reader answers with one sentence, soon, in little memory.

Here each kind of file and odd names; test_hostile_arrays.py and test_hostile_checkpoints.py hold what is made for one
reader.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path

import pytest
from hostile import answer, limited
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some
from readers import KINDS, Kind, cases, film, frames

from dmt import media
from dmt.batch.jobs import read_jobs
from dmt.errors import InputError, why
from dmt.face.pose import load_pose

pytestmark = limited


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


@pytest.mark.parametrize("name", ["form.body", "hello.message"])
def test_damaged_messages(folder: Path, name: str) -> None:
    pytest.importorskip("fastapi", reason="the service comes with the extra [web]")
    from messages import MESSAGES

    survive(next(kind for kind in MESSAGES if kind.name == name), folder, 12)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_much_damage(kind: Kind, folder: Path) -> None:
    survive(kind, folder, 2000)


@pytest.mark.parametrize(
    ("said", "quoted"),
    [
        ("no such key\n  missing: a.weight\n", "no such key missing: a.weight"),
        ("a\x1b[31mb\x07\udcffc\u202e", "a?[31mb??c?"),
        ("x" * 201, "x" * 200 + "..."),
        (" \n", "ValueError"),
    ],
)
def test_words_of_other_libraries_are_quoted_in_one_printable_line(said, quoted):
    assert str(InputError(why(ValueError(said)))) == quoted


def test_a_sentence_keeps_its_ends():
    said = str(InputError("first " + "x" * 100_000 + " last"))
    assert said.startswith("first x") and said.endswith("x last") and len(said) < 2000


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

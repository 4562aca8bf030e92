"""Tables and folders become jobs, or one sentence says what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dmt.batch import Job, Maker, read_jobs
from dmt.errors import InputError
from dmt.scene import Options


def test_csv_and_json_lines_say_the_same(tmp_path: Path) -> None:
    (tmp_path / "happy.mat").touch()
    (tmp_path / "a.csv").write_text(
        "audio,image,style,intensity,blink,seed,size,output\n"
        "one.wav,me.png,happy,1.5,no,7,256,first/one.mp4\n"
        "two.wav,,happy.mat,,,,,\n"
    )
    rows = [
        {"audio": "one.wav", "image": "me.png", "style": "happy", "intensity": 1.5, "blink": False, "seed": 7}
        | {"size": 256, "output": "first/one.mp4"},
        {"audio": "two.wav", "style": "happy.mat", "image": None},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    first, second = jobs = read_jobs(tmp_path / "a.csv")
    assert jobs == read_jobs(tmp_path / "a.jsonl")
    options = Options(style="happy", intensity=1.5, blink=False, seed=7, size=256)
    assert first == Job(str(tmp_path / "one.wav"), str(tmp_path / "me.png"), "first/one.mp4", options)
    assert second.output == "two-portrait-happy.mp4" and second.image is None
    assert second.options == Options(style=str(tmp_path / "happy.mat"))  # a file beside the table, not an emotion


def test_a_folder_is_every_combination(tmp_path: Path) -> None:
    for name in ("a.wav", "b.MP3", "x.png", "y.jpg", ".hidden.wav", "notes.txt"):
        (tmp_path / name).touch()
    jobs = read_jobs(tmp_path, styles=["happy", "sad"])
    assert len(jobs) == 8 and len({job.output for job in jobs}) == 8
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "voice.ogg").touch()
    (job,) = read_jobs(tmp_path / "alone")
    assert job.image is None and job.options == Options()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no jobs"),
        ("audio,colour\na.wav,red\n", "unknown column 'colour'"),
        ("image\nme.png\n", "needs an audio file"),
        ("audio,seed\na.wav,x\n", "line 2: seed should be of the kind int, got 'x'"),
        ("audio,blink\na.wav,perhaps\n", "blink should be"),
        ("audio,output\na.wav,../b.mp4\n", "inside the batch's folder"),
        ("audio,output\na.wav,/tmp/b.mp4\n", "inside the batch's folder"),
        ("audio,output\na.wav,b.avi\n", "inside the batch's folder"),
        ("audio,output\na.wav,.batch/b.mp4\n", "begin with a dot"),
        ("audio\na.wav\nx/a.wav\n", "two jobs of"),
        ("audio,seed\na.wav\n", "line 2: expected 2 columns"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "jobs.csv").write_text(text)
    with pytest.raises(InputError, match=words):
        read_jobs(tmp_path / "jobs.csv")


def test_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "jobs.xls").touch()
    (tmp_path / "jobs.jsonl").write_text("[1]\n")
    (tmp_path / "latin.csv").write_bytes("audio\nvoilà.wav\n".encode("latin-1"))
    for name, words in [("jobs.xls", r"\.csv, \.jsonl"), ("jobs.jsonl", "expected an object"), ("latin.csv", "UTF-8")]:
        with pytest.raises(InputError, match=words):
            read_jobs(tmp_path / name)
    with pytest.raises(InputError, match="there are no jobs at"):
        read_jobs(tmp_path / "absent.csv")
    for text, words in [
        ('{"audio": "a.wav", "seed": ' + "9" * 5000 + "}", "line 1: not JSON"),
        ('{"audio": "a\\ud800.wav"}', "half a character"),
        ('{"audio": ["a.wav"]}', "audio should be the name of a file, got"),
        ('{"audio": "a.wav", "output": "' + "n" * 300 + '.mp4"}', "cannot be"),
        ('{"audio": "a.wav", "style": 7}', "style should be the name of a file, got 7"),
    ]:
        (tmp_path / "jobs.jsonl").write_text(text)
        with pytest.raises(InputError, match=words):
            read_jobs(tmp_path / "jobs.jsonl")
    (tmp_path / "silent").mkdir()
    with pytest.raises(InputError, match="holds no sound"):
        read_jobs(tmp_path / "silent")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    content=st.one_of(st.binary(max_size=300), st.text(max_size=300).map(str.encode)),
    suffix=st.sampled_from(["csv", "jsonl"]),
)
def test_anything_else_is_one_sentence(tmp_path: Path, content: bytes, suffix: str) -> None:
    table = tmp_path / f"jobs.{suffix}"
    table.write_bytes(b"audio,output\n" + content if suffix == "csv" else content)
    try:
        jobs = read_jobs(table)
    except InputError as error:
        assert str(error)
    else:
        assert all(not Path(job.output).is_absolute() and ".." not in Path(job.output).parts for job in jobs)


def test_a_key_follows_everything_the_video_depends_on(tmp_path: Path) -> None:
    voice = tmp_path / "a.wav"
    voice.write_bytes(b"1")
    job, maker = Job(str(voice), None, "a.mp4", Options()), Maker()
    key = job.key(maker)
    assert key == Job(str(voice), None, "a.mp4", Options()).key(Maker())
    assert key != Job(str(voice), None, "a.mp4", Options(seed=1)).key(maker)
    assert key != job.key(Maker(checkpoint="other.safetensors"))
    voice.write_bytes(b"12")
    assert key != job.key(maker)

"""The `dmt` program as a user meets it: help, a real video, signals, exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import dmt
from dmt import media
from dmt.cli.app import run
from dmt.doctor import Check, examine

tomllib = pytest.importorskip("tomllib", reason="part of Python from 3.11 on")

ROOT = Path(__file__).resolve().parents[1]
FAST = ["--size", "96", "--steps", "1"]


def dmt_process(*arguments: str, **options) -> subprocess.Popen:
    """`dmt` as a process of its own, from wherever the tests' dmt is."""
    environment = {**os.environ, "PYTHONPATH": str(Path(dmt.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    code = "from dmt.cli import main; main()"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def test_version(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"dmt {dmt.__version__}\n"


def test_help_and_version_do_not_import_what_is_heavy():
    code = (
        "import sys; from dmt.cli.app import run; code = run(sys.argv[1:]); "
        "heavy = [n for n in ('torch', 'transformers', 'scipy', 'av', 'numpy', 'PIL') if n in sys.modules]; "
        "sys.exit(f'exit {code}, imported {heavy}' if code or heavy else 0)"
    )
    for arguments in (["--version"], ["--help"], ["generate", "--help"], ["evaluate", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(Path(dmt.__file__).parents[1])},
            check=False,
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["generate", "demo", "convert", "corpus", "train", "evaluate", "doctor"])
def test_every_command_has_help(command, capsys):
    assert run([command, "--help"]) == 0
    assert "Usage: dmt " + command in re.sub(r"\s+", " ", capsys.readouterr().out)


def test_no_arguments_show_the_help(capsys):
    assert run([]) in (0, 2)  # click changed its mind between versions
    assert "generate" in capsys.readouterr().out


def test_generate_makes_a_video_and_says_how_long_it_took(tmp_path, voice, tiny_checkpoint, capsys):
    audio, output = voice(tmp_path / "voice.wav", 1.0), tmp_path / "a name with spaces.mp4"
    arguments = ["generate", "--audio", str(audio), "--checkpoint", str(tiny_checkpoint), "-o", str(output)]
    assert run([*arguments, *FAST, "--style", "sad", "--no-blink", "--pose", "still", "--seed", "3"]) == 0
    assert len(list(media.read_frames(output))) == 25
    shown = capsys.readouterr()
    for words in ("audio", "features", "motion", "render", "encode", "in all", "real-time factor", "peak memory"):
        assert words in shown.out
    assert f"wrote {output}: 25 frames, 1.00 s" in shown.out
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [output.name, "voice.wav"]


def test_the_same_seed_gives_the_same_bytes(tmp_path, voice, tiny_checkpoint):
    audio = voice(tmp_path / "voice.wav", 0.6)
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        common = ["generate", "-a", str(audio), "--checkpoint", str(tiny_checkpoint), "--seed", seed]
        assert run([*common, *FAST, "-o", str(tmp_path / f"{name}.mp4")]) == 0
    a, b, c = ((tmp_path / f"{name}.mp4").read_bytes() for name in "abc")
    assert a == b and a != c


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_no_partial_file(tmp_path, voice, tiny_checkpoint, sent, code):
    audio = voice(tmp_path / "voice.wav", 60.0)
    (tmp_path / "out").mkdir()
    arguments = ["generate", "-a", str(audio), "--checkpoint", str(tiny_checkpoint), *FAST]
    process = dmt_process(*arguments, "-o", str(tmp_path / "out" / "o.mp4"))
    deadline = time.monotonic() + 120
    while not list((tmp_path / "out").glob(".o-*.part")) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list((tmp_path / "out").glob(".o-*.part")), process.communicate()
    time.sleep(0.5)  # into the middle of the work
    process.send_signal(sent)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert not list((tmp_path / "out").iterdir())
    assert "Traceback" not in err and err.strip().splitlines()[-1].startswith("dmt: ")
    assert "wrote" not in out


def test_doctor_reports_each_part_and_mends_each_fault(capsys):
    checks = examine()
    names = {check.name for check in checks}
    assert {"torch", "kernels, CPU", "threshold_ema on cpu", "sparse_linear on cpu", "encoder libx264"} <= names
    assert all(check.mend for check in checks if check.state != "good")
    assert not [check for check in checks if " on cpu" in check.name and check.state != "good"]
    run(["doctor"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)
    assert shown.splitlines()[-1].startswith(("all ", "`dmt generate` works here; "))


def test_doctor_finds_a_wrong_operator(monkeypatch):
    from dmt import doctor, selftest

    right = selftest.sparse_linear
    monkeypatch.setattr(selftest, "sparse_linear", lambda *inputs, **options: right(*inputs, **options) * 1.01)
    found = {check.name: check for check in doctor.examine()}
    assert found["sparse_linear on cpu"].state == "bad" and found["sparse_linear on cpu"].mend
    assert found["sparse_linear by tile on cpu"].state == "bad"
    assert found["threshold_ema on cpu"].state == found["masked_linear on cpu"].state == "good"


def test_doctor_takes_no_number_for_a_fault(monkeypatch):
    from dmt import selftest

    right = selftest.sparse_linear
    monkeypatch.setattr(selftest, "sparse_linear", lambda *inputs, **options: right(*inputs, **options) * float("nan"))
    found = {name: (difference, allowed) for name, difference, allowed in selftest.operator_differences("cpu")}
    assert found["sparse_linear"][0] == float("inf") and found["threshold_ema by row"][0] <= 1e-4


def test_doctor_knows_every_extra(monkeypatch):
    from importlib.metadata import PackageNotFoundError, version

    from dmt import doctor

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    names = {extra: {need.split(";")[0].strip() for need in needs} for extra, needs in declared.items()}
    assert {extra: set(packages) for extra, (packages, _) in doctor.EXTRAS.items()} == {
        extra: packages for extra, packages in names.items() if extra not in ("dev", "docs")
    }

    def without_ray(name: str) -> str:
        if name == "ray":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(doctor.importlib.metadata, "version", without_ray)
    (check,) = [check for check in doctor._extras() if check.name == "extra ray"]
    assert check.state == "warning" and check.mend == "pip install 'ray[data]>=2.40'" and "batch" in check.found


def test_doctor_sees_an_encoder_that_does_not_encode(monkeypatch):
    from dmt import doctor

    assert [check.state for check in doctor._encoders()] == ["good"] * 3
    monkeypatch.setattr(media.VideoWriter, "write", lambda self, frames: None)
    found = {check.name: check for check in doctor._encoders()}
    assert found["encoding"].state == "bad" and found["encoding"].mend


def test_a_check_that_breaks_is_a_finding(monkeypatch):
    from dmt import doctor

    def _gpu():
        raise OSError("driver asleep")
        yield

    monkeypatch.setattr(doctor, "_gpu", _gpu)
    assert (
        Check("gpu", "OSError: driver asleep", "bad", "pip install --force-reinstall dreamtalk-dmt") in doctor.examine()
    )


def test_corpus_refuses_what_cannot_be(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(["corpus", str(tmp_path / "file")]) == 2
    assert run(["corpus", str(tmp_path / "new"), "--minutes", "0"]) == 2
    assert not (tmp_path / "new").exists()
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_evaluate_prints_one_line_of_json(tmp_path, voice, tiny_checkpoint, capsys):
    np.save(tmp_path / "reference.npy", np.random.default_rng(0).standard_normal((60, 73)).astype(np.float32))
    audio = voice(tmp_path / "voice.wav", 3.0)
    common = ["--checkpoint", str(tiny_checkpoint)]
    assert run(["evaluate", "lips", "-a", str(audio), "--reference", str(tmp_path / "reference.npy"), *common]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert {"correlation", "best_lag_frames", "frames"} <= set(measures := json.loads(line))
    assert measures["frames"] == 60 and -1 <= measures["correlation"] <= 1
    assert run(["evaluate", "silence", *common]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert all(isinstance(value, float) for value in json.loads(line).values())
    assert run(["evaluate", "emotions", "-a", str(audio), *common]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert len(json.loads(line)["emotions"]) == 8


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "lips", "-a", "absent.wav", "--reference", "absent.npy"],
        ["evaluate", "silence", "--seed", "-1"],
        ["evaluate", "closures", "--clips", "0"],
        ["evaluate", "emotions", "-a", "absent.wav"],
        ["train", "--corpus", "absent"],
        ["train", "--corpus", ".", "--preset", "huge"],
    ],
)
def test_wrong_arguments_of_the_other_commands(arguments, tiny_checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    if arguments[0] == "evaluate":
        arguments = [*arguments, "--checkpoint", str(tiny_checkpoint)]
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) == 1 and shown.out == "" and not list(tmp_path.iterdir())

"""`dmt train` as a user runs it: every option, a file of settings, Ctrl-C, torchrun's door."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from dmt.checkpoint import load_model
from dmt.cli.app import run
from dmt.config import to_dict
from dmt.training.state import load_state

STAGE = {"steps": 2, "rate": 1e-3, "clips": 4, "frames": 8, "cycles": 1}


def write_settings(path, model, **changes):
    path.write_text(json.dumps({"model": to_dict(model), "save_every": 2, "warm_up": 2, **changes}))
    return str(path)


def test_paper_schedule_from_the_command_line(shrunk, corpus, tmp_path, capsys):
    schedule = {"encoders": STAGE, "fusion": STAGE, "decoders": {"steps": 2, "clips": 2}, "rounds": 1, "crop": 30}
    settings = write_settings(
        tmp_path / "s.json", shrunk("dmt"), schedule={**schedule, "validation_clips": 1}, seed=5, clip_norm=0.5
    )
    common = ["train", "--data", str(corpus), "-o", str(tmp_path / "run"), "--preset", "dmt", "--settings", settings]
    assert run([*common, "--precision", "bfloat16", "--accumulate", "2", "--seed", "3"]) == 0
    assert "wrote" in capsys.readouterr().out
    saved = json.loads((tmp_path / "run" / "training.json").read_text())
    assert saved["precision"] == "bfloat16" and saved["accumulate"] == 2 and saved["seed"] == 3
    assert saved["clip_norm"] == 0.5 and saved["model"]["diffusion"]["prediction"] == "x0"
    assert saved["schedule"]["decoders"]["clips"] == 2 and saved["schedule"]["encoder_rate"] == 1e-5
    assert load_model(tmp_path / "run" / "model.safetensors").config == shrunk("dmt")
    assert run(common) == 2  # without the options the file's seed holds: the folder holds a run with other settings
    assert "other settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--schedule", "long"], "paper or bundled"),
        (["--preset", "dreamtalk", "--schedule", "bundled"], "own speech encoders"),
        (["--precision", "int4"], "must be one of"),
        (["--prediction", "velocity"], "must be one of"),
        (["--device", "quantum", "--schedule", "paper"], "unknown device"),
        (["--start", "absent.pth", "--schedule", "paper"], "no such checkpoint"),
        (["--settings", "absent.json"], "no such file: absent.json"),
    ],
)
def test_wrong_options_are_one_sentence(arguments, words, corpus, tmp_path, capsys):
    assert run(["train", "--data", str(corpus), "-o", str(tmp_path / "run"), *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line


def test_a_folder_without_data(tmp_path, capsys):
    assert run(["train", "--data", str(tmp_path), "--preset", "dmt", "-o", str(tmp_path / "run")]) == 2
    assert "dmt prepare" in capsys.readouterr().err


def test_ctrl_c_is_one_sentence_and_a_state_to_go_on_from(shrunk, corpus, tmp_path):
    long = {**STAGE, "steps": 100_000, "frames": 10}
    settings = write_settings(tmp_path / "s.json", shrunk("demo"), prosodic=long, acoustic=long)
    out = tmp_path / "run"
    command = [sys.executable, "-m", "dmt.training", "--data", str(corpus), "-o", str(out), "--settings", settings]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    states = [out / f"{name}.state.safetensors" for name in ("prosodic", "acoustic")]
    limit = time.monotonic() + 240
    while not all(s.exists() for s in states) and process.poll() is None and time.monotonic() < limit:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process of the group
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert said.splitlines()[-1] == f"dmt: stopped; the same command goes on from the last state in {out}"
    assert all(load_state(state)["step"] >= 2 for state in states)
    assert not list(out.glob("*.part"))

"""`dmt serve` and `dmt web` as programs: they answer, stop cleanly, and refuse in one sentence."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

import dmt
from dmt.cli.app import run
from dmt.cli.serve import web_missing


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return taken.getsockname()[1]


def test_serve_answers_and_a_signal_ends_it_without_a_trace(tiny_checkpoint, speech, tmp_path):
    port = free_port()
    arguments = ["--port", str(port), "--checkpoint", str(tiny_checkpoint), "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from dmt.cli import main; main()", "serve", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(dmt.__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(tmp_path),
        },
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
            deadline = time.monotonic() + 60
            while True:
                try:
                    assert http.get("/health").json()["status"] == "ok"
                    break
                except httpx.ConnectError:
                    assert time.monotonic() < deadline and process.poll() is None
                    time.sleep(0.1)
            job = http.post("/v1/jobs", files={"audio": ("a.wav", speech)}, data={"size": "512", "steps": "100"})
            assert job.status_code == 202 and list(tmp_path.glob("dmt-serve-*/*/audio"))
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 143 and "Traceback" not in said
    assert not list(tmp_path.glob("dmt-*"))


@pytest.mark.parametrize("command", ["serve", "web"])
def test_help_and_an_address_that_cannot_be(command, tiny_checkpoint, capsys):
    assert run([command, "--help"]) == 0
    assert "127.0.0.1" in capsys.readouterr().out
    if command == "web":
        pytest.importorskip("gradio", reason="the page comes with the extra [web]")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert run([command, "--port", port, "--checkpoint", str(tiny_checkpoint)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("dmt:")]
    assert "cannot listen on 127.0.0.1" in line


def test_without_the_extra_the_sentence_says_what_to_install():
    assert "dreamtalk-dmt[web]" in str(web_missing(ModuleNotFoundError("no", name="uvicorn")))
    with pytest.raises(ModuleNotFoundError):
        web_missing(ModuleNotFoundError("no", name="dmt.servce"))

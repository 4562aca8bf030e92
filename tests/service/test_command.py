"""`dmt serve` and `dmt web` as programs: they answer, stop cleanly, and refuse in one sentence."""

from __future__ import annotations

import signal
import socket

import pytest
from serving import program

from dmt.cli.app import run
from dmt.cli.serve import web_missing


def test_serve_answers_and_a_signal_ends_it_without_a_trace(tiny_checkpoint, speech, tmp_path):
    with program(tiny_checkpoint, folder=tmp_path) as (process, service):
        job = service.post(speech, size="512", steps="100")
        assert job.status_code == 202 and list(tmp_path.glob("dmt-serve-*/*/audio"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 143
    said = (tmp_path / "log.txt").read_text()
    assert f"the service is at {service.http.base_url}".rstrip("/") in said and "Traceback" not in said
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

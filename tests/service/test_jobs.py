"""Jobs over HTTP, asked for by real clients."""

from __future__ import annotations

import socket
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from serving import SMALL, serving

from dmt import media
from dmt.service.limits import Limits


def frames_of(data: bytes, path: Path) -> np.ndarray:
    path.write_bytes(data)
    return np.stack(list(media.read_frames(path)))


def test_from_upload_to_video(service, pipeline, speech, tmp_path):
    asked = service.post(("../../etc/a b.wav", speech), style="happy", seed="3", blink="false")
    assert asked.status_code == 202 and asked.json()["state"] in ("queued", "running")
    state = service.over(asked.json()["id"])
    assert asked.headers["location"] == f"/v1/jobs/{state['id']}"
    assert state["state"] == "done" and state["frames"] == 25 and state["timings"]["render"] > 0
    assert service.metric('dmt_jobs_total{outcome="done"}') >= 1
    answer = service.http.get(state["video"])
    assert answer.headers["content-type"] == "video/mp4"
    (tmp_path / "voice.wav").write_bytes(speech)
    pipeline.generate(
        tmp_path / "voice.wav", output=tmp_path / "own.mp4", size=64, steps=1, style="happy", seed=3, blink=False
    )
    own = np.stack(list(media.read_frames(tmp_path / "own.mp4")))
    assert np.array_equal(frames_of(answer.content, tmp_path / "sent.mp4"), own)
    assert service.http.delete(f"/v1/jobs/{state['id']}").json() == {"id": state["id"], "state": "removed"}
    assert service.http.get(f"/v1/jobs/{state['id']}").status_code == 404


def test_many_at_once_get_what_each_asked_for(service, speech, tmp_path):
    with ThreadPoolExecutor(6) as clients:
        asked = list(clients.map(lambda seed: service.post(("a.wav", speech), seed=str(seed % 2)), range(6)))
    states = [service.over(answer.json()["id"]) for answer in asked]
    assert [state["state"] for state in states] == ["done"] * 6
    made = [frames_of(service.http.get(state["video"]).content, tmp_path / "a.mp4") for state in states]
    assert all(np.array_equal(made[index], made[index % 2]) for index in range(6))
    assert not np.array_equal(made[0], made[1])


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"style": "/etc/passwd"}, "unknown emotion"),
        ({"pose": "/tmp/pose.mat"}, "natural"),
        ({"seed": "-1"}, "seed"),
        ({"intensity": "nan"}, "intensity"),
        ({"size": "4096"}, "limited to 128 pixels"),
        ({"steps": "1000"}, "limited to 100"),
        ({"landmarks": "/etc/passwd"}, "unknown field 'landmarks'"),
    ],
)
def test_wrong_options_are_one_sentence(service, speech, fields, words):
    answer = service.post(("a.wav", speech), **fields)
    assert answer.status_code == 422 and words in answer.json()["error"]


PLAYLIST = b"ffconcat version 1.0\nfile /tmp/secret.wav\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("audio", b"not sound", "the audio sent is not a media file"),
        ("audio", b"", "the audio sent is not a media file"),
        ("audio", PLAYLIST, "the audio sent is not a media file"),
        ("image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n", "the portrait sent is no picture"),
        ("style", b"not a mat file", "the style clip sent"),
        ("pose", b"not a mat file", "the pose sent"),
    ],
)
def test_wrong_files_are_one_sentence_without_our_paths(service, speech, name, content, words):
    files = {"audio": ("a.wav", speech), name: ("../x.mat", content)}
    answer = service.http.post("/v1/jobs", files=files, data=SMALL)
    said = answer.json()["error"] if answer.status_code == 422 else service.over(answer.json()["id"])["error"]
    assert words in said and tempfile.gettempdir() not in said
    assert "\n" not in said


def test_sound_beyond_the_limit_is_refused(service, voice, tmp_path):
    long = voice(tmp_path / "long.wav", 6.0).read_bytes()
    assert "longer than 5 s" in service.over(service.post(("a.wav", long)).json()["id"])["error"]


def test_oversize_is_refused_declared_or_not(service):
    assert service.post(("a.wav", bytes(3_000_000))).status_code == 413

    def endless():
        yield b'--x\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\n\r\n'
        for _ in range(3000):
            yield bytes(1000)

    headers = {"content-type": "multipart/form-data; boundary=x"}
    answer = service.http.post("/v1/jobs", content=endless(), headers=headers)
    assert answer.status_code == 413 and "2 MB" in answer.json()["error"]


def test_an_upload_that_breaks_off_is_no_fault_of_ours(service, caplog):
    count = 'dmt_refused_total{status="422"}'
    before = service.metric(count) if count in service.http.get("/metrics").text else 0
    with socket.create_connection((service.http.base_url.host, service.http.base_url.port)) as raw:
        raw.sendall(
            b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            b"Content-Length: 9999\r\n\r\n"
            b'--x\r\nContent-Disposition: form-data; name="audio"; filename="a.wav"\r\n\r\nab'
        )
        time.sleep(0.1)
    service.until(lambda: f"{count} {before + 1}" in service.http.get("/metrics").text, bool)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(
    ("sent", "words"),
    [
        ({"data": {"a": "b"}}, "form"),
        ({"files": {"image": ("a.png", b"x")}}, "`audio` is missing"),
        ({"files": {"audio": ("a", b"x"), "shadow": ("a", b"x")}}, "unknown file 'shadow'"),
        ({"content": b"--x\r\nbroken", "headers": {"content-type": "multipart/form-data; boundary=y"}}, ""),
    ],
)
def test_malformed_forms(service, sent, words):
    answer = service.http.post("/v1/jobs", **sent)
    assert answer.status_code in (400, 422) and words in answer.json()["error"]


def test_pages_of_other_sites_are_refused(service, speech):
    for origin, status in (("http://evil.example", 403), (str(service.http.base_url).rstrip("/"), 200), ("null", 403)):
        assert service.http.get("/health", headers={"origin": origin}).status_code == status


def test_the_address_says_what_there_is(service):
    listed = service.http.get("/").json()["routes"]
    routes = {(method, path.replace("{name}", "ID")) for method, path in known_routes(service)}
    assert {tuple(route.split()) for route in listed if not route.startswith("WS")} == routes
    lost = service.http.get("/v2/jobs")
    assert lost.status_code == 404 and "GET /" in lost.json()["error"]


def known_routes(service) -> set[tuple[str, str]]:
    paths = service.http.get("/openapi.json").json()["paths"]
    return {(method.upper(), path) for path, methods in paths.items() for method in methods} - {("GET", "/")}


def test_unknown_jobs_and_health(service):
    for answer in (
        service.http.get("/v1/jobs/..%2f..%2fx"),
        service.http.get("/v1/jobs/x/video"),
        service.http.delete("/v1/jobs/x"),
    ):
        assert answer.status_code == 404 and answer.json()["error"]
    health = service.http.get("/health").json()
    assert health["status"] == "ok" and health["device"] == "cpu"
    assert service.metric("process_resident_memory_bytes") > 1e7


class Held:
    """The pipeline, whose jobs wait at their first encoded frames until they are let go."""

    def __init__(self, pipeline):
        self._pipeline, self.device, self.go = pipeline, pipeline.device, threading.Event()
        self.output: Path | None = None

    def generate(self, *sound, report, output, **options):
        self.output = output

        def slowly(stage, done, total):
            while stage == "encode" and not self.go.wait(0.01):
                report(stage, done, total)
            report(stage, done, total)

        return self._pipeline.generate(*sound, report=slowly, output=output, **options)


def test_queue_cancellation_and_expiry(pipeline, speech):
    held = Held(pipeline)
    with serving(held, Limits(workers=1, waiting=2, keep=0.4, job=30)) as service:
        jobs = [service.post(("a.wav", speech)).json()["id"] for _ in range(3)]
        state = {job: (lambda job=job: service.http.get(f"/v1/jobs/{job}").json()) for job in jobs}
        service.until(state[jobs[0]], lambda found: found["state"] == "running")
        assert state[jobs[2]]() == {"id": jobs[2], "state": "queued", "before": 1}
        full = service.post(("a.wav", speech))
        assert full.status_code == 503 and full.headers["retry-after"] and "queue is full" in full.json()["error"]
        assert service.http.get(f"/v1/jobs/{jobs[0]}/video").status_code == 409
        for job in jobs[:2]:  # one that runs, one that waits
            assert service.http.delete(f"/v1/jobs/{job}").json()["state"] == "cancelled"
        service.until(lambda: service.metric('dmt_jobs_total{outcome="cancelled"}'), lambda count: count == 2)
        service.until(state[jobs[2]], lambda found: found["state"] == "running")
        folder = held.output.parent
        service.until(lambda: list(folder.glob("*.part")), bool)  # half a video
        held.go.set()
        service.until(lambda: service.metric('dmt_jobs_total{outcome="done"}'), lambda count: count == 1)
        service.until(lambda: service.http.get(f"/v1/jobs/{jobs[2]}").status_code, lambda status: status == 404)
        assert not folder.exists() and not list(folder.parent.iterdir())


def test_a_job_has_a_time_limit(pipeline, speech):
    with serving(Held(pipeline), Limits(job=0.1)) as service:
        state = service.over(service.post(("a.wav", speech)).json()["id"])
        assert state["state"] == "failed" and "more than 0.1 s" in state["error"]


def test_stopping_ends_running_jobs_and_removes_every_file(pipeline, speech):
    held = Held(pipeline)
    with serving(held, Limits()) as service:
        service.post(("a.wav", speech))
        service.until(lambda: service.http.get("/health").json()["running"], lambda count: count == 1)
        service.until(lambda: held.output, lambda path: path is not None)
        started = time.monotonic()
    assert time.monotonic() - started < 10
    assert not held.output.parents[1].exists()

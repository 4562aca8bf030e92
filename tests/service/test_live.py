"""Live sessions, with real WebSocket clients: good ones, slow ones, vanishing ones, malformed ones."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import json
import socket

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from serving import serving
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect as connect_sync

from dmt import media
from dmt.scene import asset
from dmt.service.limits import Limits

OPTIONS = {"size": 64, "steps": 1}
HELLO = {"options": OPTIONS}


@pytest.fixture(scope="module")
def samples(speech) -> np.ndarray:
    """int16 [S]: two seconds."""
    return np.tile(soundfile.read(io.BytesIO(speech), dtype="int16")[0], 2)


async def session(address: str, hello: dict, samples: np.ndarray, block: int = 1600) -> tuple[list, list[bytes]]:
    """What a well-behaved client gets: texts and binary messages."""
    async with connect(address, max_size=None) as client:
        await client.send(json.dumps(hello))

        async def speak():
            for start in range(0, len(samples), block):
                await client.send(samples[start : start + block].tobytes())
            await client.send('{"type": "end"}')

        speaking = asyncio.create_task(speak())
        texts, frames = [], []
        async for message in client:
            texts.append(json.loads(message)) if isinstance(message, str) else frames.append(message)
        await speaking
        return texts, frames


def test_every_frame_comes_as_a_picture(service, pipeline, samples):
    texts, frames = asyncio.run(session(service.live, HELLO | {"quality": 95}, samples))
    assert [text["type"] for text in texts] == ["queued", "ready", "end"] and texts[-1]["frames"] == len(frames) == 50
    own = list(pipeline.stream(iter([samples]), latency=0.5, size=64, steps=1))
    for jpeg, frame in zip(frames, own, strict=True):
        shown = np.asarray(Image.open(io.BytesIO(jpeg)), np.float32)
        assert np.abs(shown - frame).mean() < 4


def test_fragments_are_a_film_with_its_sound(service, samples, tmp_path):
    _, pieces = asyncio.run(session(service.live, HELLO | {"frames": "mp4"}, samples))
    assert pieces[0][4:8] == b"ftyp" and len(pieces) > 5
    film = tmp_path / "live.mp4"
    film.write_bytes(b"".join(pieces))
    assert len(list(media.read_frames(film))) == 50
    heard = media.read_audio(film)
    assert abs(len(heard) - len(samples)) <= 2048  # AAC's frames, primed and padded
    sent = samples.astype(np.float32) / 32768
    assert np.corrcoef(heard[:30_000], sent[:30_000])[0, 1] > 0.9


def test_frames_come_while_the_voice_still_speaks(service, samples):
    with connect_sync(service.live) as client:
        client.send(json.dumps(HELLO | {"latency": 0.2}))
        client.send(samples[:16_000].tobytes())
        assert [json.loads(client.recv(10))["type"] for _ in range(2)] == ["queued", "ready"]
        assert all(client.recv(10)[:2] == b"\xff\xd8" for _ in range(15))


def test_a_portrait_of_ones_own(service, samples):
    picture = Image.open(asset("portrait.png")).convert("RGB").resize((256, 256))
    (buffer := io.BytesIO()), picture.save(buffer, "PNG")
    hello = HELLO | {"portrait": base64.b64encode(buffer.getvalue()).decode()}
    texts, frames = asyncio.run(session(service.live, hello, samples[:8000]))
    assert texts[-1] == {"type": "end", "frames": 12} or texts[-1]["frames"] == len(frames) == 13


def test_many_at_once_take_turns(service, samples):
    async def all_at_once():
        return await asyncio.gather(*(session(service.live, HELLO, samples[:8000]) for _ in range(6)))

    assert len({len(frames) for _, frames in asyncio.run(all_at_once())}) == 1


def refusal(address: str, *messages: str | bytes) -> str:
    """The sentence that a client gets who sends these."""
    with connect_sync(address) as client:
        for message in messages:
            client.send(message)
        try:
            while True:
                answer = client.recv(10)
                if isinstance(answer, str) and json.loads(answer)["type"] == "error":
                    sentence = json.loads(answer)["error"]
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1008
            return sentence


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([b"\0\0"], "first message must be JSON"),
        (["{"], "first message must be JSON"),
        (["[" * 100_000], "first message must be JSON"),
        (["[]"], "the message"),
        (['{"frames": "gif"}'], "frames"),
        (['{"options": {"style": "../../x.mat"}}'], "unknown emotion"),
        (['{"options": {"size": 100000}}'], "limited to 128"),
        (['{"path": "/etc/passwd"}'], "unknown field 'path'"),
        (['{"portrait": "%%%"}'], "base64"),
        (['{"portrait": "é"}'], "base64"),
        (['{"portrait": "bm8gcGljdHVyZQ=="}'], "the portrait sent is no picture"),
        ([json.dumps(HELLO), b"\0\0\0"], "int16 samples"),
        ([json.dumps(HELLO), bytes(400_000)], "at most 160000"),
        ([json.dumps(HELLO), "speak"], "binary messages"),
        ([json.dumps(HELLO), '{"type": "end"}'], "no samples"),
        ([json.dumps(HELLO), bytes(3200)], "no message came for 1 s"),
        ([], "no message came for 1 s"),
    ],
)
def test_whoever_breaks_the_rules_is_told(service, messages, words):
    sentence = refusal(service.live, *messages)
    assert words in sentence and "\n" not in sentence


def test_oversize_messages_and_broken_frames_close_the_connection(service):
    with connect_sync(service.live) as client:
        client.send(json.dumps(HELLO))
        with pytest.raises(ConnectionClosed):
            client.send(bytes(1_100_000))
            while True:
                client.recv(10)
        assert client.close_code == 1009
    with connect_sync(service.live) as client:
        client.socket.sendall(b"\xff" * 64)  # no opcode of RFC 6455
        with pytest.raises(ConnectionClosed):
            client.recv(10)
    service.until(lambda: service.http.get("/health").json()["live"], lambda count: count == 0)


def test_whoever_vanishes_frees_the_worker(service, samples):
    for stage in range(3):
        with connect_sync(service.live) as client:
            if stage:
                client.send(json.dumps(HELLO))
            if stage == 2:
                client.send(samples.tobytes())
                assert client.recv(10) and client.recv(10) and client.recv(10)
            client.socket.shutdown(socket.SHUT_RDWR)
    service.until(lambda: service.http.get("/health").json()["live"], lambda count: count == 0)
    assert service.metric('dmt_live_total{outcome="failed"}') == 0


def test_whoever_takes_nothing_stops_the_renderer_and_then_loses_the_connection(service, samples):
    """100 s of sound are there to be rendered; the client leaves its socket open and reads nothing."""
    gone, made = 'dmt_live_total{outcome="gone"}', 'dmt_frames_total{door="live"}'
    gone_before, made_before = service.metric(gone), service.metric(made)
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect((service.http.base_url.host, service.http.base_url.port))
    with connect_sync(service.live, sock=raw, max_queue=1, close_timeout=0.1) as client:
        client.send(json.dumps({"options": {"size": 128, "steps": 1}, "quality": 95}))
        for _ in range(10):
            client.send(np.tile(samples, 5).tobytes())
        service.until(lambda: service.http.get("/health").json()["live"], lambda count: count == 0)
        assert service.metric(gone) == gone_before + 1
        assert 16 < service.metric(made) - made_before < 2000  # of 2500: what fits into the buffers on the way


def test_a_session_that_breaks_off_leaves_no_tensor_behind(service, samples):
    """Without Python looking for circles: that it does so in time cannot be relied on."""
    gc.collect()
    gc.disable()
    try:
        before = tensors()
        for _ in range(3):
            assert "int16" in refusal(service.live, json.dumps(HELLO), samples.tobytes(), samples.tobytes(), b"odd")
            with connect_sync(service.live) as client:
                client.send(json.dumps(HELLO))
                client.send(samples.tobytes())
                while isinstance(client.recv(10), str):
                    pass
                client.socket.shutdown(socket.SHUT_RDWR)
        service.until(lambda: service.http.get("/health").json()["live"], lambda count: count == 0)
        assert tensors() <= before
    finally:
        gc.enable()


def tensors() -> int:
    """How many there are in this process, where the service is."""
    return sum(type(thing) is torch.Tensor for thing in gc.get_objects())


def test_too_many_are_turned_away(pipeline, caplog):
    with (
        serving(pipeline, Limits(live=1, live_waiting=1)) as service,
        connect_sync(service.live),
        connect_sync(service.live),
    ):
        with pytest.raises(InvalidStatus, match="503"):
            connect_sync(service.live)
        assert service.metric('dmt_refused_total{status="503"}') == 1
    assert not [record for record in caplog.records if record.levelname == "ERROR"]

"""Clients of every kind for a while: each gets its video or its sentence, and memory comes back."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from serving import SMALL, serving
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dmt.service.limits import Limits

HELLO = json.dumps({"options": {"size": 64, "steps": 1}, "latency": 0.2})
LIMITS = Limits(workers=2, waiting=6, live=3, live_waiting=6, keep=5.0, idle=3.0, stuck=3.0, hello=2.0)


def resident() -> float:
    """Megabytes in memory now."""
    gc.collect()
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


async def job(base: str, live: str, speech: bytes, dice: random.Random) -> str:
    """Posts, looks now and then, fetches; or cancels; or sends rubbish."""
    kind = dice.choice(["patient", "patient", "cancels", "rubbish"])
    async with httpx.AsyncClient(base_url=base, timeout=60) as http:
        sent = b"rubbish" if kind == "rubbish" else speech
        asked = await http.post("/v1/jobs", files={"audio": ("a.wav", sent)}, data=SMALL)
        if asked.status_code == 503:
            await asyncio.sleep(0.1)
            return "turned away"
        url = asked.headers["location"]
        if kind == "cancels":
            return (await http.delete(url)).json()["state"]
        while (state := (await http.get(url)).json())["state"] in ("queued", "running"):
            await asyncio.sleep(0.05)
        if kind == "rubbish":
            assert state["state"] == "failed" and "not a media file" in state["error"]
            return "told"
        video = await http.get(state["video"])
        assert video.content[4:8] == b"ftyp" and state["frames"] == 25
        return "video"


async def talk(base: str, live: str, speech: bytes, dice: random.Random) -> str:
    """Speaks and watches; or reads slowly; or vanishes; or breaks the rules."""
    kind = dice.choice(["speaks", "speaks", "slow", "vanishes", "malformed"])
    try:
        async with connect(live, max_size=None) as client:
            await client.send(HELLO)
            for start in range(0, 32_000, 3200):
                await client.send(speech[44:][start : start + 3200])
            if kind == "malformed":
                await client.send(b"odd")
            if kind == "vanishes":
                await asyncio.sleep(dice.random() / 2)
                client.transport.abort()
                return kind
            await client.send('{"type": "end"}')
            last: dict = {}
            frames = 0
            async for message in client:
                frames += isinstance(message, bytes)
                last = last if isinstance(message, bytes) else json.loads(message)
                if kind == "slow":
                    await asyncio.sleep(0.02)
    except InvalidStatus as refused:
        assert refused.response.status_code == 503
        await asyncio.sleep(0.1)
        return "turned away"
    except ConnectionClosed as closed:
        assert kind == "malformed" and closed.rcvd is not None and closed.rcvd.code == 1008
        return "told"
    assert last == {"type": "end", "frames": frames} and frames == 25
    return "frames"


async def crowd(service, speech: bytes, clients: int, seconds: float) -> Counter[str]:
    """So many clients at once, each coming again until the time is over; counts what they got."""
    base, ends, got = str(service.http.base_url), time.monotonic() + seconds, Counter()

    async def client(number: int) -> None:
        dice = random.Random(number)
        while time.monotonic() < ends:
            got[await (job if number % 2 else talk)(base, service.live, speech, dice)] += 1

    await asyncio.gather(*(client(number) for number in range(clients)))
    return got


def endure(pipeline, speech: bytes, clients: int, seconds: float, slack: float) -> Counter[str]:
    """A crowd, after a smaller one that brings every buffer to its size; then all is as it was."""
    with serving(pipeline, LIMITS) as service:
        asyncio.run(crowd(service, speech, clients, min(10.0, seconds / 2)))
        before, threads = quiet(service), threading.active_count()
        got = asyncio.run(crowd(service, speech, clients, seconds))
        after = quiet(service)
        print(f"{clients} clients for {seconds:g} s: {dict(got)}; {before:.0f} MB before, {after:.0f} MB after")
        assert after - before < slack
        assert threading.active_count() <= threads + 4
        assert service.metric('dmt_jobs_total{outcome="done"}') >= got["video"] > 0
        assert got["frames"] > 0 and service.metric('dmt_live_total{outcome="failed"}') == 0
    return got


def quiet(service) -> float:
    """Memory once nothing is being made and finished jobs have gone."""
    service.until(lambda: service.http.get("/health").json(), lambda s: not (s["queued"] or s["running"] or s["live"]))
    service.until(lambda: service.metric("dmt_jobs_stored"), lambda count: count == 0)
    return resident()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_crowd_leaves_no_trace(pipeline, speech):
    endure(pipeline, speech, clients=6, seconds=1.5, slack=60.0)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_sixteen_clients_for_two_minutes(pipeline, speech):
    got = endure(pipeline, speech, clients=16, seconds=120.0, slack=60.0)
    assert {"video", "frames", "told", "vanishes"} <= set(got)

"""Clients of every kind for a while: each gets its video or its sentence, and memory comes back.

One run of sixteen clients for two minutes after a warm-up of 20 s, on an Intel Xeon (Emerald Rapids, 2 cores, with
other work on them): 202 videos, 231 live sessions to their end, 128 that were told what is wrong, 66 cancelled, 74
vanished; in memory 790 MB after the warm-up, then 791, 792, 791 and 791.
"""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest
from serving import SMALL, Running, program
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

HELLO = json.dumps({"options": {"size": 64, "steps": 1}, "latency": 0.2})
ROOM = ("--workers", "2", "--waiting", "6", "--live", "3", "--keep", "60")
SLACK = 30.0
"""Megabytes."""


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


async def crowd(service: Running, speech: bytes, clients: int, seconds: float) -> Counter[str]:
    """So many clients at once, each coming again until the time is over; counts what they got."""
    base, ends, got = str(service.http.base_url), time.monotonic() + seconds, Counter()

    async def client(number: int) -> None:
        dice = random.Random(number)
        while time.monotonic() < ends:
            got[await (job if number % 2 else talk)(base, service.live, speech, dice)] += 1

    await asyncio.gather(*(client(number) for number in range(clients)))
    return got


def settled(service: Running, process: subprocess.Popen) -> float:
    """Megabytes that the process of a service has in memory once nothing is being made."""
    service.until(lambda: service.http.get("/health").json(), lambda s: not (s["queued"] or s["running"] or s["live"]))
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise AssertionError("no VmRSS")


def endure(folder: Path, checkpoint: Path, speech: bytes, clients: int, rounds: list[float]) -> Counter[str]:
    """`dmt serve` under so many seconds of a crowd, again and again; the first time brings every buffer to its size."""
    got: Counter[str] = Counter()
    with program(checkpoint, *ROOM, folder=folder) as (process, service):
        sizes = []
        for seconds in rounds:
            got += asyncio.run(crowd(service, speech, clients, seconds))
            sizes.append(settled(service, process))
        print(f"{clients} clients for {rounds} s: {dict(got)}; then in memory:", *(f"{size:.0f} MB" for size in sizes))
        assert max(sizes) - sizes[0] < SLACK
        assert service.metric('dmt_jobs_total{outcome="done"}') == got["video"] > 0
        assert got["frames"] > 0 and service.metric('dmt_live_total{outcome="failed"}') == 0
    assert "Traceback" not in (folder / "log.txt").read_text()
    return got


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_crowd_leaves_no_trace(tmp_path, tiny_checkpoint, speech):
    endure(tmp_path, tiny_checkpoint, speech, clients=6, rounds=[2.0, 2.0])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_sixteen_clients_for_two_minutes(tmp_path, tiny_checkpoint, speech):
    got = endure(tmp_path, tiny_checkpoint, speech, clients=16, rounds=[20.0, 30.0, 30.0, 30.0, 30.0])
    assert {"video", "frames", "told", "vanishes"} <= set(got)

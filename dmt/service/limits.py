"""What one client, and all of them together, may ask for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Every bound of the service, in one place. Times in seconds, sizes in bytes, pictures in pixels of a side.

    workers: jobs made at once; waiting: jobs that may queue behind them; live: live sessions at once; live_waiting:
    those that may queue. upload: bytes of a whole form; upload_seconds: for sending it. sound: length of a job's
    sound; job: time for making it; keep: how long a finished job stays; kept: finished jobs at most (the oldest
    goes first). size: largest picture; steps: of the sampler. hello: for a live session's first message;
    message: bytes of one of its messages; live_sound: of sound in one session; idle: without a message while one is
    waited for; stuck: without the client taking what is sent; session: in all. ahead: messages of sound taken
    in before they are needed; behind: frames made before they are taken.
    """

    workers: int = 1
    waiting: int = 32
    live: int = 2
    live_waiting: int = 16
    upload: int = 100_000_000
    upload_seconds: float = 120.0
    sound: float = 600.0
    job: float = 3600.0
    keep: float = 3600.0
    kept: int = 100
    size: int = 1024
    steps: int = 100
    hello: float = 10.0
    message: int = 8_000_000
    live_sound: float = 600.0
    idle: float = 15.0
    stuck: float = 15.0
    session: float = 1800.0
    ahead: int = 16
    behind: int = 16

"""The service around the tiny model, and a second of sound to send to it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from dmt.pipeline import Pipeline

pytest.importorskip("fastapi", reason="the service comes with the extra [web]")
pytest.importorskip("prometheus_client", reason="the service comes with the extra [web]")

from serving import Running, serving

from dmt.service.limits import Limits


@pytest.fixture(scope="session")
def pipeline(tiny_model) -> Pipeline:
    return Pipeline(tiny_model, torch.device("cpu"))


@pytest.fixture(scope="module")
def service(pipeline) -> Iterator[Running]:
    limits = Limits(
        workers=2,
        waiting=8,
        live=3,
        live_waiting=20,
        upload=2_000_000,
        sound=5.0,
        size=128,
        hello=1.0,
        idle=1.0,
        stuck=1.5,
        message=1_000_000,
    )
    with serving(pipeline, limits) as running:
        yield running


@pytest.fixture(scope="session")
def speech(tmp_path_factory, voice) -> bytes:
    """One second as a WAV file."""
    return voice(tmp_path_factory.mktemp("speech") / "voice.wav", 1.0).read_bytes()

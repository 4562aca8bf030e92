"""Sound that comes in blocks while it is spoken: frames before it ends, and the same ones as from a file."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch

from dmt.bench.first_frame import first_frame
from dmt.errors import InputError
from dmt.pipeline import Pipeline
from dmt.renderer.flow import FlowRenderer

SIZE = 96
LATENCY = 0.4


@pytest.fixture(scope="module")
def tiny(tiny_model) -> Pipeline:
    return Pipeline(tiny_model, torch.device("cpu"))


@pytest.fixture(scope="module")
def recording(tmp_path_factory, voice):
    return voice(tmp_path_factory.mktemp("live") / "voice.wav", 3.3)


@pytest.fixture(scope="module")
def samples(recording) -> np.ndarray:
    """int16 [S]."""
    return soundfile.read(recording, dtype="int16")[0]


@pytest.fixture(scope="module")
def from_file(tiny, recording) -> np.ndarray:
    return np.stack(list(tiny.stream(recording, size=SIZE, steps=2, latency=LATENCY)))


def test_frames_come_while_the_voice_still_speaks(tiny, samples, from_file):
    sent = 0

    def blocks():
        nonlocal sent
        for start in range(0, len(samples), 320):
            sent = min(len(samples), start + 320)
            yield samples[start : start + 320]

    shown, early = [], 0
    for index, frame in enumerate(tiny.stream(blocks(), size=SIZE, steps=2, latency=LATENCY)):
        shown.append(frame)
        assert sent <= 640 * (index + 1) + 16_000 * (LATENCY + 0.1) + 320  # what the docstring promises
        early += sent < len(samples)
    assert early > 0.8 * len(shown)
    assert np.array_equal(np.stack(shown), from_file)


@pytest.mark.parametrize(("kind", "sizes"), [("int16", [1, 5000, 0, 77]), ("float32", [100_000]), ("tensor", [0, 401])])
def test_neither_sizes_nor_numbers_matter(tiny, samples, from_file, kind, sizes):
    sound = samples if kind == "int16" else (samples / 32768).astype(np.float32)
    sound = torch.from_numpy(sound) if kind == "tensor" else sound

    def blocks():
        start, turn = 0, 0
        while start < len(sound):
            size = sizes[turn % len(sizes)]
            yield sound[start : start + size]
            start, turn = start + size, turn + 1

    frames = np.stack(list(tiny.stream(blocks(), size=SIZE, steps=2, latency=LATENCY)))
    assert np.array_equal(frames, from_file)


def test_more_context_is_another_performance_of_the_same_length(tiny, recording, from_file):
    at_leisure = np.stack(list(tiny.stream(recording, size=SIZE, steps=2)))
    assert at_leisure.shape == from_file.shape and not np.array_equal(at_leisure, from_file)


def test_the_learned_renderer_is_thirteen_frames_behind(tiny_model, samples):
    torch.manual_seed(0)
    pipeline = Pipeline(tiny_model, torch.device("cpu"), renderer=Still().eval())
    sent, shown = 0, []

    def blocks():
        nonlocal sent
        for start in range(0, len(samples), 320):
            sent = start + 320
            yield samples[start : start + 320]

    for index, frame in enumerate(pipeline.stream(blocks(), latency=0.1, steps=1, reuse=1.0)):
        assert sent <= 640 * (index + 1) + 16_000 * (0.1 + 0.6 + 0.04) + 320 or sent >= len(samples)
        shown.append(frame)
    assert len(shown) == 83 and shown[0].shape == (256, 256, 3)


class Still(FlowRenderer):
    """A learned renderer whose descriptor never changes, so that with reuse one picture serves all frames."""

    def __init__(self) -> None:
        super().__init__()
        for parameter in self.mapping_net.parameters():
            parameter.data.zero_()


@pytest.mark.parametrize(
    ("blocks", "words"),
    [
        ([], "no samples"),
        ([np.zeros(800, np.int32)], "int16 or floating"),
        ([np.zeros((800, 2), np.float32)], "one row of samples"),
        ([np.zeros(800, np.float32), np.full(5, np.nan, np.float32)], "NaN"),
    ],
)
def test_bad_blocks(tiny, blocks, words):
    with pytest.raises(InputError, match=words):
        list(tiny.stream(iter(blocks), size=SIZE, steps=1))


@pytest.mark.parametrize("latency", [0, -1, float("nan"), 1000])
def test_bad_latencies_are_refused_at_once(tiny, recording, latency):
    with pytest.raises(InputError, match="latency must lie"):
        tiny.stream(recording, latency=latency)


def test_a_fault_of_the_source_is_its_own(tiny):
    def broken():
        yield np.zeros(8000, np.float32)
        raise ConnectionError("the line went dead")

    with pytest.raises(ConnectionError):
        list(tiny.stream(broken(), size=SIZE, steps=1))


def test_the_first_frame_is_measured(tiny, samples):
    found = first_frame(tiny, samples[:24_000].astype(np.float32) / 32768, size=SIZE, steps=1, latency=LATENCY)
    assert 0.3 < found.heard < LATENCY + 0.16 and found.computed > 0 and found.keeping_up > 0
    assert found.seconds == found.heard + found.computed

"""What a video says of its own making, and the visible mark."""

from __future__ import annotations

import hashlib
import json

import av
import numpy as np
import pytest

import dmt
from dmt import media
from dmt.cli.app import run


@pytest.fixture
def generate(tmp_path, voice, tiny_checkpoint):
    audio = voice(tmp_path / "private name.wav", 0.4)

    def call(name: str, *flags: str):
        output = tmp_path / name
        common = [
            "-a",
            str(audio),
            "--checkpoint",
            str(tiny_checkpoint),
            "--size",
            "256",
            "--steps",
            "1",
            "--seed",
            "5",
        ]
        assert run(["generate", *common, "-o", str(output), *flags]) == 0
        return output

    return call


def test_tags_are_read_back(generate, tiny_checkpoint):
    with av.open(str(generate("o.mp4"))) as container:
        tags = dict(container.metadata)
    assert tags["comment"] == media.PROVENANCE and tags["title"] == "Synthetic video of a talking face"
    made = json.loads(tags["description"])
    assert made["digitalSourceType"].endswith("/trainedAlgorithmicMedia")
    assert (made["generator"], made["version"], made["seed"]) == ("DreamTalk-DMT", dmt.__version__, 5)
    assert made["checkpoint_sha256"] == hashlib.sha256(tiny_checkpoint.read_bytes()).hexdigest()
    assert made["visible_mark"] is False
    assert "private" not in json.dumps(tags), "the user's names stay the user's"


def test_the_mark_is_seen_in_its_corner_and_nowhere_else(generate):
    plain = np.stack(list(media.read_frames(generate("plain.mp4")))).astype(float)
    marked_file = generate("marked.mp4", "--watermark")
    marked = np.stack(list(media.read_frames(marked_file))).astype(float)
    assert plain.shape == marked.shape
    change = np.abs(marked - plain).mean(axis=(0, 3))
    corner = np.zeros(change.shape, bool)
    corner[228:250, 142:250] = True
    assert change[corner].mean() > 20 and change[~corner].mean() < 1
    with av.open(str(marked_file)) as container:
        assert json.loads(container.metadata["description"])["visible_mark"] is True

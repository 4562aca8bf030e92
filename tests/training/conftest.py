"""Tiny models of every preset, and a corpus of a few made-up clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from dmt.config import DenoiserConfig, SpeechConfig, TacotronConfig, preset

FRAMES = 50


def small(name):
    """The preset called `name`, shrunk: its own kinds of parts at tiny sizes, its speech encoder not pretrained."""
    config = preset(name)
    speech = SpeechConfig(
        pretrained=None, width=16, layers=1, heads=2, feed_forward=16, conv_width=8, positional_kernel=8
    )
    sizes = dict(
        width=32, heads=2, feed_forward=32, content_layers=1, style_layers=1, decoder_layers=1, tail_width=16,
        shared_matrices=2,
    )  # fmt: skip
    tacotron = config.tacotron and TacotronConfig(
        width=16, conv_width=16, conv_layers=1, alphabet=config.tacotron.alphabet
    )
    decoder = config.denoiser.decoder
    return replace(
        config, speech=speech, tacotron=tacotron, denoiser=DenoiserConfig(**sizes, decoder=decoder, dropout=0.1)
    )


def write_corpus(folder, clips=4):
    """Noise that is loud where the mouth is open: easy enough to learn in a few steps."""
    folder.mkdir(parents=True, exist_ok=True)
    column = np.random.default_rng(2).standard_normal(64)
    for split, seed in (("train", 0), ("validation", 1)):
        rng = np.random.default_rng(seed)
        opening = np.clip(rng.standard_normal((clips, FRAMES // 5)).repeat(5, 1) * 0.05 + 0.06, -0.02, 0.2)
        moved = (opening[..., None] - 0.06) * column * 5 + rng.standard_normal((clips, FRAMES, 64)) * 0.05
        loud = opening.repeat(640, 1) * rng.standard_normal((clips, FRAMES * 640))
        np.savez(
            folder / f"{split}-0000.npz",
            wave=(loud * 20000).clip(-32000, 32000).astype(np.int16),
            coefficients=moved.astype(np.float16),
            style=rng.standard_normal((clips, 40, 64)).astype(np.float16) * 0.3,
            lips=np.stack([opening, 0 * opening], -1).astype(np.float16),
            sounds=(opening.repeat(2, 1) > 0.08).astype(np.int8),
            closures=np.array([[0, 5, 6], [1, 10, 12]], np.int32),
            emotion=np.zeros(clips, np.int64),
            language=np.zeros(clips, np.int64),
        )


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """A folder with four clips to learn from and four held out."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    return folder


@pytest.fixture(scope="session")
def shrunk():
    """`small`, for tests in other modules."""
    return small

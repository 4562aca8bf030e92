"""A person at the page, in headless Chromium: from upload to playing video, and with a wrong file."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import torch

pytest.importorskip("gradio", reason="the page comes with the extra [web]")
pytest.importorskip("playwright", reason="playwright comes with the extra [dev]")

from playwright.sync_api import sync_playwright

from dmt import media
from dmt.errors import InputError
from dmt.pipeline import Pipeline
from dmt.web import Bounds, opened
from dmt.web.making import Wishes, make

CHROMIUM = shutil.which("chromium")
ANSWER = 60_000
"""Milliseconds that a busy machine may take."""


@pytest.fixture(scope="module")
def pipeline(tiny_model) -> Pipeline:
    return Pipeline(tiny_model, torch.device("cpu"))


@pytest.fixture(scope="module")
def address(pipeline):
    with opened(pipeline, port=0, bounds=Bounds(sound=3.0)) as blocks:
        yield blocks.local_url


@pytest.fixture
def visitor(address):
    if CHROMIUM is None:
        pytest.skip("no program named chromium; install it (Debian: apt install chromium)")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        page.set_default_timeout(ANSWER)
        page.goto(address, wait_until="networkidle")  # the handlers are attached by then
        page.get_by_role("button", name="Make the video").wait_for()
        yield page
        browser.close()


def press_and_read(visitor) -> str:
    """The sentence under the video after the button was pressed and something was wrong."""
    visitor.get_by_role("button", name="Make the video").click()
    said = visitor.locator("#times").get_by_text("That did not work")
    said.wait_for()
    return visitor.locator("#times").inner_text()


def test_what_is_wrong_is_said(visitor, tmp_path):
    assert "no voice yet" in press_and_read(visitor)

    (tmp_path / "notes.wav").write_bytes(b"this is no sound")
    visitor.locator("#audio input[type=file]").first.set_input_files(tmp_path / "notes.wav")
    visitor.locator("#audio").get_by_label("Clear").wait_for()
    visitor.locator("#times").get_by_text("no voice yet").wait_for()
    visitor.get_by_role("button", name="Make the video").click()
    said = visitor.locator("#times").get_by_text("is not a media file")
    said.wait_for()
    assert "work: notes.wav is not" in said.inner_text()
    visitor.get_by_text("notes.wav is not a media file").nth(1).wait_for()  # once under the video, once on top

    visitor.locator("#audio").get_by_label("Clear").click()
    visitor.locator("#sentence").click()
    visitor.locator("#audio").get_by_label("Play", exact=True).wait_for()
    visitor.get_by_role("button", name="Make the video").click()
    visitor.locator("#times").get_by_text("demo.flac is longer than 3 s").wait_for()


def test_from_upload_to_playing_video(visitor, voice, tmp_path):
    visitor.locator("#audio input[type=file]").first.set_input_files(voice(tmp_path / "voice.wav", 1.0))
    visitor.locator("#audio").get_by_label("Clear").wait_for()
    visitor.locator("#pose").get_by_label("from a file").click()
    assert "no pose file sent" in press_and_read(visitor)
    scipy.io.savemat(
        tmp_path / "nod.mat", {"coeff": np.zeros((4, 257)), "transform_params": np.tile([256, 256, 1, 0, 0], (4, 1))}
    )
    visitor.locator("#motion input[type=file]").set_input_files(tmp_path / "nod.mat")
    visitor.locator("#motion").get_by_text("nod").first.wait_for()
    visitor.get_by_role("button", name="More").click()
    visitor.get_by_label("Size (pixels)").click()
    visitor.get_by_role("option", name="256").click()
    visitor.get_by_label("Diffusion steps").click()
    visitor.get_by_role("option", name="1", exact=True).click()
    visitor.get_by_label("A visible mark").check()
    visitor.get_by_role("button", name="Make the video").click()
    visitor.locator("#video video").wait_for()
    visitor.locator("#times table").wait_for()
    assert "did not work" not in visitor.locator("#times").inner_text()
    visitor.wait_for_function(
        "(v => v && v.readyState >= 2 && v.videoWidth == 256)(document.querySelector('#video video'))"
    )
    visitor.evaluate("document.querySelector('#video video').play()")
    visitor.wait_for_function("document.querySelector('#video video').currentTime > 0.1")
    with visitor.expect_download() as got:
        visitor.locator("#download").click()
    got.value.save_as(tmp_path / "got.mp4")
    assert np.stack(list(media.read_frames(tmp_path / "got.mp4"))).shape == (25, 256, 256, 3)


def wishes(sound: Path, **others) -> Wishes:
    plain = {"image": None, "style": "happy", "intensity": 1.0, "clip": None, "pose": "natural", "motion": None}
    plain |= {"blink": True, "seed": 0, "size": 64, "steps": 1, "watermark": False}
    return Wishes(**{"audio": str(sound)} | plain | others)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"audio": None}, "no voice yet"),
        ({"pose": "file"}, "no pose file sent"),
        ({"clip": "{folder}/clip.mat"}, "^clip.mat"),
        ({"image": "{folder}/clip.mat"}, "^clip.mat"),
        ({"seed": -1}, "seed"),
    ],
)
def test_wrong_wishes_are_one_sentence(pipeline, voice, tmp_path, others, words):
    (tmp_path / "clip.mat").write_bytes(b"no matrix")
    audio = voice(tmp_path / "voice.wav", 0.5)
    others = {
        name: value.format(folder=tmp_path) if isinstance(value, str) else value for name, value in others.items()
    }
    with pytest.raises(InputError, match=words) as raised:
        make(pipeline, wishes(audio, **others), 3.0, lambda *_: None, tmp_path)
    assert str(tmp_path) not in str(raised.value) and not list(tmp_path.glob("*.mp4"))


def test_too_long_and_old_videos(pipeline, voice, tmp_path):
    with pytest.raises(InputError, match="longer than 3 s"):
        make(pipeline, wishes(voice(tmp_path / "long.wav", 3.5)), 3.0, lambda *_: None, tmp_path)
    old = tmp_path / "old.mp4"
    old.touch()
    os.utime(old, (0, 0))
    seen = []
    result = make(pipeline, wishes(voice(tmp_path / "a.wav", 0.4)), 3.0, lambda *step: seen.append(step), tmp_path)
    assert result.frames == 10 and ("encode", 10, 10) in seen
    assert [path for path in tmp_path.glob("*.mp4")] == [result.path]

"""Pictures from our own renderer, whose coefficients are known, followed by either tracker; and a published film."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from filmed import opening, region_errors

from dmt.errors import InputError
from dmt.face.landmarks import load_portrait, why_no_mesh
from dmt.face.pose import NaturalPose
from dmt.face.styles import load_style
from dmt.media import VideoWriter
from dmt.renderer.warp import WarpRenderer
from dmt.scene import asset
from dmt.tracking import Stretch, extract
from dmt.tracking.pixels import PixelTracker
from dmt.types import Motion

SHARED = Path(os.environ.get("DMT_SHARED", Path(__file__).parents[3] / "shared"))
PUBLISHED = SHARED / "dreamtalk" / "samples" / "published_english"
needs_published = pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"the published clip is not at {PUBLISHED}")
needs_mesh = pytest.mark.skipif(why_no_mesh() is not None, reason=f"MediaPipe {why_no_mesh()}")
FRAMES = 50


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    """(film, expression [50, 64], angles [50, 3]): two seconds of the bundled portrait."""
    clip = load_style("happy").coefficients[:FRAMES]
    pose = NaturalPose(torch.Generator().manual_seed(2)).next(2 * FRAMES)[FRAMES:]
    portrait = load_portrait(asset("portrait.png"), landmarks=asset("portrait_landmarks.npz"), size=256)
    frames = WarpRenderer(portrait).render(Motion(clip, pose, torch.zeros(FRAMES))).numpy()
    path = tmp_path_factory.mktemp("film") / "rendered.mp4"
    with VideoWriter(path, *frames.shape[1:3], audio_rate=None) as writer:
        writer.write(frames)
    return path, clip.numpy(), pose[:, :3].numpy()


def compared(found, expression, angles):
    """Region errors, correlation of the lips' opening, and the spread of the angles' error in degrees."""
    errors = region_errors(found.expression, expression)
    lips = np.corrcoef(opening(found.expression), opening(expression))[0, 1]
    return errors, lips, np.degrees(np.std(found.pose[:, :3] - angles, axis=0))


@needs_mesh
def test_mesh(rendered):
    found = extract(rendered[0])
    errors, lips, head = compared(found, *rendered[1:])
    assert found.tracker == "MediaPipe's face mesh"
    assert lips > 0.9
    assert errors["mouth"] < 0.02 and errors["brows"] < 0.012 and errors["lids"] < 0.012, errors
    assert head.max() < 2.0


def test_pixels(rendered):
    found = extract(rendered[0], tracker=PixelTracker())
    errors, lips, head = compared(found, *rendered[1:])
    assert lips > 0.9
    assert errors["mouth"] < 0.02 and errors["brows"] < 0.012 and errors["lids"] < 0.012, errors
    assert head.max() < 1.0
    assert np.quantile(opening(found.expression), 0.04) < 0.03  # closest is closed


def test_pixels_are_said_where_there_is_no_mesh(rendered, monkeypatch):
    monkeypatch.setattr("dmt.tracking.recipe.why_no_mesh", lambda: "is not installed (extra `face`)")
    found = extract(rendered[0], Stretch(0.0, 0.6))
    assert found.tracker == "the face's pixels"
    assert "MediaPipe is not installed" in found.notes[0] and "less exact" in found.notes[0]


def test_a_face_that_goes_and_comes_back(rendered):
    from dmt.media import read_frames

    tracker, frames = PixelTracker(), list(read_frames(rendered[0]))[:6]
    empty = np.full_like(frames[0], 90)
    seen = [tracker(picture) is not None for picture in (*frames[:3], empty, empty, *frames[3:])]
    assert seen == [True] * 3 + [False] * 2 + [True] * 3


@pytest.mark.parametrize("tracker", [None, PixelTracker])
def test_no_face(tmp_path, tracker):
    noise = np.random.default_rng(0).integers(0, 60, (4, 64, 64, 3), dtype=np.uint8)
    with VideoWriter(tmp_path / "none.mp4", 64, 64, audio_rate=None) as writer:
        writer.write(noise)
    with pytest.raises(InputError, match="no face found in the video"):
        extract(tmp_path / "none.mp4", tracker=tracker and tracker())


@needs_mesh
def test_the_larger_of_two_faces_is_followed(rendered, tmp_path):
    from PIL import Image

    from dmt.media import read_frames

    def beside(picture):
        small = np.asarray(Image.fromarray(picture).resize((160, 160)))
        page = np.full((256, 420, 3), 128, np.uint8)
        page[48:208, :160], page[:, 164:] = small, picture
        return page

    frames = np.stack([beside(picture) for picture in list(read_frames(rendered[0]))[:15]])
    with VideoWriter(tmp_path / "two.mp4", 256, 420, audio_rate=None) as writer:
        writer.write(frames)
    found = extract(tmp_path / "two.mp4")
    assert any("2 faces" in note and "largest" in note for note in found.notes)
    alone = extract(rendered[0], Stretch(0.0, 0.6))
    np.testing.assert_allclose(opening(found.expression), opening(alone.expression), atol=0.05)


@needs_mesh
@needs_published
def test_published_film_against_its_published_coefficients():
    truth = np.load(PUBLISHED / "facemotion.npy")[:150]
    found = extract(PUBLISHED / "video.mp4", Stretch(0.0, 6.0))
    errors, lips, head = compared(found, truth[:, :64], truth[:, 64:67])
    assert lips > 0.9
    assert errors["mouth"] < 0.02, errors
    assert head.max() < 1.5
    crop = found.pose[:, 7:9] - truth[:, 71:73]
    assert crop.std(0).max() < 2.0

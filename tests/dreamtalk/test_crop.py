"""DreamTalk's crop: the box arithmetic, OpenCV's resize, and the published portraits."""

from __future__ import annotations

import numpy as np
import pytest
from golden import SAMPLES, needs_samples
from PIL import Image

from dmt.dreamtalk.crop import crop_box, crop_portrait, resize_bilinear
from dmt.errors import InputError


def test_box_is_moved_in_when_it_would_start_outside() -> None:
    # male-portrait-like numbers, worked by hand: 310 px face near the left edge.
    assert crop_box((130, 198, 439, 508), 551, 672) == (5, 43, 563, 601)
    assert crop_box((161, 161, 376, 376), 500, 613) == (75, 53, 462, 440)


@pytest.mark.parametrize("shape", [(558, 546), (100, 131), (255, 64), (700, 31), (256, 256), (33, 517)])
def test_resize_is_opencvs(shape: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    assert np.array_equal(resize_bilinear(image, 256, 256), cv2.resize(image, (256, 256)))


@needs_samples
@pytest.mark.parametrize(
    ("source", "published"),
    [("image/male_face.png", "published_english/portrait.png"), ("image/uncut_src_img.jpg", "image/cut_img.png")],
)
def test_published_crops_are_reproduced(source: str, published: str) -> None:
    pytest.importorskip("dlib")
    image = np.asarray(Image.open(SAMPLES / source))[..., :3]
    assert np.array_equal(crop_portrait(image), np.asarray(Image.open(SAMPLES / published).convert("RGB")))


def test_a_picture_without_a_face_is_refused() -> None:
    pytest.importorskip("dlib")
    with pytest.raises(InputError, match="no frontal face"):
        crop_portrait(np.full((200, 200, 3), 127, np.uint8))

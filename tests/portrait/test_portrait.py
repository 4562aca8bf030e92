from importlib import resources

import numpy as np
import pytest
from PIL import Image

from dmt.portrait import Look, render
from dmt.portrait.__main__ import save

SMALL = Look(size=96, supersample=2, hairs=2500)
ASSETS = resources.files("dmt") / "assets"


@pytest.fixture(scope="module")
def small():
    return render(SMALL)


@pytest.fixture(scope="module")
def bundled():
    """The shipped picture as luminance [768, 768] and colour [768, 768, 3] in 0..1, and its landmarks."""
    with ASSETS.joinpath("portrait.png").open("rb") as file:
        colour = np.asarray(Image.open(file).convert("RGB"), np.float64) / 255
    with ASSETS.joinpath("portrait_landmarks.npz").open("rb") as file:
        landmarks = np.load(file, allow_pickle=False)["landmarks"]
    return colour @ [0.299, 0.587, 0.114], colour, landmarks


def around(picture, point, radius):
    """The mean of a picture within `radius` pixels of a point (x, y)."""
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]] + 0.5
    return picture[np.hypot(x - point[0], y - point[1]) <= radius].mean(0)


def test_the_same_look_gives_the_same_picture(small):
    again = render(SMALL)
    assert np.array_equal(again.image, small.image)
    assert np.array_equal(again.landmarks, small.landmarks)


def test_shapes_and_kinds(small):
    assert small.image.shape == (96, 96, 3) and small.image.dtype == np.uint8
    assert small.landmarks.shape == (478, 3) and small.landmarks.dtype == np.float32
    assert (small.landmarks[:, :2] > 0).all() and (small.landmarks[:, :2] < 96).all()


def test_the_code_draws_the_bundled_picture(small, bundled):
    _, colour, landmarks = bundled
    assert np.allclose(landmarks / 768, small.landmarks / 96, atol=1e-6)
    shrunk = colour.reshape(96, 8, 96, 8, 3).mean((1, 3))
    difference = np.abs(shrunk - small.image / 255).mean(-1)
    face = np.s_[30:66, 34:62]
    assert difference[face].mean() < 0.03 and difference.mean() < 0.05


def test_the_files_are_small(bundled):
    with ASSETS.joinpath("portrait.png").open("rb") as file:
        assert len(file.read()) <= 1_500_000
    assert bundled[1].shape == (768, 768, 3) and bundled[2].dtype == np.float32


def test_the_pupils_are_dark_and_in_the_irises(bundled):
    light, colour, p = bundled
    green = colour[..., 1] - colour[..., 0]
    for centre in (468, 473):
        radius = np.linalg.norm(p[centre + 1, :2] - p[centre, :2])
        ring = [p[centre, :2] + [side * 0.62 * radius, 0.25 * radius] for side in (-1, 1)]
        white = [p[centre, :2] + [side * 1.35 * radius, 0.2 * radius] for side in (-1, 1)]
        assert around(light, p[centre, :2] + [0.5, 1.0], 0.2 * radius) < 0.15
        assert min(around(light, at, 1.5) for at in ring) > 0.25
        assert min(around(green, at, 1.5) for at in ring) > 0.01
        assert max(around(green, at, 1.5) for at in white) < -0.02


def test_the_dark_line_of_the_mouth_is_the_inner_contour(bundled):
    light, _, p = bundled
    for index in (81, 82, 13, 312, 311):
        x, y = p[index, :2]
        column = light[int(y) - 12 : int(y) + 13, int(x)]
        assert abs(int(column.argmin()) - 12) <= 1


def test_lips_are_red_up_to_their_outer_contour(bundled):
    _, colour, p = bundled
    redness = colour[..., 0] - colour[..., 1]
    for outer, inner in ((0, 13), (17, 14), (37, 82), (314, 317)):
        step = p[inner, :2] - p[outer, :2]
        step /= np.linalg.norm(step)
        assert around(redness, p[outer, :2] + 4 * step, 1.2) > around(redness, p[outer, :2] - 5 * step, 1.2) + 0.04


def test_brows_are_drawn_between_their_landmarks(bundled):
    light, _, p = bundled
    for upper, lower in ((105, 52), (66, 65), (334, 282), (296, 295)):
        middle = 0.5 * (p[upper, :2] + p[lower, :2])
        assert around(light, middle, 2.5) < around(light, p[upper, :2] - [0, 9], 2.5) - 0.12


def test_lashes_grow_at_the_upper_lids(bundled):
    light, _, p = bundled
    for lid in (158, 159, 160, 385, 386, 387):
        assert around(light, p[lid, :2] - [0, 1.5], 1.5) < around(light, p[lid, :2] - [0, 17], 2.0) - 0.12


def test_files_are_written_whole(small, tmp_path):
    landmarks = save(small, tmp_path / "face.png")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["face.png", "face_landmarks.npz"]
    assert np.array_equal(np.asarray(Image.open(tmp_path / "face.png")), small.image)
    assert np.array_equal(np.load(landmarks, allow_pickle=False)["landmarks"], small.landmarks)

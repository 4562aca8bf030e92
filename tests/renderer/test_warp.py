"""The weightless renderer on the bundled portrait: what must move, what must not, what must never break."""

from pathlib import Path

import numpy as np
import pytest
import torch

import dmt
from dmt.face.basis import LandmarkBasis, neutral_mean
from dmt.face.landmarks import load_portrait
from dmt.renderer.field import gradient
from dmt.renderer.warp import WarpRenderer
from dmt.types import Motion, Portrait

ASSETS = Path(dmt.__file__).parent / "assets"
SIZE = 192


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def portrait():
    return load_portrait(ASSETS / "portrait.png", landmarks=ASSETS / "portrait_landmarks.npz", size=SIZE)


@pytest.fixture(scope="module")
def renderer(portrait):
    return WarpRenderer(portrait)


@pytest.fixture(scope="module")
def basis():
    return LandmarkBasis.load()


def motion(expression, pose=None, blink=None):
    frames = len(expression)
    return Motion(
        expression,
        torch.zeros(frames, 9) if pose is None else pose,
        torch.zeros(frames) if blink is None else blink,
    )


def mouth_path(basis, openings):
    """Coefficients whose lips are `openings` apart (eye distances), all else as probable as can be."""
    points = torch.tensor([13, 14, 61, 291])
    rest = basis.displacement(neutral_mean())[points]
    gap = basis.mouth_opening(neutral_mean())
    rows = []
    for opening in openings:
        target = rest.clone()
        target[1, 1] += opening - gap
        rows.append(basis.solve(target, points, noise=0.003))
    return torch.stack(rows)


def around(portrait, index, reach):
    """A box of `reach` eye distances about a landmark, as slices."""
    unit = np.linalg.norm(portrait.landmarks[33] - portrait.landmarks[263])
    x, y = portrait.landmarks[index, :2]
    r = reach * unit
    return slice(int(y - r), int(y + r) + 1), slice(int(x - r), int(x + r) + 1)


def test_own_expression_returns_the_portrait(renderer, portrait):
    frame = renderer.render(motion(renderer.anatomy.own[None])).numpy()[0]
    error = np.mean((frame.astype(float) - portrait.image) ** 2)
    assert 10 * np.log10(255**2 / max(error, 1e-9)) > 40


def test_expression_leaves_background_and_edge_alone(renderer, portrait, basis):
    frames = renderer.render(motion(mouth_path(basis, [0.0, 0.25]) * 1.5)).numpy()
    lm = portrait.landmarks
    unit = np.linalg.norm(lm[33] - lm[263])
    oval = lm[basis.contours["oval"].numpy(), :2]
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    # "Background": a quarter more than the radius of the face's oval, plus a head of hair.
    far = np.hypot((x - oval[:, 0].mean()) / np.ptp(oval[:, 0]), (y - oval[:, 1].mean()) / np.ptp(oval[:, 1])) > 0.95
    assert far.sum() > 1000 and unit > 20
    difference = np.abs(frames.astype(int) - portrait.image.astype(int))
    assert difference[:, far].max() <= 1
    assert difference.max() > 30


def test_a_turning_head_keeps_the_frame_edge(renderer, portrait):
    pose = torch.zeros(6, 9)
    for row, (column, angle) in enumerate([(0, 0.25), (0, -0.25), (1, 0.25), (1, -0.25), (2, 0.25), (2, -0.25)]):
        pose[row, column] = angle
    frames = renderer.render(motion(renderer.anatomy.own.repeat(6, 1), pose)).numpy().astype(int)
    image = portrait.image.astype(int)
    for edge in (frames[:, 0] - image[0], frames[:, -1] - image[-1], frames[:, :, 0] - image[:, 0]):
        assert np.abs(edge).max() <= 1
    assert (np.abs(frames - image).mean((1, 2, 3)) > 1).all()


@pytest.mark.parametrize(("column", "axis", "direction"), [(0, 1, 1), (1, 0, 1)])
def test_pose_signs(portrait, column, axis, direction):
    """x = +angle 0 nods down, y = -angle 1 turns the nose to the viewer's right."""
    marked = portrait.image.copy()
    tip = portrait.landmarks[4, :2].round().astype(int)
    marked[tip[1] - 1 : tip[1] + 2, tip[0] - 1 : tip[0] + 2] = (0, 255, 0)
    renderer = WarpRenderer(Portrait(marked, portrait.landmarks))
    pose = torch.zeros(1, 9)
    pose[0, column] = 0.15
    frame = renderer.render(motion(renderer.anatomy.own[None], pose)).numpy()[0].astype(int)
    green = np.argwhere(frame[..., 1] - np.maximum(frame[..., 0], frame[..., 2]) > 100).mean(0)[::-1]
    assert direction * (green - tip)[axis] > 2


def test_lips_open_monotonically(renderer, portrait, basis):
    frames = renderer.render(motion(mouth_path(basis, [0.0, 0.05, 0.1, 0.15, 0.2, 0.25]))).float().mean(-1).numpy()
    unit = np.linalg.norm(portrait.landmarks[33] - portrait.landmarks[263])
    x, y = portrait.landmarks[13, :2].astype(int)
    box = frames[:, y - int(0.1 * unit) : y + int(0.5 * unit), x - int(0.2 * unit) : x + int(0.2 * unit)]
    dark = (box < 60).sum((1, 2))
    assert dark[0] <= 10
    assert (np.diff(dark) > 0).all()
    assert dark[-1] > 0.02 * unit**2


def test_lips_that_would_cross_just_meet(renderer, basis):
    pressed = renderer.render(motion(mouth_path(basis, [-0.10, -0.05, 0.0]))).int()
    assert (pressed.float().mean(-1) < 45).sum((1, 2)).float().std() < 40
    movement = renderer._driver(motion(mouth_path(basis, [-0.10])))
    rest = renderer._rest
    lower = (rest[14] + movement.shift[0, 14])[1]
    upper = (rest[13] + movement.shift[0, 13])[1]
    assert lower - upper > -0.5


def test_a_blink_hides_the_iris_and_half_a_blink_does_not(portrait):
    marked = portrait.image.copy()
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    for iris, edge in ((468, 469), (473, 474)):
        centre, radius = (
            portrait.landmarks[iris, :2],
            np.linalg.norm(portrait.landmarks[iris] - portrait.landmarks[edge]),
        )
        marked[np.hypot(x - centre[0], y - centre[1]) < 0.6 * radius] = (255, 0, 255)
    renderer = WarpRenderer(Portrait(marked, portrait.landmarks))
    frames = renderer.render(motion(renderer.anatomy.own.repeat(3, 1), blink=torch.tensor([0.0, 0.4, 1.0]))).int()
    magenta = ((frames[..., 0] - frames[..., 1] > 120) & (frames[..., 2] - frames[..., 1] > 120)).sum((1, 2))
    assert magenta[0] > 10 and 0 < magenta[1] < magenta[0] and magenta[2] == 0


def test_frames_do_not_depend_on_their_batch(renderer, basis):
    generator = torch.Generator().manual_seed(0)
    expression = mouth_path(basis, torch.linspace(0, 0.3, 11).tolist())
    pose = torch.randn(11, 9, generator=generator) * 0.1
    blink = torch.rand(11, generator=generator)
    whole = renderer.render(motion(expression, pose, blink)).int()
    single = torch.cat(
        [renderer.render(motion(expression[i : i + 1], pose[i : i + 1], blink[i : i + 1])) for i in (0, 4, 10)]
    ).int()
    assert (whole[[0, 4, 10]] - single).abs().max() <= 1


def test_no_frames_and_bad_numbers(renderer):
    assert renderer.render(motion(torch.zeros(0, 64))).shape == (0, SIZE, SIZE, 3)
    with pytest.raises(ValueError, match="finite"):
        renderer.render(motion(torch.full((1, 64), float("nan"))))
    with pytest.raises(ValueError, match="landmarks"):
        WarpRenderer(Portrait(np.zeros((64, 64, 3), np.uint8), np.zeros((468, 3), np.float32)))


@pytest.mark.parametrize("size", [(191, 167), (129, 192), (65, 65)])
def test_any_size(portrait, basis, size):
    from PIL import Image

    height, width = size
    image = np.asarray(Image.fromarray(portrait.image).resize((width, height)))
    landmarks = portrait.landmarks * [width / SIZE, height / SIZE, width / SIZE]
    renderer = WarpRenderer(Portrait(image, landmarks.astype(np.float32)))
    frames = renderer.render(motion(mouth_path(basis, [0.0, 0.2]), blink=torch.tensor([0.0, 1.0])))
    assert frames.shape == (2, height, width, 3) and frames.dtype == torch.uint8
    assert (frames[0].int() - frames[1].int()).abs().max() > 20


@pytest.mark.parametrize("strength", [1.0, 3.0, 10.0, 100.0])
def test_exaggeration_never_folds_the_picture(renderer, basis, strength):
    """The backward map keeps its orientation everywhere, whatever the coefficients say."""
    generator = torch.Generator().manual_seed(int(strength))
    factor = torch.linalg.cholesky(basis.coef_cov + 1e-5 * torch.eye(64))
    expression = basis.coef_mean + strength * torch.randn(6, 64, generator=generator) @ factor.T
    pose = strength * 0.2 * torch.randn(6, 9, generator=generator)
    maps = renderer._sheets.sources(renderer._driver(motion(expression, pose)))
    assert torch.isfinite(maps).all()
    jacobian = gradient(maps.flatten(0, 1), SIZE, SIZE)
    determinant = jacobian[:, 0, 0] * jacobian[:, 1, 1] - jacobian[:, 0, 1] * jacobian[:, 1, 0]
    assert determinant.min() > 0
    frames = renderer.render(motion(expression, pose, torch.ones(6)))
    assert frames.float().std() > 5


def test_an_open_mouthed_portrait_is_itself_at_rest_and_can_close(portrait, basis, renderer):
    """A frame with parted lips serves as a portrait: its own expression is recognised."""
    opened = mouth_path(basis, [0.15])
    image = renderer.render(motion(opened)).numpy()[0]
    movement = renderer._driver(motion(opened))
    landmarks = portrait.landmarks.copy()
    landmarks[:468] += movement.shift[0].numpy()
    again = WarpRenderer(Portrait(image, landmarks))
    assert again.anatomy.own_gap == pytest.approx(0.15, abs=0.05)
    frames = again.render(motion(torch.stack([again.anatomy.own, *mouth_path(basis, [0.0])]))).numpy()
    error = np.mean((frames[0].astype(float) - image) ** 2)
    assert 10 * np.log10(255**2 / max(error, 1e-9)) > 40
    mouth = around(portrait, 14, 0.2)
    assert (frames[1][mouth].mean(-1) < 50).sum() < 0.25 * (image[mouth].mean(-1) < 50).sum()

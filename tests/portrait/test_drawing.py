import numpy as np
import pytest

from dmt.portrait import hair, lighting, strokes
from dmt.portrait.curves import distance, resample, smooth_curve
from dmt.portrait.frame import Frame, blur, smoothstep
from dmt.portrait.raster import FAR, draw_mesh, nearest, splat


def test_pixels_and_grid_are_inverse():
    frame = Frame(64)
    x, y = frame.grid()
    at = frame.pixels(np.stack([x[5, 7], y[5, 7]]).astype(np.float64))
    assert np.allclose(at, [7.5, 5.5], atol=1e-4)


@pytest.mark.parametrize("sigma", [0.6, 3.0, 9.0])
def test_blur_keeps_the_sum_and_the_constant(sigma):
    picture = np.zeros((97, 97), np.float32)
    picture[48, 48] = 1
    assert blur(picture, sigma).sum() == pytest.approx(1, rel=0.03)
    assert np.allclose(blur(np.full((40, 40, 3), 0.25, np.float32), sigma), 0.25, atol=1e-5)


def test_a_nearer_triangle_covers_a_farther_one():
    frame = Frame(32)
    square = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    far = np.column_stack([square, np.full(4, 2.0)])
    near = np.column_stack([square * 0.4, np.full(4, 1.0)])
    triangles = np.array([[0, 1, 2], [0, 2, 3], [4, 5, 6], [4, 6, 7]])
    depth, values = draw_mesh(frame, np.concatenate([far, near]), triangles, np.repeat([[0.0], [1.0]], 4, 0))
    x, y = frame.grid()
    inner = (np.abs(x) < 0.19) & (np.abs(y) < 0.19)
    outer = (np.abs(x) < 0.49) & (np.abs(y) < 0.49) & ~((np.abs(x) < 0.21) & (np.abs(y) < 0.21))
    assert np.allclose(depth[inner], 1) and np.allclose(values[inner], 1)
    assert np.allclose(depth[outer], 2) and np.allclose(values[outer], 0)
    assert (depth[np.abs(x) > 0.6] == FAR).all()


def test_splat_keeps_what_it_is_given():
    points = np.random.default_rng(0).uniform(-1, 1, (50, 2))
    assert splat(Frame(40), points, np.ones((50, 1))).sum() == pytest.approx(50, rel=1e-5)


def test_nearest_takes_the_least_depth():
    points = np.array([[0.01, 0.01], [0.012, 0.011], [50.0, 0.0]])
    winner = nearest(Frame(20), points, np.array([2.0, 1.0, 0.0]))
    assert winner.max() == 1 and (winner >= 0).sum() == 1


def test_distance_is_signed_inside_a_closed_curve():
    angle = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    circle = np.stack([np.cos(angle), np.sin(angle)], 1) * 0.5
    x, y = Frame(64).grid()
    exact = np.hypot(x, y) - 0.5
    near = np.abs(exact) < 0.2
    assert np.abs(distance(x, y, circle, True) - exact)[near].max() < 0.005


def test_curves_pass_through_their_points():
    points = np.array([[0.0, 0], [1, 2], [3, 1], [4, 4]])
    assert np.allclose(smooth_curve(points, False, 8)[::8], points)
    gaps = np.linalg.norm(np.diff(resample(smooth_curve(points, False, 40), 20), axis=0), axis=1)
    assert np.ptp(gaps) < 0.03


def test_strokes_look_alike_at_every_size():
    lines = strokes.Strokes(np.array([[[-0.5, 0.0], [0.0, 0.02], [0.5, 0.0]]]), np.array([0.01]))
    ink = [strokes.cover(Frame(size), lines).mean() for size in (192, 384)]
    assert 1e-4 < ink[0] < 0.05 and ink[0] == pytest.approx(ink[1], rel=0.25)


def test_hair_grows_from_the_scalp_and_leaves_the_face_free():
    strands = hair.grow(600)
    assert 300 < len(strands.points) <= 600
    roots = strands.points[:, 0].astype(np.float64)
    assert np.abs((((roots - hair.CENTRE) / hair.RADII) ** 2).sum(1) - 1).max() < 0.1
    x, y, z = np.moveaxis(strands.points, -1, 0)
    assert not ((np.abs(x) < 0.5) & (y > -0.4) & (y < 1.2) & (z < 0.5)).any()
    assert np.array_equal(hair.grow(600).points, strands.points)


def test_a_wall_casts_its_shadow_away_from_the_key_light():
    depth = np.full((96, 96), 1.0, np.float32)
    depth[:, 44:48] = 0.7
    normals = np.zeros((96, 96, 3), np.float32)
    normals[..., 2] = -1
    light, openness, key = lighting.illuminate(depth, normals, 48.0)
    assert key[48, 52] < 0.2 and key[48, 10] > 0.95
    assert openness[48, 49] < openness[48, 10]
    assert (light >= 0).all() and light[48, 52].sum() < 0.6 * light[48, 10].sum()


def test_scattering_stays_on_the_skin_and_runs_farthest_in_red():
    light = np.zeros((64, 64, 3), np.float32)
    light[:, :32] = 1
    mask = np.ones((64, 64), np.float32)
    mask[:10] = 0
    out = lighting.scatter(light, mask, 200.0)
    assert np.array_equal(out[:10], light[:10])
    assert out[40, 38, 0] > out[40, 38, 1] > out[40, 38, 2] > 0


def test_smoothstep_runs_both_ways():
    v = np.array([-1.0, 0.5, 2.0])
    assert np.allclose(smoothstep(0, 1, v), [0, 0.5, 1]) and np.allclose(smoothstep(1, 0, v), [1, 0.5, 0])

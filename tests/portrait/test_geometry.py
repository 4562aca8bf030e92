from importlib import resources

import numpy as np
import pytest

from dmt.portrait import geometry
from dmt.portrait.subdivision import Subdivision

UPPER = (191, 80, 81, 82, 13, 312, 311, 310, 415)
LOWER = (95, 88, 178, 87, 14, 317, 402, 318, 324)


@pytest.fixture(scope="module")
def face():
    return geometry.build(levels=3)


def test_the_surface_passes_through_every_landmark(face):
    assert np.abs(face.vertices[: geometry.SURFACE] - face.landmarks[: geometry.SURFACE]).max() < 2e-4


def test_left_and_right_agree(face):
    points = face.landmarks[: geometry.SURFACE]
    mirror = geometry.mirror_map(points, geometry.oriented(base_triangles()))
    assert sorted(mirror) == list(range(geometry.SURFACE))
    assert np.array_equal(mirror[mirror], np.arange(geometry.SURFACE))
    assert mirror[33] == 263 and mirror[61] == 291 and mirror[159] == 386 and mirror[13] == 13
    assert np.abs(points[mirror] * [-1, 1, 1] - points).max() < 0.01


def base_triangles():
    with resources.files("dmt").joinpath("assets/landmark_basis.npz").open("rb") as file, np.load(file) as basis:
        return basis["triangles"].astype(np.int64)


def test_the_lips_meet(face):
    gap = np.linalg.norm(face.landmarks[list(UPPER)] - face.landmarks[list(LOWER)], axis=1)
    assert gap.max() < 0.01
    lip = face.landmarks[[0, 13, 17], 1]
    assert lip[0] < lip[1] - 0.04 and lip[1] < lip[2] - 0.04


def test_irises_are_round_and_between_the_lids(face):
    p = face.landmarks
    for centre, upper, lower in ((468, 159, 145), (473, 386, 374)):
        radii = np.linalg.norm(p[centre + 1 : centre + 5, :2] - p[centre, :2], axis=1)
        assert np.ptp(radii) < 1e-9
        assert p[upper, 1] < p[centre, 1] < p[lower, 1]


def test_normals_are_unit_and_face_the_viewer_in_the_middle_of_the_face(face):
    assert np.allclose(np.linalg.norm(face.normals, axis=1), 1, atol=1e-4)
    assert (face.normals[[1, 4, 151, 9, 50, 280, 199], 2] < -0.4).all()


def test_neighbouring_triangles_run_the_same_way():
    triangles = geometry.oriented(base_triangles())
    edges = [(t[k], t[(k + 1) % 3]) for t in triangles.tolist() for k in range(3)]
    assert len(set(edges)) == len(edges)


def test_subdivision_keeps_a_plane_flat_and_counts_right():
    triangles = np.array([[0, 1, 2], [2, 1, 3]])
    points = np.array([[0.0, 0, 5], [1, 0, 5], [0, 1, 5], [1, 1, 5]])
    surface = Subdivision(triangles, 4, 2)
    vertices = surface(points)
    assert surface.triangles.shape == (32, 3) and vertices.shape == (25, 3)
    assert np.allclose(vertices[:, 2], 5)
    assert np.allclose(np.abs(surface.normals(vertices)), [0, 0, 1])


def test_loop_weights_of_an_inner_vertex():
    """A hexagon's middle vertex moves by 6 * 1/16 of the ring's height (Loop's rule for valence six)."""
    angle = np.arange(6) * np.pi / 3
    points = np.concatenate([[[0.0, 0, 1]], np.stack([np.cos(angle), np.sin(angle), np.zeros(6)], 1)])
    triangles = np.array([[0, 1 + k, 1 + (k + 1) % 6] for k in range(6)])
    assert Subdivision(triangles, 7, 1)(points)[0, 2] == pytest.approx(1 - 6 / 16)

"""Landmark and coefficient measures on motion whose answer is known."""

import numpy as np
import pytest

from dmt.decoder import LOWER, UPPER
from dmt.errors import InputError
from dmt.evaluation import faces
from dmt.evaluation.coefficients import coefficient_curves, coefficient_measures
from dmt.face.basis import LandmarkBasis

EYES = 100.0


def face(frames=100):
    """A still neutral face, [T, 478, 3], 100 pixels between the outer eye corners."""
    neutral = LandmarkBasis.load().neutral.numpy()
    scale = EYES / np.linalg.norm(neutral[33, :2] - neutral[263, :2])
    return np.tile(neutral * scale + 200, (frames, 1, 1)).astype(np.float32)


def test_moving_the_whole_face_is_no_landmark_distance():
    still = face()
    np.testing.assert_allclose(
        faces.landmark_distance(still + np.array([7, -3, 0]), still, faces.mouth_points()), 0, atol=1e-4
    )
    np.testing.assert_allclose(faces.landmark_distance(still, still, slice(0, 468)), 0, atol=1e-9)


def test_mouth_distance_of_a_moved_point():
    moved = face()
    moved[:, 14, 1] += 5
    points = faces.mouth_points()
    n = len(points)
    # The point is 5 pixels off and drags the mean by 5 / n, which the others then seem to be off by.
    expected = (5 * (1 - 1 / n) + (n - 1) * 5 / n) / n
    np.testing.assert_allclose(faces.landmark_distance(moved, face(), points), expected, rtol=1e-4)


def test_aperture_in_eye_distances():
    open_mouth = face()
    gap = open_mouth[0, 14, 1] - open_mouth[0, 13, 1]
    open_mouth[:, 14] = open_mouth[:, 13]
    open_mouth[:, 14, 1] += 30
    np.testing.assert_allclose(faces.aperture(open_mouth), 30 / EYES, rtol=1e-3)
    assert gap < 30


def lids(frames, shut):
    """A face whose upper lids lie on the lower ones in the frames `shut`."""
    landmarks = face(frames)
    for _, b, c, _, e, f in faces.EYES:
        for frame in shut:
            landmarks[frame, b], landmarks[frame, c] = landmarks[frame, f], landmarks[frame, e]
    return landmarks


def test_blinks_are_counted_once_each():
    shut = [*range(20, 25), *range(100, 104), 200, *range(300, 360)]  # two blinks, a flicker, a doze
    ratio = faces.eye_aspect_ratio(lids(750, shut))
    assert faces.blinks_per_minute(ratio) == pytest.approx(2 * 60 / 30)
    assert faces.blinks_per_minute(faces.eye_aspect_ratio(face(50))) == 0
    assert ratio[20] == pytest.approx(0, abs=1e-6) and ratio[0] > 0.1


def test_jitter_of_a_shaking_head():
    """Every other frame one pixel off: second differences of 4 half-pixels, in thousandths of 100 pixels."""
    shaking = face()
    shaking[::2, :, 0] += 1
    assert faces.jitter(face()) == pytest.approx(0, abs=1e-6)
    assert faces.jitter(shaking) == pytest.approx(1000 * 2 / EYES, rel=1e-3)
    gliding = face() + np.arange(100, dtype=np.float32)[:, None, None] * [1, 0, 0]
    assert faces.jitter(gliding) < 0.01  # steady movement is no jitter


def test_aperture_correlation_and_lag():
    curve = 10 + 5 * np.sin(np.arange(120) / 3) + np.random.default_rng(0).standard_normal(120)
    made, reference = face(110), face(110)
    for landmarks, values in ((made, curve[7:117]), (reference, curve[10:120])):
        landmarks[:, 14] = landmarks[:, 13]
        landmarks[:, 14, 1] += values.astype(np.float32)
    found = faces.face_measures(made, reference, True)
    assert found["aperture_best_lag"] == 3 and found["aperture_correlation"] < 0.9
    assert set(found) >= {"blink_rate", "blink_rate_reference"}
    assert "blink_rate" not in faces.face_measures(made, reference, False)
    made[:90] = np.nan
    assert faces.face_measures(made, reference, True) == {}


def test_a_missing_face_is_nan_and_does_not_spread():
    made = face(60)
    made[10:14] = np.nan
    curves = faces.face_curves(made, face(60))
    assert np.isnan(curves["m_lmd"][10:14]).all() and np.isfinite(curves["m_lmd"][14:]).all()
    assert np.isfinite(faces.jitter(made))


def test_landmarks_of_an_unknown_kind():
    with pytest.raises(InputError, match="unknown landmarks"):
        faces.tracker_class("dlib")
    assert faces.tracker_class("pixels").blind_to_opening


def test_coefficient_errors_by_region():
    reference = np.random.default_rng(0).standard_normal((40, 73)).astype(np.float32) * 0.1
    made = reference.copy()
    made[:, list(LOWER)] += 0.5
    made[:, 64:67] += np.float32(np.radians(2.0))
    found = coefficient_measures(made, reference)
    assert found["coefficients_lower"] == pytest.approx(0.5, rel=1e-5) and found["coefficients_upper"] == 0
    assert found["pose_degrees"] == pytest.approx(2.0, rel=1e-4)
    assert found["landmarks_mouth"] > found["landmarks_upper"] > 0
    assert found["opening_correlation"] == pytest.approx(1, abs=1e-3)
    made = reference.copy()
    made[:, list(UPPER)] += 0.5
    assert coefficient_measures(made, reference)["coefficients_lower"] == 0


def test_landmark_error_is_the_basis_displacement():
    basis = LandmarkBasis.load()
    reference, made = np.zeros((1, 64), np.float32), np.zeros((1, 64), np.float32)
    made[0, 3] = 0.7
    lips = np.unique(np.concatenate([basis.contours[n].numpy() for n in ("lips_outer", "lips_inner")]))
    moved = 0.7 * basis.basis[3, lips].numpy()
    expected = 1000 * np.linalg.norm(moved, axis=-1).mean()
    assert coefficient_curves(made, reference)["landmarks_mouth"][0] == pytest.approx(expected, rel=1e-5)


def test_coefficients_of_other_lengths_and_shapes():
    rows = np.zeros((30, 64), np.float32)
    assert len(coefficient_curves(rows, rows[:20])["coefficients_upper"]) == 20
    assert "pose_degrees" not in coefficient_measures(rows, rows)
    with pytest.raises(InputError, match="at least 64"):
        coefficient_measures(rows[:, :63], rows)
    with pytest.raises(InputError, match="not finite"):
        coefficient_measures(rows + np.nan, rows)

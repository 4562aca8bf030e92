"""Measures: lag and correlation of known curves, and inputs that cannot be measured."""

import numpy as np
import pytest

from dmt.errors import InputError
from dmt.evaluation import evaluate_lips
from dmt.evaluation.lips import _opening, _reference, closed_below_open, lag_correlations
from dmt.face.basis import LandmarkBasis


def curve(frames=300, seed=0):
    noise = np.random.default_rng(seed).standard_normal(frames + 20)
    return np.convolve(noise, np.ones(5) / 5, "same")[10:-10]


@pytest.mark.parametrize("late", [-3, 0, 4])
def test_best_lag_is_how_late_the_made_mouth_is(late):
    whole = curve(400)
    wanted, made = whole[50:350], whole[50 - late : 350 - late]
    scores = lag_correlations(made, wanted)
    assert max(scores, key=scores.get) == late
    assert scores[late] == pytest.approx(1.0)
    assert sorted(scores) == list(range(-10, 11))


def test_correlation_does_not_see_scale_but_sees_sign():
    a = curve()
    assert lag_correlations(3 * a + 1, a)[0] == pytest.approx(1)
    assert lag_correlations(-a, a)[0] == pytest.approx(-1)


def test_a_still_mouth_follows_nothing():
    assert set(lag_correlations(np.zeros(100), curve(100)).values()) == {0.0}


def test_closed_frames_are_told_from_open_ones():
    wanted = np.array([0.0, 0.1, 0.02, 0.2])
    assert closed_below_open(wanted, wanted) == 1.0
    assert closed_below_open(-wanted, wanted) == 0.0
    assert closed_below_open(np.ones(4), wanted) == 0.5
    assert closed_below_open(np.array([0.3, 0.4, 0.1, 0.2]), wanted) == 0.75
    assert closed_below_open(wanted, wanted + 1) is None


def test_opening_is_the_basis_opening():
    basis = LandmarkBasis.load()
    rows = np.random.default_rng(0).standard_normal((5, 64)).astype(np.float32) * 0.2
    points = basis.landmarks(__import__("torch").from_numpy(rows)).numpy()
    np.testing.assert_allclose(_opening(rows), points[:, 14, 1] - points[:, 13, 1], atol=1e-5)


@pytest.mark.parametrize(
    "array, said",
    [
        (np.zeros((80, 10), np.float32), "at least 64"),
        (np.zeros(64, np.float32), "at least 64"),
        (np.full((80, 64), np.nan, np.float32), "not finite"),
    ],
)
def test_bad_references(tmp_path, array, said):
    np.save(tmp_path / "r.npy", array)
    with pytest.raises(InputError, match=said):
        _reference(tmp_path / "r.npy")


def test_pickled_and_missing_references(tmp_path):
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for name, words in (("p.npy", "cannot be read as a numpy file"), ("none.npy", "no such file")):
        with pytest.raises(InputError, match=words):
            evaluate_lips("a.wav", tmp_path / name)

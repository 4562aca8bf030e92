"""Lip curves become coefficients that open the mouth as asked, in every emotion."""

import numpy as np
import pytest
import torch

from dmt.corpus.expression import coefficients, emotions, make_style, opening_of
from dmt.corpus.targets import Segment, lip_curves
from dmt.decoder import UPPER
from dmt.face.basis import LandmarkBasis


def lips(frames=75, vigour=1.0):
    text = "mapubiamo"
    return lip_curves([Segment(c, 0.3 + 0.15 * i, 0.45 + 0.15 * i) for i, c in enumerate(text)], frames, vigour=vigour)


@pytest.mark.parametrize("emotion", range(8))
def test_opening_is_met_and_closures_survive(emotion):
    rng = np.random.default_rng(emotion)
    style = make_style(emotion, rng)
    curves = lips(vigour=style.vigour)
    opening = opening_of(coefficients(curves, style, rng))
    assert np.abs(opening - curves.opening).max() < 0.005
    assert len(curves.closures) == 4
    for first, last in curves.closures:
        assert opening[first : last + 1].max() < 0.02


def test_rounding_narrows_the_mouth():
    rng = np.random.default_rng(0)
    style = make_style(emotions().index("neutral"), rng)
    curves = lips()
    width = LandmarkBasis.load().mouth_width(torch.from_numpy(coefficients(curves, style, rng))).numpy()
    assert np.corrcoef(width, curves.width)[0, 1] > 0.95


def test_emotions_differ_in_the_upper_face():
    means = []
    for index in range(8):
        style = make_style(index, np.random.default_rng(5), actor=np.full(3, 1 / 3))
        means.append(coefficients(lips(200), style, np.random.default_rng(5))[:, list(UPPER)].mean(0))
    distances = [np.linalg.norm(a - b) for i, a in enumerate(means) for b in means[:i]]
    assert min(distances) > 0.3


def test_same_generator_same_face():
    style = make_style(3, np.random.default_rng(1))
    first, second = (coefficients(lips(), style, np.random.default_rng(2)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_motion_is_smooth():
    style = make_style(5, np.random.default_rng(1))
    face = coefficients(lips(200), style, np.random.default_rng(2))
    assert np.isfinite(face).all()
    assert np.abs(np.diff(face[:, list(UPPER)], axis=0)).max() < 0.6

"""Resampling and smoothing: nothing is invented and closures stay closed."""

import numpy as np
import pytest

from dmt.tracking.timeline import resampled, smoothed, smoothed_gaps


def test_25_a_second_is_left_alone():
    rows = np.random.default_rng(0).standard_normal((40, 3))
    np.testing.assert_allclose(resampled(3.0 + np.arange(40) / 25, rows), rows, atol=1e-9)


def test_resampling_overshoots_nothing():
    at = np.sort(np.random.default_rng(0).uniform(0, 4, 90))
    rows = (np.random.default_rng(1).random((90, 2)) > 0.5).astype(float)
    even = resampled(at, rows)
    assert even.min() >= -1e-12 and even.max() <= 1 + 1e-12
    assert len(even) == int((at[-1] - at[0]) * 25 + 1e-3) + 1


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 12])
def test_clips_shorter_than_the_filter(frames):
    rows = np.arange(frames, dtype=float)[:, None] ** 2
    np.testing.assert_allclose(smoothed(rows, 11), rows, atol=1e-9)  # a parabola is its own best fit
    assert np.isfinite(smoothed_gaps(np.tile(rows, 3))).all()


@pytest.mark.parametrize("length", [1, 2, 3])
def test_closures_keep_their_depth(length):
    gaps = np.full((60, 3), 0.15)
    gaps[30 : 30 + length] = 0.002
    gaps += 0.004 * np.random.default_rng(0).random((60, 3))
    smooth = smoothed_gaps(gaps)
    assert smooth[30 : 30 + length].max() < 0.03
    plain = smoothed(gaps, 5)
    if length == 1:
        assert plain[30].min() > 0.05  # what the filter alone would have made of it
    assert smooth[:25].std() < 0.8 * gaps[:25].std()


def test_jitter_is_reduced():
    noise = np.random.default_rng(0).standard_normal((4000, 1))
    assert smoothed(noise, 5).std() == pytest.approx(np.sqrt(17 / 35), rel=0.05)
    assert smoothed(noise, 11).std() == pytest.approx(np.sqrt(0.207), rel=0.05)

"""Augmentations keep length and time, stay finite, and repeat."""

import numpy as np
import pytest

from dmt.corpus import augment

RATE = 16_000


def voice(seconds=1.0):
    time = np.arange(int(RATE * seconds)) / RATE
    wave = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 20))
    return 0.1 * wave * (np.sin(2 * np.pi * 3 * time) > 0)


@pytest.mark.parametrize("seed", range(12))
def test_recording_is_finite_and_in_range(seed):
    wave = augment.record(voice(), np.random.default_rng(seed), babble=voice()[::-1])
    assert wave.shape == (RATE,) and wave.dtype == np.float32
    assert np.isfinite(wave).all() and np.abs(wave).max() <= 1.0
    assert np.abs(wave).max() > 1e-3


def test_recording_survives_digital_silence():
    for seed in range(6):
        assert np.isfinite(augment.record(np.zeros(8000), np.random.default_rng(seed))).all()


@pytest.mark.parametrize("seed", range(6))
def test_changed_voice_keeps_time(seed):
    wave = voice()
    voiced = np.ones(len(wave) // augment.HOP + 2)
    changed = augment.change_voice(wave, voiced, np.random.default_rng(seed))
    assert changed.shape == wave.shape and np.isfinite(changed).all()

    def level(x):
        return np.sqrt((x[: RATE // 400 * 400].reshape(-1, 400) ** 2).mean(1))

    # Loud where the original is loud, soft where it is silent.
    assert np.corrcoef(level(wave), level(changed))[0, 1] > 0.6


def test_rebalance_changes_stretches_differently():
    wave = np.ones(RATE)
    out = augment.rebalance(wave, np.array([0, 8000]), np.array([8000, 16000]), np.random.default_rng(1))
    assert abs(np.log(out[4000] / out[12000])) > 0.05


def test_same_seed_same_sound():
    first, second = (augment.record(voice(), np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)

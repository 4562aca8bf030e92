"""One record: what contradicts itself is refused; cutting and resampling keep sound and face together."""

from dataclasses import replace

import numpy as np
import pytest

from dmt.data import Clip
from dmt.errors import InputError
from dmt.rates import SAMPLE_RATE


def clip(frames=50, fps=25.0, **changes):
    time = np.arange(frames)[:, None] / fps
    made = Clip(
        "a/b",
        "somebody",
        np.repeat(time, 64, 1).astype(np.float32),
        np.repeat(time, 9, 1).astype(np.float32),
        fps,
        wave=np.arange(round(frames / fps * SAMPLE_RATE), dtype=np.float32) / 1e6,
        features=np.repeat(np.arange(round(frames / fps * 50))[:, None], 4, 1).astype(np.float32),
        closures=np.array([[2, 4], [10, 12], [40, 41]], np.int32),
    )
    return replace(made, **changes)


def test_a_whole_clip_passes():
    whole = clip()
    assert whole.check() is whole
    assert len(whole) == 50 and whole.seconds == 2.0


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"coefficients": np.zeros((50, 63), np.float32)}, "expected"),
        ({"coefficients": np.zeros((0, 64), np.float32)}, "at least one row"),
        ({"pose": np.zeros((49, 9), np.float32)}, "49 of pose"),
        ({"pose": np.full((50, 9), np.inf, np.float32)}, "not finite"),
        ({"fps": 1000.0}, "frames a second"),
        ({"wave": np.zeros(16_000, np.float32)}, "do not belong together"),
        ({"wave": np.full(40_000, np.nan, np.float32)}, "finite"),
        ({"features": np.zeros((20, 4), np.float32)}, "do not belong together"),
        ({"style": np.zeros((20, 4), np.float32)}, "style of a/b"),
    ],
)
def test_contradictions_are_refused(changes, said):
    with pytest.raises(InputError, match=said):
        replace(clip(), **changes).check()


def test_a_voice_may_go_on_after_the_pictures():
    clip(wave=np.zeros(100_000, np.float32)).check()


def test_cutting_keeps_everything_together():
    part = clip().cut(10, 35)
    assert len(part) == 25
    np.testing.assert_allclose(part.coefficients[0], 10 / 25)
    assert len(part.wave) == 16_000 and part.wave[0] == pytest.approx(6_400 / 1e6)
    assert part.features.shape == (50, 4) and part.features[0, 0] == 20
    np.testing.assert_array_equal(part.closures, [[0, 2]])
    with pytest.raises(InputError, match="which has 50"):
        clip().cut(40, 51)


@pytest.mark.parametrize("fps", [30.0, 29.97, 50.0, 15.0])
def test_other_frame_rates_become_25_without_drift(fps):
    """Coefficients that are the time itself are still the time at 25 frames a second."""
    slow = clip(frames=round(4 * fps), fps=fps, closures=None).at_frame_rate()
    assert slow.fps == 25 and abs(len(slow) - 100) <= 1
    inside = np.arange(len(slow)) / 25 <= (round(4 * fps) - 1) / fps
    np.testing.assert_allclose(slow.coefficients[inside, 0], (np.arange(len(slow)) / 25)[inside], atol=1e-5)
    slow.check()


def test_closures_move_with_the_frames():
    moved = clip(frames=60, fps=30.0, closures=np.array([[30, 33]], np.int32)).at_frame_rate()
    np.testing.assert_array_equal(moved.closures, [[25, 28]])

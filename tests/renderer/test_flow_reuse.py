"""Reuse in time: exact where it must be, free where nothing moves, and worse only as far as it is told to be."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dmt.errors import InputError
from dmt.renderer.flow import FlowRenderer, Rendered, motion_windows, warp
from dmt.renderer.flow_fast import FastFlowRenderer
from dmt.renderer.flow_frames import FlowFrames, as_network_input
from dmt.renderer.flow_reuse import ReusingRenderer, TemporalReuse, carried
from dmt.types import Motion


@pytest.fixture(scope="module")
def renderer() -> FlowRenderer:
    torch.manual_seed(0)
    return FlowRenderer().eval()


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    y, x = np.mgrid[0:64, 0:64] / 64
    return np.stack([255 * x, 255 * y, 127 + 100 * np.sin(9 * x * y)], -1).astype(np.uint8)


def smooth_motion(frames: int) -> torch.Tensor:
    """[T, 73], every coefficient on a slow wave of its own."""
    phase = torch.rand(73, generator=torch.Generator().manual_seed(3)) * 2 * math.pi
    return torch.sin(torch.arange(frames)[:, None] / 6 + phase)


def stream(frames: FlowFrames, motion: torch.Tensor, block: int = 100) -> torch.Tensor:
    pieces = (Motion(p[:, :64], p[:, 64:], torch.zeros(len(p))) for p in motion.split(block))
    return torch.cat(list(frames.stream(pieces)))


def test_a_threshold_too_small_to_meet_is_exact(renderer: FlowRenderer, picture: np.ndarray) -> None:
    motion = smooth_motion(5)
    frames = FlowFrames(renderer, picture, reuse=1e-9)
    assert torch.equal(stream(frames, motion), stream(FlowFrames(renderer, picture), motion))
    assert frames.reuse.counts == {"key": 5, "reuse": 0, "repeat": 0}


def test_still_motion_costs_one_frame(renderer: FlowRenderer, picture: np.ndarray) -> None:
    frames = FlowFrames(renderer, picture, reuse=1.0)
    shown = stream(frames, torch.full((40, 73), 0.3))
    assert (shown == shown[:1]).all()
    assert frames.reuse.counts == {"key": 1, "reuse": 0, "repeat": 39}


def test_error_grows_and_work_shrinks_with_theta(renderer: FlowRenderer, picture: np.ndarray) -> None:
    motion = smooth_motion(16)
    exact = stream(FlowFrames(renderer, picture), motion).float()
    errors, keys = [], []
    for theta in (0.5, 2.5, 6.0):
        frames = FlowFrames(renderer, picture, reuse=theta)
        errors.append((stream(frames, motion).float() - exact).square().mean().item())
        keys.append(frames.reuse.counts["key"])
    assert errors[0] == 0 and 0 < errors[1] < errors[2]
    assert keys[0] == 16 and keys[0] > keys[1] > keys[2]


@pytest.mark.parametrize("block", [1, 5])
def test_blocks_change_nothing(renderer: FlowRenderer, picture: np.ndarray, block: int) -> None:
    motion = smooth_motion(9)
    frames = FlowFrames(renderer, picture, reuse=2.0)
    once = stream(frames, motion)
    assert torch.equal(stream(frames, motion, block), once)  # also: a new stream starts afresh


def test_a_carried_key_frame_is_itself(renderer: FlowRenderer) -> None:
    fast = FastFlowRenderer(renderer)
    prepared = fast.prepare(torch.tanh(torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))))
    key = fast(prepared, torch.zeros(1, 73, 27))
    again = carried(key, prepared.image, key.flow)
    assert (again.image - key.image).abs().max() < 2e-5


def test_editing_moves_with_the_face() -> None:
    """A uniform flow: the carried frame is the key frame shifted, editing included."""
    portrait = torch.zeros(1, 3, 64, 64)
    still = torch.zeros(1, 2, 16, 16)
    spot = torch.zeros(1, 3, 64, 64)
    spot[..., 30:34, 30:34] = 0.5
    key = Rendered(warp(portrait, still) + spot, warp(portrait, still), still)
    shift = still.clone()
    shift[:, 0] = 15 / 16 * 2  # grid pixels of 15 to a side of 2: sampled 8 picture pixels to the right
    moved = carried(key, portrait, shift).image
    assert (moved[..., 30:34, 22:26] - 0.5).abs().max() < 1e-4
    assert moved[..., 30:34, 30:34].abs().max() < 1e-4


def test_the_mean_is_the_papers() -> None:
    reuse = TemporalReuse(theta=1.5)
    decisions = [reuse.decide(torch.tensor([x])) for x in (0.0, 1.0, 1.0, 1.1, 4.0)]
    assert decisions == ["key", "reuse", "reuse", "reuse", "key"]
    assert reuse.mean == pytest.approx(0.9 * (0.9 * 0.9 * 1.0 + 0.1 * 0.1) + 0.1 * 2.9, rel=1e-5)


def test_a_face_that_comes_to_rest_is_shown_exactly() -> None:
    """The mean movement fades, so the frame at rest is computed once and then repeated."""
    reuse = TemporalReuse(theta=2.0)
    decisions = [reuse.decide(torch.tensor([x])) for x in (0.0, 1.0, *[1.5] * 20)]
    assert decisions.count("key") == 2 and decisions[-1] == "repeat"


def test_carrying_computes_the_flow_of_every_frame(renderer: FlowRenderer, picture: np.ndarray) -> None:
    fast = FastFlowRenderer(renderer)
    prepared = fast.prepare(as_network_input(picture))
    windows = motion_windows(smooth_motion(6))
    reusing = ReusingRenderer(fast, prepared, TemporalReuse(3.0), "carry")
    shown = [reusing.render(w) for w in windows.split(1)]
    assert reusing.reuse.counts["reuse"] > 0
    exact = [fast(prepared, w) for w in windows.split(1)]
    for a, b in zip(shown, exact, strict=True):
        assert torch.equal(a.flow, b.flow) and torch.equal(a.warped, b.warped)


@pytest.mark.parametrize("theta", [-1.0, float("nan"), float("inf")])
def test_bad_thresholds_are_refused(theta: float) -> None:
    with pytest.raises(InputError, match="reuse"):
        TemporalReuse(theta)

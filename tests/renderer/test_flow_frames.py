"""Streams under the learned renderer: windows, block sizes, pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dmt.errors import InputError
from dmt.renderer.flow import FlowRenderer, motion_windows
from dmt.renderer.flow_frames import FlowFrames, as_network_input, as_picture, stream_windows
from dmt.types import Motion
from dmt_kernels import tiles


@pytest.mark.parametrize("frames", [1, 5, 13, 14, 40])
@pytest.mark.parametrize("block", [1, 3, 64])
def test_streamed_windows_are_the_whole_clips(frames: int, block: int) -> None:
    motion = torch.randn(frames, 73)
    streamed = torch.cat(list(stream_windows(motion.split(block))))
    assert torch.equal(streamed, motion_windows(motion))


def test_no_motion_gives_no_windows() -> None:
    assert list(stream_windows([])) == [] and list(stream_windows([torch.empty(0, 73)])) == []


def test_pictures_survive_the_round_trip_and_truncate() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    back = as_picture(as_network_input(picture))[0].numpy()
    assert np.abs(back.astype(int) - picture).max() <= 1
    assert as_picture(torch.full((1, 3, 1, 1), 0.999))[0, 0, 0, 0] == 254


def test_stream_equals_rendering_all_windows_at_once() -> None:
    torch.manual_seed(0)
    renderer = FlowRenderer().eval()
    picture = np.random.default_rng(0).integers(0, 256, (64, 32, 3), dtype=np.uint8)
    frames = FlowFrames(renderer, picture)
    motion = torch.randn(7, 73)
    pieces = [Motion(p[:, :64], p[:, 64:], torch.zeros(len(p))) for p in motion.split(3)]
    streamed = torch.cat(list(frames.stream(pieces)))
    with torch.no_grad():
        plain = as_picture(renderer(as_network_input(picture).expand(7, -1, -1, -1), motion_windows(motion)).image)
    assert streamed.shape == (7, 64, 32, 3)
    assert (streamed.int() - plain.int()).abs().max() <= 1


def test_sides_that_do_not_divide_are_refused() -> None:
    with pytest.raises(InputError, match="multiples of 32"):
        FlowFrames(FlowRenderer(), np.zeros((100, 100, 3), np.uint8))


@pytest.mark.skipif(not tiles(), reason="a processor without matrix tiles (AMX)")
@pytest.mark.parametrize("precision", ["exact", "fast"])
def test_frames_side_by_side_are_the_same(precision) -> None:
    """A thread for each frame, all threads for a lone one, one thread for everything: the same to the bit."""
    torch.manual_seed(0)
    picture = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    frames = FlowFrames(FlowRenderer().eval(), picture, precision=precision)
    windows, threads, shown = torch.randn(5, 73, 27), torch.get_num_threads(), []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            shown.append(frames.render_windows(windows))
            shown.append(torch.cat([frames.render_windows(window) for window in windows.split(1)]))
    finally:
        torch.set_num_threads(threads)
    assert len({tuple(pictures.flatten().tolist()) for pictures in shown}) == 1
    assert frames.render_windows(windows[:0]).shape == (0, 64, 96, 3)

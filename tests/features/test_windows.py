"""Windows of rows around frames, at once and as rows arrive."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dmt.features import WindowBuffer, pad_blocks, rows_for, silence_after, windows
from dmt.types import frames_for


def by_hand(rows: torch.Tensor, first: int, frames: int) -> torch.Tensor:
    """The definition: frame i sees rows 2 i - 5 .. 2 i + 5, zeros outside."""
    result = torch.zeros(rows.shape[0], frames, 11, rows.shape[2])
    for i in range(frames):
        for k in range(11):
            row = 2 * (first + i) - 5 + k
            if 0 <= row < rows.shape[1]:
                result[:, i, k] = rows[:, row]
    return result


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(0, 20), st.integers(0, 12))
def test_windows_are_the_definition(count, first, frames):
    rows = torch.randn(2, count, 3)
    assert torch.equal(windows(rows, first, frames), by_hand(rows, first, frames))


def test_gradients_count_each_use():
    rows = torch.randn(1, 40, 2, requires_grad=True)
    windows(rows, 0, 20).sum().backward()
    assert (
        rows.grad[0, :, 0].tolist()
        == by_hand(torch.ones(1, 40, 1), 0, 20)
        .new_tensor([sum(abs(2 * i - r) <= 5 for i in range(20)) for r in range(40)])
        .tolist()
    )


@settings(deadline=None)
@given(st.lists(st.integers(0, 13), min_size=1, max_size=8), st.integers(-1, 3))
def test_buffer_gives_the_same_windows(pieces, extra):
    rows = torch.randn(1, sum(pieces), 2)
    frames = max(0, sum(pieces) // 2 + extra)
    buffer = WindowBuffer()
    parts = [buffer.push(piece) for piece in rows.split(pieces, dim=1)]
    early = sum(p.shape[1] for p in parts)
    parts.append(buffer.finish(frames))
    result = torch.cat(parts, dim=1)
    assert torch.equal(result, windows(rows, 0, max(frames, early)))
    assert buffer.frames == result.shape[1]


def test_buffer_gives_a_frame_as_soon_as_it_is_complete():
    buffer = WindowBuffer()
    assert buffer.push(torch.ones(1, 5, 1)).shape[1] == 0
    assert buffer.push(torch.ones(1, 1, 1)).shape[1] == 1  # frame 0 sees rows up to 5
    assert buffer.push(torch.ones(1, 2, 1)).shape[1] == 1
    assert buffer.finish().shape[1] == 2  # 8 rows are 4 frames


def test_buffer_keeps_little():
    buffer = WindowBuffer()
    for _ in range(50):
        buffer.push(torch.zeros(1, 100, 4))
        assert buffer._tail.untyped_storage().nbytes() <= 10 * 4 * 4


def test_finishing_nothing_is_an_error():
    with pytest.raises(ValueError, match="no rows"):
        WindowBuffer().finish()


@pytest.mark.parametrize("samples", [1, 160, 639, 640, 16000, 16001, 16319, 16320, 16500, 278507])
def test_padding_makes_the_video_as_long_as_the_audio(samples):
    padded = samples + silence_after(samples)
    assert rows_for(padded) // 2 >= frames_for(samples)
    assert samples < 640 or silence_after(samples) <= 400
    blocks = list(pad_blocks(torch.ones(samples).split(500)))
    assert sum(len(b) for b in blocks) == padded
    assert not blocks[-1].any()


def test_padding_leaves_an_empty_stream_empty():
    assert list(pad_blocks([])) == []

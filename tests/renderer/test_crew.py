"""Frames on threads of their own: each once, the same ones, and nothing left behind."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator

import pytest
import torch

from dmt.face.landmarks import load_portrait
from dmt.renderer.crew import Crew
from dmt.renderer.warp import WarpRenderer
from dmt.scene import asset
from dmt.types import Motion


@pytest.fixture(params=[1, 2, 3])
def threads(request) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def crew_threads() -> int:
    return sum(thread.name.startswith("frames") for thread in threading.enumerate())


@pytest.mark.parametrize(("count", "most"), [(0, 8), (1, 8), (2, 8), (16, 8), (17, 8), (100, 8), (5, 1)])
def test_every_row_once(threads, count, most):
    taken = []
    Crew().share(lambda rows: taken.append(rows), count, most)
    rows = sorted(index for part in taken for index in range(part.start, part.stop))
    assert rows == list(range(count)) and all(part.stop - part.start <= most for part in taken)
    assert len(taken) >= min(threads, count)


def test_frames_do_not_depend_on_the_threads(threads):
    portrait = load_portrait(asset("portrait.png"), landmarks=asset("portrait_landmarks.npz"), size=96)
    dice = torch.Generator().manual_seed(0)
    motion = Motion(torch.randn(11, 64, generator=dice) / 3, torch.zeros(11, 9), torch.rand(11, generator=dice))
    renderer = WarpRenderer(portrait)
    with torch.inference_mode(threads == 3):
        together = renderer.render(motion)
    rows = [slice(index, index + 1) for index in range(11)]
    single = [renderer.render(Motion(motion.expression[i], motion.pose[i], motion.blink[i])) for i in rows]
    assert torch.equal(together, torch.cat(single))


def test_threads_of_others_keep_their_number(threads):
    seen = []
    Crew().share(lambda rows: seen.append(torch.get_num_threads()), 12, 2)
    assert set(seen) == {1} and torch.get_num_threads() == threads
    later = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    later.start()
    later.join()
    assert seen[-1] == threads


def test_a_crew_of_one_is_the_caller(threads):
    seen = []
    Crew(1).share(lambda rows: seen.append((rows, torch.get_num_threads(), threading.current_thread())), 11, 4)
    here = threading.current_thread()
    assert seen == [(part, threads, here) for part in (slice(0, 4), slice(4, 8), slice(8, 11))]


def test_an_error_ends_the_others_first(threads):
    crew, at_work = Crew(), []

    def work(rows: slice) -> None:
        if rows.start == 0:
            raise RuntimeError("of the first frame")
        at_work.append(rows)
        time.sleep(0.05)
        at_work.remove(rows)

    with pytest.raises(RuntimeError, match="first frame"):
        crew.share(work, 12, 1)
    assert not at_work
    done = []
    crew.share(done.append, 4, 1)
    assert len(done) == 4


def test_threads_end_with_the_crew():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        gc.collect()
        assert settled(0), "of other tests"
        crew = Crew()
        crew.share(lambda rows: None, 8, 2)
        assert crew_threads() == 2
        torch.set_num_threads(3)
        crew.share(lambda rows: None, 8, 2)
        assert settled(3)
        del crew
        gc.collect()
        assert settled(0)
    finally:
        torch.set_num_threads(threads)


def settled(count: int) -> bool:
    """Whether there are so many threads, at last."""
    limit = time.monotonic() + 10
    while crew_threads() != count and time.monotonic() < limit:
        time.sleep(0.01)
    return crew_threads() == count

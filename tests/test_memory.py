"""A thread's work leaves nothing behind, however it ends, though Python does not look for circles."""

from __future__ import annotations

import gc
import traceback
import weakref
from collections.abc import Iterator

import anyio
import pytest
from anyio import to_thread

from dmt.errors import InputError
from dmt.memory import traceless


class Large:
    """What must not stay."""


@pytest.fixture
def no_search() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def inner(seen: list) -> Iterator[int]:
    large = Large()
    seen.append(weakref.ref(large))
    try:
        yield 1
        raise InputError("in the middle")
    finally:
        seen.append("closed")
        del large


def work(seen: list, *, finish: bool) -> int:
    large = Large()
    seen.append(weakref.ref(large))
    steps = inner(seen)
    next(steps)
    if finish:
        return 7
    if len(seen) > 5:
        raise KeyError("nothing was read")
    try:
        next(steps)
    except InputError as error:
        raise ValueError("something else") from error
    return 0


@pytest.mark.parametrize("finish", [True, False])
def test_nothing_is_held_after_a_thread(no_search, finish):
    seen: list = []
    held: list = []

    async def run() -> None:
        try:
            assert await to_thread.run_sync(lambda: traceless(work, seen, finish=finish)) == 7
        except ValueError as error:
            held.append(error)

    anyio.run(run)
    assert seen.count("closed") == 1 and len(held) == (not finish)
    assert [entry() for entry in seen if entry != "closed"] == [None, None]
    if held:  # the exception itself still says where it came from
        said = "".join(traceback.format_exception(held[0]))
        assert "something else" in said and "in the middle" in said and "in work" in said and "in inner" in said


def test_without_it_there_is_something_to_lose(no_search):
    seen: list = []

    async def run() -> None:
        with pytest.raises(ValueError):
            await to_thread.run_sync(lambda: work(seen, finish=False))

    anyio.run(run)
    assert any(entry != "closed" and entry() is not None for entry in seen)


def test_a_suspended_generator_is_closed_at_once(no_search):
    seen: list = [None] * 5
    with pytest.raises(KeyError):
        traceless(work, seen, finish=False)
    assert "closed" in seen

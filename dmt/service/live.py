"""A live session: sound comes in over a WebSocket, the pipeline runs in a thread, frames go out as they are made.

Both ways are bounded. A client that does not take its frames stops the renderer, which stops taking sound, which stops
the reading from the socket, until TCP stops the client; one that sends too fast is stopped in the same way. A client
that goes away ends the scope that thread and tasks live in.
"""

from __future__ import annotations

import base64
import io
import json
import logging
import math
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.lowlevel
import numpy as np
from anyio import from_thread
from numpy.typing import NDArray
from PIL import Image
from starlette.websockets import WebSocket, WebSocketDisconnect

from ..errors import InputError
from ..media import FragmentWriter, to_float
from ..memory import traceless
from ..rates import SAMPLE_RATE, SAMPLES_PER_FRAME
from .limits import Limits
from .metrics import Metrics
from .request import Hello, read_hello
from .uploads import FILES, check_picture, plain

if TYPE_CHECKING:
    from ..pipeline import Pipeline

log = logging.getLogger("dmt.service")
T = TypeVar("T")

NORMAL, WRONG, BROKEN = 1000, 1008, 1011
"""Close codes of RFC 6455: done, against the rules, our fault."""

BLOCK = 10 * SAMPLE_RATE
"""Samples that one message may bring."""


class Session:
    """One client's connection, from its hello to its last frame."""

    def __init__(
        self, socket: WebSocket, pipeline: Pipeline, limits: Limits, metrics: Metrics, workers: anyio.CapacityLimiter
    ) -> None:
        self._socket, self._pipeline, self._limits = socket, pipeline, limits
        self._metrics, self._workers = metrics, workers
        self._sound_in, self._sound_out = anyio.create_memory_object_stream[NDArray[np.int16]](limits.ahead)
        self._made_in, self._made_out = anyio.create_memory_object_stream[bytes | str](limits.behind)
        self._patience = anyio.CancelScope()
        self._ready = self._ended = False
        self._frames = 0

    async def run(self) -> str:
        """Serve the client; returns how it ended: done, refused, gone or failed."""
        try:
            with anyio.fail_after(self._limits.session):
                await self._serve()
            return "done"
        except WebSocketDisconnect:
            return "gone"
        except TimeoutError:
            return await self._leave(WRONG, f"a session lasts at most {self._limits.session:g} s", "refused")
        except InputError as error:
            return await self._leave(WRONG, str(error), "refused")
        except Exception:
            log.exception("a live session failed")
            return await self._leave(BROKEN, "internal error; the server's log has it", "failed")
        finally:
            self._close()

    async def _serve(self) -> None:
        message = await self._receive(self._limits.hello)
        if not isinstance(message, str):
            raise InputError('the first message must be JSON such as {"frames": "jpeg"}, got binary')
        hello = read_hello(message, self._limits)
        with tempfile.TemporaryDirectory(prefix="dmt-live-") as folder:
            image = _portrait(hello, Path(folder))
            await self._send(json.dumps({"type": "queued", "before": self._workers.statistics().tasks_waiting}))
            await self._perform(hello, image)
        await self._send(json.dumps({"type": "end", "frames": self._frames}))
        await self._socket.close(NORMAL)

    async def _perform(self, hello: Hello, image: Path | None) -> None:
        """Receiver, worker and sender side by side until the last frame is sent; the first fault ends all three."""
        faults: list[Exception] = []

        async def work() -> None:
            await anyio.to_thread.run_sync(traceless, self._work, hello, image, limiter=self._workers)
            self._made_in.close()

        async def guarded(step: Callable[[], Awaitable[None]]) -> None:
            try:
                await step()
            except (CancelledError, anyio.ClosedResourceError, anyio.BrokenResourceError):
                pass  # somebody has hung up, and says why
            except Exception as error:
                faults.append(error)
                group.cancel_scope.cancel()

        async with anyio.create_task_group() as group:
            group.start_soon(self._hang_up)
            group.start_soon(guarded, self._take)
            group.start_soon(guarded, work)
            await guarded(self._give)
            group.cancel_scope.cancel()
        if faults:
            raise faults.pop()  # not kept in a variable, which its traceback would keep in turn
        await anyio.lowlevel.checkpoint()  # a cancellation from outside goes on here

    async def _hang_up(self) -> None:
        """When the others are cancelled: wake the worker, wherever it waits."""
        try:
            await anyio.sleep_forever()
        finally:
            self._close()

    def _close(self) -> None:
        for stream in (self._sound_in, self._sound_out, self._made_in, self._made_out):
            stream.close()

    async def _take(self) -> None:
        """Sound from the socket to the worker, until {"type": "end"}; after that only a disconnection counts."""
        heard = 0
        while True:
            message = await self._receive(self._limits.idle if self._ready and not self._ended else math.inf)
            if self._ended:
                raise InputError("a message came after the end of the sound")
            if isinstance(message, str):
                _check_end(message)
                self._ended = True
                self._sound_in.close()
                continue
            if len(message) % 2 or len(message) > 2 * BLOCK:
                raise InputError(
                    f"a message of sound holds int16 samples, at most {BLOCK} of them; got {len(message)} bytes"
                )
            heard += len(message) // 2
            if heard > self._limits.live_sound * SAMPLE_RATE:
                raise InputError(f"a session takes at most {self._limits.live_sound:g} s of sound")
            await self._sound_in.send(np.frombuffer(message, "<i2"))

    async def _give(self) -> None:
        """What the worker makes to the socket."""
        async for made in self._made_out:
            if isinstance(made, str) and not self._ended:  # it is ready: from now on sound is waited for
                self._ready = True
                self._patience.deadline = anyio.current_time() + self._limits.idle
            await self._send(made)

    def _work(self, hello: Hello, image: Path | None) -> None:
        """In a worker thread: the pipeline, from blocks to bytes. Every wait in it ends when the scope is cancelled."""
        voice = _Voice(self._blocks(), keep=hello.frames == "mp4")
        options = hello.options.model_dump()
        try:
            frames = self._pipeline.stream(iter(voice), image, latency=hello.latency, **options)
            self._hand_on(json.dumps({"type": "ready"}))
            for made in self._encoded(frames, voice, hello):
                if made:
                    self._hand_on(made)
        except InputError as error:
            raise InputError(plain(str(error), {} if image is None else {"image": image})) from None

    def _blocks(self) -> Iterator[NDArray[np.int16]]:
        """Sound as the receiver hands it on."""
        while True:
            try:
                yield from_thread.run(_shielded, self._sound_out.receive)
            except anyio.EndOfStream:
                from_thread.check_cancelled()
                return

    def _hand_on(self, made: bytes | str) -> None:
        """Wait for room before the sender."""
        from_thread.check_cancelled()
        from_thread.run(_shielded, self._made_in.send, made)

    def _encoded(self, frames: Iterator[NDArray[np.uint8]], voice: _Voice, hello: Hello) -> Iterator[bytes]:
        """A message a frame; an empty one where a fragment has yet to become whole."""
        writer: _Jpegs | FragmentWriter | None = None
        try:
            for frame in frames:
                if writer is None:
                    writer = _Jpegs(hello.quality) if hello.frames == "jpeg" else FragmentWriter(*frame.shape[:2])
                self._frames += 1
                self._metrics.frames.labels("live").inc()
                yield writer.write(frame, voice.next())
            if writer is not None:
                yield writer.finish(voice.next(rest=True))
        finally:
            if writer is not None:
                writer.close()

    async def _receive(self, seconds: float) -> str | bytes:
        """The next message. InputError: none within that time though one is waited for; WebSocketDisconnect."""
        while True:
            with anyio.CancelScope(deadline=anyio.current_time() + seconds) as self._patience:
                message = await self._socket.receive()
            if not self._patience.cancelled_caught:
                break
            if not self._ready or self._sound_out.statistics().tasks_waiting_receive:  # nothing is left to work on
                raise InputError(f"no message came for {min(seconds, self._limits.idle):g} s")
            seconds = self._limits.idle
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1006))
        text = message.get("text")
        return message["bytes"] if text is None else text

    async def _send(self, message: str | bytes) -> None:
        """Send once there is room; a client that makes none for too long counts as gone."""
        with anyio.move_on_after(self._limits.stuck) as patience:
            await (self._socket.send_text if isinstance(message, str) else self._socket.send_bytes)(message)
        if patience.cancelled_caught:
            raise WebSocketDisconnect(1006, "took nothing")

    async def _leave(self, code: int, sentence: str, outcome: str) -> str:
        with anyio.move_on_after(1.0), suppress(WebSocketDisconnect, RuntimeError):
            await self._socket.send_text(json.dumps({"type": "error", "error": sentence}))
            await self._socket.close(code)
        return outcome


async def _shielded(step: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """A step that a thread waits for. It ends by the streams being closed and no sooner: anyio does not cancel what a
    thread starts in a scope that has been cancelled already, and would wait for it for ever."""
    with anyio.CancelScope(shield=True):
        return await step(*arguments)


class _Voice:
    """The blocks, and what of them no frame has been given yet; nothing is kept where no frame asks."""

    def __init__(self, blocks: Iterator[NDArray[np.int16]], *, keep: bool) -> None:
        self._blocks, self._keep = blocks, keep
        self._left = np.zeros(0, np.float32)

    def __iter__(self) -> Iterator[NDArray[np.int16]]:
        for block in self._blocks:
            if self._keep:
                self._left = np.concatenate([self._left, to_float(block)])
            yield block

    def next(self, *, rest: bool = False) -> NDArray[np.float32]:
        """The sound of the next frame, or all that is left."""
        count = len(self._left) if rest else SAMPLES_PER_FRAME
        sound, self._left = self._left[:count], self._left[count:]
        return sound


class _Jpegs:
    """A picture a frame, with the methods of `FragmentWriter`."""

    def __init__(self, quality: int) -> None:
        self._quality = quality

    def write(self, frame: NDArray[np.uint8], sound: NDArray[np.float32]) -> bytes:
        """A JPEG file."""
        buffer = io.BytesIO()
        Image.fromarray(frame).save(buffer, "JPEG", quality=self._quality)
        return buffer.getvalue()

    def finish(self, sound: NDArray[np.float32]) -> bytes:
        """Nothing is left to send."""
        return b""

    def close(self) -> None:
        """Nothing is open."""


def _check_end(text: str) -> None:
    try:
        ended = json.loads(text) == {"type": "end"}
    except (ValueError, RecursionError):
        ended = False
    if not ended:
        raise InputError('expected sound in binary messages, or {"type": "end"}, got another text')


def _portrait(hello: Hello, folder: Path) -> Path | None:
    """The picture of a hello as a file; None for the bundled one. InputError: no base64, no picture."""
    if hello.portrait is None:
        return None
    target = folder / "image"
    try:
        target.write_bytes(base64.b64decode(hello.portrait, validate=True))
    except ValueError:  # binascii.Error is one; letters beyond ASCII are another
        raise InputError(f"{FILES['image']} is not in base64") from None
    check_picture(target)
    return target

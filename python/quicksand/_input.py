"""What a command reads: all at once, or piece by piece while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Protocol, cast

from . import _native
from ._bridge import Begin, OnEvent, run, run_sync

__all__ = ["AsyncInput", "Input", "encoded", "run_fed", "run_sync_fed"]

Piece = bytes | str


class Readable(Protocol):
    """A file: ``read(n)`` gives at most ``n`` bytes, and nothing at the end."""

    def read(self, n: int, /) -> Piece:
        """Reads some bytes."""
        ...


Input = Piece | Iterable[Piece] | Readable
"""Bytes or text; an iterable of them; a file that is open for reading."""

AsyncInput = Input | AsyncIterable[Piece]
"""The same, and asynchronous iterables."""

_CHUNK = 1 << 16


def encoded(data: Piece) -> bytes:
    """Text as UTF-8; lone surrogates become the bytes that they stand for (PEP 383)."""
    if isinstance(data, str):
        return data.encode("utf-8", "surrogateescape")
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise TypeError(f"stdin is bytes or text, or gives them, not {type(data).__name__}")


def pieces(source: object) -> Iterator[bytes]:
    """The pieces of a file or an iterable."""
    # At its end the interpreter closes standard input when nothing holds it any more, and aborts when
    # a thread is still waiting in it. A thread that is never resumed keeps what its frames hold.
    _held = (sys.stdin, sys.__stdin__)
    read = getattr(source, "read", None)
    if read is not None:
        while data := read(_CHUNK):
            yield encoded(data)
        return
    if not isinstance(source, Iterable):
        raise TypeError(
            "stdin is bytes, text, an iterable of them or an open file, "
            f"not {type(source).__name__}"
        )
    for data in source:
        yield encoded(data)


_AHEAD = 2
"""Pieces that are read before the guest has taken those before them."""


async def _async_pieces(source: object) -> AsyncIterator[bytes]:
    if isinstance(source, AsyncIterable):
        async for data in source:
            yield encoded(data)
        return
    # A file or a generator may block, and for ever: it is read in a thread, so that the loop goes
    # on, and in a daemon thread of its own, because the loop's executor has few threads for the
    # whole program and is waited for when the program ends.
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[tuple[bytes | None, BaseException | None]] = asyncio.Queue()
    room = threading.Semaphore(_AHEAD)
    is_over = threading.Event()

    def put(data: bytes | None, error: BaseException | None) -> None:
        # The loop may be closed by then: nobody waits any more.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(arrived.put_nowait, (data, error))

    def read() -> None:
        try:
            for data in pieces(source):
                room.acquire()
                if is_over.is_set():
                    return
                put(data, None)
        except BaseException as error:
            # It is raised in the task that made the call.
            put(None, error)
        else:
            put(None, None)

    threading.Thread(target=read, name="quicksand-stdin", daemon=True).start()
    try:
        while True:
            data, error = await arrived.get()
            if error is not None:
                raise error
            if data is None:
                return
            yield data
            room.release()
    finally:
        is_over.set()
        room.release()


async def run_fed(begin: Begin, on_event: OnEvent, source: object, feed: _native.Input) -> Any:
    """Waits for an operation that is fed meanwhile."""

    async def pump() -> None:
        try:
            async for data in _async_pieces(source):
                if not await run(lambda wake, data=data: feed.write(wake, data)):  # type: ignore[misc]
                    return
        finally:
            feed.close()

    pumping = asyncio.ensure_future(pump())
    waiting = asyncio.ensure_future(run(begin, on_event))
    try:
        done, _ = await asyncio.wait({pumping, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if waiting not in done:
            # The input failed, or is over and the command goes on.
            pumping.result()
        return await waiting
    finally:
        for task in (pumping, waiting):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


def run_sync_fed(begin: Begin, on_event: OnEvent, source: object, feed: _native.Input) -> Any:
    """The same in the calling thread; the input is read in another one."""
    failures: list[BaseException] = []
    holder: list[_native.Operation] = []

    def pump() -> None:
        try:
            for data in pieces(source):
                if not run_sync(lambda wake, data=data: feed.write(wake, data)):  # type: ignore[misc]
                    return
        except BaseException as error:
            # It is raised in the thread that made the call.
            failures.append(error)
            holder[0].cancel()
        finally:
            feed.close()

    def begin_and_hold(wake: Any) -> _native.Operation:
        operation = cast(_native.Operation, begin(wake))
        holder.append(operation)
        # A daemon: a source that blocks for ever must not keep the interpreter from ending.
        threading.Thread(target=pump, name="quicksand-stdin", daemon=True).start()
        return operation

    try:
        return run_sync(begin_and_hold, on_event)
    except Exception:
        if failures:
            raise failures[0] from None
        raise

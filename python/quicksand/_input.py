"""What a command reads: all at once, or piece by piece while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import Any, Protocol, Union, cast

from . import _native
from ._bridge import Begin, OnEvent, run, run_sync

__all__ = ["AsyncInput", "Input", "encoded", "run_fed", "run_sync_fed"]

Piece = Union[bytes, str]


class Readable(Protocol):
    """A file: ``read(n)`` gives at most ``n`` bytes, and nothing at the end."""

    def read(self, n: int, /) -> Piece:
        """Reads some bytes."""
        ...


Input = Union[Piece, Iterable[Piece], Readable]
"""Bytes or text; an iterable of them; a file that is open for reading."""

AsyncInput = Union[Input, AsyncIterable[Piece]]
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


async def _async_pieces(source: object) -> AsyncIterator[bytes]:
    if isinstance(source, AsyncIterable):
        async for data in source:
            yield encoded(data)
        return
    # A file or a generator may block: it is read in a thread, so that the loop goes on.
    blocking = pieces(source)
    while (data := await asyncio.to_thread(next, blocking, None)) is not None:
        yield data


async def run_fed(
    begin: Begin, on_event: OnEvent, source: object, feed: _native.Input
) -> Any:
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
        except BaseException as error:  # noqa: BLE001
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

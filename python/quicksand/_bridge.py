"""Drives the native module's operations from an event loop, or from a plain thread.

The native module runs everything on threads of its own. An operation queues events and calls
``wake`` (from one of those threads) when there is something to fetch; ``poll`` hands the events
over and makes room for more, which is how a slow callback slows the guest down instead of
filling memory. The last event is ``("done", value)`` or ``("failed", exception)``.

Only ``call_soon_threadsafe`` is asked of the loop, so any implementation of asyncio's will do.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable
from typing import Any, Protocol

__all__ = ["Event", "Operation", "in_thread", "run", "run_sync"]

Event = tuple[Any, ...]


class Operation(Protocol):
    """Work that the native module has begun."""

    def poll(self) -> list[Event]:
        """Takes the events that are waiting."""
        ...

    def cancel(self) -> None:
        """Ends the work early; a last event still follows."""
        ...


Begin = Callable[[Callable[[], None]], Operation]
OnEvent = Callable[[Event], None]


def _ignore(event: Event) -> None:
    """For operations without events of interest."""


def _dispatch(events: list[Event], on_event: OnEvent) -> tuple[bool, Any]:
    for event in events:
        if event[0] == "done":
            return True, event[1]
        if event[0] == "failed":
            raise event[1]
        on_event(event)
    return False, None


def _has_ended(events: list[Event]) -> bool:
    return any(event[0] in ("done", "failed") for event in events)


async def run(begin: Begin, on_event: OnEvent = _ignore, *, cancellable: bool = True) -> Any:
    """Waits for an operation in the running event loop.

    When the waiting task is cancelled, or ``on_event`` raises, the operation is cancelled (or,
    when not ``cancellable``, left to finish) and its end is awaited before the exception goes on:
    whoever sees the exception can rely on nothing being left behind.
    """
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(ready.set)
        except RuntimeError:
            # The loop was closed while the operation ran; nobody waits any more.
            operation.cancel()

    operation = begin(wake)
    ended = False
    try:
        while True:
            await ready.wait()
            ready.clear()
            events = operation.poll()
            ended = _has_ended(events)
            is_done, value = _dispatch(events, on_event)
            if is_done:
                return value
    except BaseException:
        if not ended:
            if cancellable:
                operation.cancel()
            while not _has_ended(operation.poll()):
                await ready.wait()
                ready.clear()
        raise


class _NotWaitedFor(Exception):
    """Ends a call in a thread for which nobody waits any more."""


async def in_thread(call: Callable[..., Any], *arguments: object) -> Any:
    """Waits for a call that blocks, made in a thread, so that the event loop goes on.

    Its last argument is a function for it to call now and then. That one raises once the waiting task
    was cancelled, and the call's end is awaited before the cancellation goes on: signals reach the
    main thread alone, and an event loop that closes waits for its threads.
    """
    is_cancelled = threading.Event()

    def go_on() -> None:
        if is_cancelled.is_set():
            raise _NotWaitedFor

    waited_for = functools.partial(call, *arguments, go_on)
    future = asyncio.get_running_loop().run_in_executor(None, waited_for)
    try:
        await asyncio.wait([future])
    except BaseException:
        is_cancelled.set()
        await asyncio.wait([future])
        # Taken, so that it is not reported as lost.
        future.exception()
        raise
    return future.result()


def run_sync(begin: Begin, on_event: OnEvent = _ignore, *, cancellable: bool = True) -> Any:
    """Waits for an operation in the calling thread; Ctrl-C cancels it."""
    ready = threading.Event()
    operation = begin(ready.set)
    ended = False
    try:
        while True:
            ready.wait()
            ready.clear()
            events = operation.poll()
            ended = _has_ended(events)
            is_done, value = _dispatch(events, on_event)
            if is_done:
                return value
    except BaseException:
        if not ended:
            if cancellable:
                operation.cancel()
            while not _has_ended(operation.poll()):
                ready.wait()
                ready.clear()
        raise

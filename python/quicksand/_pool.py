"""Sandboxes that were started before anybody asked for them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any

from ._errors import ConfigError, NotRunningError
from ._sandbox import Sandbox

#: Seconds after a start that failed, before the next one.
_PAUSE = 1.0


class Pool:
    """Keeps a number of sandboxes of one kind running, to hand one out at once.

    Each is handed out once, and another is started behind it; what was used never comes back. One
    that has died while it waited is replaced.

    Args:
        image: name of an installed image, or the path of one.
        size: how many sandboxes wait at most, those that are being started included; 1 or more.
        **options: the options of ``Sandbox``, such as ``memory="2G"``.

    Raises:
        ConfigError: ``size`` is no number of 1 or more, or an option is wrong (a ``ValueError``).

    Example:
        >>> import asyncio
        >>> from quicksand import Pool
        >>> async def main():
        ...     async with Pool(image="minimal", size=1, memory="128M") as pool:
        ...         async with pool.sandbox() as sb:
        ...             result = await sb.execute("echo from a pool")
        ...             print(result.stdout, end="")
        >>> asyncio.run(main())
        from a pool
    """

    def __init__(self, image: str, *, size: int = 1, **options: Any) -> None:
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise ConfigError(f"`size` is {size!r}; allowed: a number of 1 or more")
        self._options = {"image": image, "warm": "fork", **options}
        Sandbox(**self._options)  # raises for what is wrong with the options
        self._size = size
        self._ready: asyncio.Queue[Sandbox | BaseException] = asyncio.Queue()
        self._free = asyncio.Semaphore(size)
        self._filling: asyncio.Task[None] | None = None

    @property
    def size(self) -> int:
        """How many sandboxes wait at most."""
        return self._size

    @property
    def ready(self) -> int:
        """How many sandboxes wait now, started."""
        return self._ready.qsize()

    async def start(self) -> None:
        """Begins to start sandboxes. Waits for none of them; does nothing when it has begun."""
        if self._filling is None:
            self._filling = asyncio.create_task(self._fill())

    async def stop(self) -> None:
        """Ends the sandboxes that wait. Those that were handed out go on."""
        filling, self._filling = self._filling, None
        if filling is None:
            return
        filling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await filling
        while not self._ready.empty():
            item = self._ready.get_nowait()
            self._free.release()
            if isinstance(item, Sandbox):
                await item.stop()

    async def __aenter__(self) -> Pool:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def take(self) -> Sandbox:
        """Gives a started sandbox, which is the caller's to stop; waits for one where none is ready.

        Raises:
            NotRunningError: the pool was not started.
            SandboxError: what a start failed with, when there was no other to hand out.

        Example:
            >>> import asyncio
            >>> from quicksand import Pool
            >>> async def main():
            ...     async with Pool(image="minimal", memory="128M") as pool:
            ...         sb = await pool.take()
            ...         print(sb.is_running)
            ...         await sb.stop()
            >>> asyncio.run(main())
            True
        """
        while self._filling is not None:
            item = await self._ready.get()
            self._free.release()
            if isinstance(item, BaseException):
                raise item
            if item.is_running:
                return item
            await item.stop()
        raise NotRunningError("Failed to take a sandbox: the pool does not run")

    @contextlib.asynccontextmanager
    async def sandbox(self) -> AsyncIterator[Sandbox]:
        """A sandbox for a block, which is stopped at its end.

        Raises:
            NotRunningError: the pool was not started.

        Example:
            >>> import asyncio
            >>> from quicksand import Pool
            >>> async def main():
            ...     async with Pool(image="minimal", memory="128M") as pool:
            ...         async with pool.sandbox() as sb:
            ...             print((await sb.execute("id -u")).stdout, end="")
            >>> asyncio.run(main())
            0
        """
        sandbox = await self.take()
        try:
            yield sandbox
        finally:
            await sandbox.stop()

    async def _fill(self) -> None:
        while True:
            await self._free.acquire()
            sandbox = Sandbox(**self._options)
            try:
                await sandbox.start()
            except asyncio.CancelledError:
                self._free.release()
                raise
            except Exception as error:
                # Told to whoever asks next; the start after it may succeed.
                self._ready.put_nowait(error)
                await asyncio.sleep(_PAUSE)
            else:
                self._ready.put_nowait(sandbox)

"""Pools: what is handed out, once, and what takes the place of what died."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest
from quicksand import ConfigError, NotRunningError, Pool, SandboxError
from test_lifecycle import children


def small(size: int, **options: object) -> Pool:
    return Pool(image="minimal", memory="128M", size=size, **options)


async def full(pool: Pool, size: int) -> None:
    deadline = time.monotonic() + 120
    while pool.ready < size:
        assert time.monotonic() < deadline, pool.ready
        await asyncio.sleep(0.05)


def test_each_is_handed_out_once_and_another_follows() -> None:
    async def main() -> None:
        async with small(2) as pool:
            await full(pool, 2)
            begin = time.monotonic()
            one = await pool.take()
            assert time.monotonic() - begin < 0.5
            await one.execute("echo used > /used")
            two, three = await asyncio.gather(pool.take(), pool.take())
            assert len({id(one), id(two), id(three)}) == 3
            for other in (two, three):
                assert (await other.execute("ls /used")).exit_code != 0
            await full(pool, 2)
            assert pool.ready == 2
            for sandbox in (one, two, three):
                await sandbox.stop()
        assert pool.ready == 0
        with pytest.raises(NotRunningError):
            await pool.take()

    asyncio.run(main())


def test_one_that_died_while_it_waited_is_replaced() -> None:
    others = children()

    async def main() -> None:
        async with small(1) as pool:
            await full(pool, 1)
            waiting = pool._ready._queue[0]
            for qemu in children() - others:
                os.kill(qemu, signal.SIGKILL)
            deadline = time.monotonic() + 10
            while waiting.is_running:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            async with pool.sandbox() as sb:
                assert sb is not waiting
                assert (await sb.execute("echo alive")).stdout == "alive\n"
            assert not sb.is_running

    asyncio.run(main())


def test_a_start_that_fails_is_told_to_who_asks(tmp_path: Path) -> None:
    async def main() -> None:
        async with Pool(image=str(tmp_path / "none"), size=1) as pool:
            with pytest.raises(SandboxError):
                await asyncio.wait_for(pool.take(), 30)

    asyncio.run(main())


@pytest.mark.parametrize("size", [0, -1, True, 1.5, "2"])
def test_a_size_that_is_none_is_refused(size: object) -> None:
    with pytest.raises(ConfigError, match="size"):
        Pool(image="minimal", size=size)  # type: ignore[arg-type]


def test_wrong_options_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match="memroy"):
        Pool(image="minimal", memroy="1G")

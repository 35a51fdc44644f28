"""The quick start: one command in a sandbox, and where the time went."""

import asyncio
import time

from quicksand import Sandbox


async def main() -> None:
    begin = time.perf_counter()
    async with Sandbox(image="debian") as sb:
        started = time.perf_counter()
        result = await sb.execute("uname -a")
        answered = time.perf_counter()
        print(result.stdout, end="")
        print(f"accelerator: {sb.accelerator}")
        print(f"boot: {sb.boot_timing}")
    stopped = time.perf_counter()
    print(
        f"start {started - begin:.2f} s, execute {answered - started:.3f} s, stop {stopped - answered:.2f} s"
    )


if __name__ == "__main__":
    asyncio.run(main())

"""The sandbox without async, and sandboxes in threads and in other event loops."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from quicksand import AlreadyRunningError, NotRunningError, Sandbox, sync


def test_the_same_without_async() -> None:
    stages: list[str] = []
    sb = sync.Sandbox(
        image="minimal", memory="256M", progress_callback=lambda stage, *_: stages.append(stage)
    )
    with pytest.raises(NotRunningError):
        sb.execute("true")
    with sb:
        assert sb.is_running
        assert sb.execute("cat; exit 3", stdin="in").stdout == "in"
        assert sb.execute("exit 3").exit_code == 3
        seen: list[str] = []
        sb.execute("echo x", on_stdout=seen.append)
        assert seen == ["x\n"]
        with pytest.raises(AlreadyRunningError):
            sb.start()
    assert not sb.is_running
    assert stages


def test_one_machine_in_many_threads(sb: Sandbox) -> None:
    """Each thread has an event loop of its own; all of them share the machine."""

    def one(i: int) -> str:
        return asyncio.run(sb.execute(f"echo {i}")).stdout

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(24))) == [f"{i}\n" for i in range(24)]


def test_a_thread_does_not_hold_others_up(sb: Sandbox) -> None:
    ticks = 0
    done = threading.Event()

    def wait() -> None:
        asyncio.run(sb.execute("sleep 1"))
        done.set()

    threading.Thread(target=wait).start()
    while not done.wait(0.01):
        ticks += 1
    assert ticks > 20


def test_a_loop_that_was_closed_is_no_trouble(sb: Sandbox) -> None:
    loop = asyncio.new_event_loop()
    task = loop.create_task(sb.execute("sleep 2; echo late", timeout=None))
    loop.run_until_complete(asyncio.sleep(0.5))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    assert asyncio.run(sb.execute("echo still")).stdout == "still\n"


def test_ctrl_c_interrupts_a_blocking_call() -> None:
    script = """
        from quicksand.sync import Sandbox
        with Sandbox(image="minimal", memory="256M") as sb:
            try:
                sb.execute("sleep 99", timeout=None, on_stdout=print)
            except KeyboardInterrupt:
                print("interrupted", sb.execute("echo alive").stdout.strip(), flush=True)
    """
    process = subprocess.Popen(
        [
            sys.executable,
            "-u",
            "-c",
            textwrap.dedent(script).replace("sleep 99", "echo up; sleep 99"),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=20)
    assert output.strip() == "interrupted alive"
    assert process.returncode == 0

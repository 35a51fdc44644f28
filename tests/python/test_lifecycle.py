"""Starts, stops and what is left of them."""

from __future__ import annotations

import asyncio
import glob
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import pytest
from quicksand import (
    Accelerator,
    AlreadyRunningError,
    BootTiming,
    ImageNotFoundError,
    NotRunningError,
    PortForward,
    Sandbox,
    StartError,
    sync,
)
from seeing import until


def small(**options) -> Sandbox:
    return Sandbox(image="minimal", memory="256M", **options)


def children() -> set[int]:
    """The QEMU processes that descend from this one."""
    listing = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,comm="], capture_output=True, text=True, check=True
    ).stdout
    rows = [line.split(None, 2) for line in listing.splitlines()]
    parents = {int(pid): int(parent) for pid, parent, _ in rows}

    def is_ours(pid: int) -> bool:
        while pid in parents:
            if pid == os.getpid():
                return True
            pid = parents[pid]
        return False

    return {
        int(pid) for pid, _, name in rows if name.startswith("qemu-system") and is_ours(int(pid))
    }


def test_the_quick_start() -> None:
    async def main() -> str:
        async with Sandbox(image="debian") as sb:
            result = await sb.execute("uname -a; . /etc/os-release; echo $ID")
            return result.stdout

    output = asyncio.run(main())
    assert output.startswith("Linux ")
    assert output.endswith("\ndebian\n")


def test_properties_tell_the_truth() -> None:
    progress: list[tuple[str, int, int]] = []

    async def main() -> None:
        sb = small(progress_callback=lambda *stage: progress.append(stage))
        assert not sb.is_running
        assert sb.accelerator is None
        assert sb.boot_timing is None
        before = children()
        await sb.start()
        assert sb.is_running
        assert len(children() - before) == 1
        assert isinstance(sb.accelerator, Accelerator)
        assert sb.qemu_command[0].endswith(("qemu-system-x86_64", "qemu-system-aarch64"))
        assert "-nodefaults" in sb.qemu_command
        assert sb.vnc_port is None
        assert sb.active_mounts == []
        assert isinstance(sb.boot_timing, BootTiming)
        assert "running" in repr(sb)
        await sb.stop()
        assert not sb.is_running
        assert children() == before
        await sb.stop()

    asyncio.run(main())
    assert progress
    stages = [stage for stage, _, _ in progress]
    assert all(isinstance(stage, str) and 0 <= now <= total for stage, now, total in progress)
    assert progress[-1][1] == progress[-1][2]
    assert len(stages) >= 2


def test_the_token_is_not_in_the_command(sb: Sandbox) -> None:
    assert "quicksand_token=" not in " ".join(sb.qemu_command).replace("quicksand_token=[", "")


def test_a_second_start_is_refused(sb: Sandbox) -> None:
    with pytest.raises(AlreadyRunningError, match="already running") as caught:
        asyncio.run(sb.start())
    assert isinstance(caught.value, RuntimeError)
    assert sb.is_running


def test_a_stopped_sandbox_says_so() -> None:
    sb = small()
    with pytest.raises(NotRunningError, match="non-running"):
        asyncio.run(sb.execute("true"))


def test_a_sandbox_starts_again_and_has_forgotten() -> None:
    async def main() -> str:
        sb = small()
        for _ in range(2):
            async with sb:
                result = await sb.execute(
                    "cat /root/mark 2>/dev/null || echo none; echo x > /root/mark"
                )
        return result.stdout

    assert asyncio.run(main()) == "none\n"


def test_stopping_ends_commands_that_run() -> None:
    async def main() -> None:
        sb = small()
        await sb.start()
        task = asyncio.create_task(sb.execute("sleep 99", timeout=None))
        await asyncio.sleep(1)
        await sb.stop()
        with pytest.raises(RuntimeError):
            await asyncio.wait_for(task, 10)

    asyncio.run(main())


def test_an_unknown_image_names_the_nearest() -> None:
    with pytest.raises(ImageNotFoundError, match="Image not found: 'minimall'") as caught:
        asyncio.run(Sandbox(image="minimall").start())
    assert caught.value.hint is not None and "minimal" in caught.value.hint
    assert isinstance(caught.value, RuntimeError)


def test_a_corrupt_disk_is_named(tmp_path: Path) -> None:
    copy = broken_image(tmp_path)
    before = children()
    with pytest.raises(StartError, match=r"\.qcow2"):
        asyncio.run(Sandbox(image=str(copy)).start())
    assert children() == before


def broken_image(folder: Path) -> Path:
    """The files of `minimal` with a disk that is none."""
    import quicksand_minimal

    source = Path(next(iter(quicksand_minimal.__path__))) / "images"
    for file in source.iterdir():
        target = folder / file.name
        if file.suffix == ".qcow2":
            target.write_bytes(b"this is no disk image" * 100)
        elif file.is_file():
            shutil.copyfile(file, target)
    return next(folder.glob("*.qcow2"))


def test_a_missing_qemu_is_named() -> None:
    """In an interpreter of its own: the search reads the environment and sys.path."""
    script = """
        import asyncio, sys
        import quicksand
        sys.path[:] = []
        print(quicksand.is_runtime_available())
        try:
            asyncio.run(quicksand.Sandbox(image="minimal").start())
        except quicksand.QemuNotFoundError as error:
            print(type(error).__name__, bool(error.hint))
        except quicksand.ImageNotFoundError as error:
            print("image")
    """
    env = {"PATH": "/nonexistent", "HOME": "/nonexistent"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        env=env,
        check=True,
    )
    first, second = done.stdout.splitlines()
    assert first == "False"
    assert second in ("QemuNotFoundError True", "image")


def test_a_port_in_use_is_named() -> None:
    import socket

    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        with pytest.raises(StartError, match=str(port)):
            asyncio.run(small(port_forwards=[PortForward(port, 80)]).start())


def test_qemus_own_words_arrive() -> None:
    with pytest.raises(StartError, match="no-such-device"):
        asyncio.run(small(extra_qemu_args=["-device", "no-such-device"]).start())


def test_a_boot_timeout_is_kept_and_leaves_nothing() -> None:
    before = children()
    start = time.monotonic()
    with pytest.raises(StartError, match="Failed to connect to guest agent"):
        asyncio.run(small(boot_timeout=0.05).start())
    assert time.monotonic() - start < 5
    assert children() == before


def test_a_cancelled_start_leaves_nothing() -> None:
    before = children()
    sb = small()

    async def main() -> None:
        task = asyncio.create_task(sb.start())
        await asyncio.sleep(0.4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert children() == before
        assert not sb.is_running

    asyncio.run(main())


def test_a_failing_progress_callback_ends_the_start() -> None:
    before = children()

    def fail(stage: str, current: int, total: int) -> None:
        raise ZeroDivisionError(stage)

    with pytest.raises(ZeroDivisionError):
        asyncio.run(small(progress_callback=fail).start())
    assert children() == before


def test_an_exception_in_the_block_stops_the_machine() -> None:
    before = children()

    async def main() -> None:
        async with small() as sb:
            await sb.execute("true")
            raise KeyError("mine")

    with pytest.raises(KeyError):
        asyncio.run(main())
    assert children() == before


def test_three_at_once() -> None:
    async def one(i: int) -> str:
        async with small() as sb:
            return (await sb.execute(f"echo {i}; sleep 0.5")).stdout

    async def main() -> list[str]:
        return await asyncio.gather(*(one(i) for i in range(3)))

    assert asyncio.run(main()) == ["0\n", "1\n", "2\n"]


def test_tcp_is_a_transport_too() -> None:
    async def main() -> str:
        async with small(transport="tcp") as sb:
            return (await sb.execute("printf '\\377'; cat", stdin=b"\xfe")).stdout_bytes.hex()

    assert asyncio.run(main()) == "fffe"


def test_a_forgotten_sandbox_is_ended_with_a_warning() -> None:
    before = children()
    sb = small()
    asyncio.run(sb.start())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del sb
    assert any(warning.category is ResourceWarning for warning in caught)
    deadline = time.monotonic() + 5
    while children() != before:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    "end", ["sys.exit(0)", "os.kill(os.getpid(), 9)", "os.kill(os.getpid(), 2)", "os.abort()"]
)
def test_nothing_outlives_the_process(end: str, is_gone, tmp_path: Path) -> None:
    script = f"""
        import asyncio, os, sys
        from quicksand import Sandbox
        sb = Sandbox(image="minimal", memory="256M")
        asyncio.run(sb.start())
        print("up", flush=True)
        sys.stdin.readline()
        {end}
    """
    before = children()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None and process.stdin is not None
    assert process.stdout.readline() == "up\n"
    machines = children() - before
    assert len(machines) == 1
    process.stdin.write("\n")
    process.stdin.close()
    process.wait(10)
    time.sleep(2)
    assert all(is_gone(pid) for pid in machines)
    assert glob.glob(f"{tmp_path}/*") == []


def test_ctrl_c_in_asyncio_run_leaves_nothing(is_gone, tmp_path: Path) -> None:
    script = """
        import asyncio
        from quicksand import Sandbox
        async def main():
            async with Sandbox(image="minimal", memory="256M") as sb:
                print("up", flush=True)
                await sb.execute("sleep 99", timeout=None)
        asyncio.run(main())
    """
    before = children()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    machines = children() - before
    assert len(machines) == 1
    process.send_signal(2)
    _, errors = process.communicate(timeout=15)
    assert "KeyboardInterrupt" in errors
    assert all(is_gone(pid) for pid in machines)
    assert glob.glob(f"{tmp_path}/*") == []


def test_a_process_that_becomes_another_program_leaves_no_machine(is_gone, tmp_path: Path) -> None:
    script = """
        import asyncio, os, sys
        from quicksand import Sandbox
        sb = Sandbox(image="minimal", memory="128M")
        asyncio.run(sb.start())
        print("up", flush=True)
        sys.stdin.readline()
        os.execv("/bin/sleep", ["sleep", "60"])
    """
    before = children()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    try:
        assert process.stdout is not None and process.stdin is not None
        assert process.stdout.readline() == "up\n"
        machines = children() - before
        assert len(machines) == 1
        process.stdin.write("\n")
        process.stdin.close()
        time.sleep(3)
        assert process.poll() is None
        # The other program collects no children, so that what has ended stays as a zombie.
        ended = [
            is_gone(pid) or ") Z " in Path(f"/proc/{pid}/stat").read_text() for pid in machines
        ]
        assert all(ended)
        assert glob.glob(f"{tmp_path}/*") == []
    finally:
        process.kill()
        process.wait()


def can_listen(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def test_a_forked_child_does_not_hold_a_forwarded_port() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with sync.Sandbox(
        image="minimal", memory="128M", network_mode="full", port_forwards=[PortForward(port, 80)]
    ):
        pid = os.fork()
        if pid == 0:
            time.sleep(30)
            os._exit(0)
    try:
        # The child lets go when it first runs, which takes a moment on a busy host.
        until(lambda: can_listen(port), 10, f"port {port} is free")
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)


def test_a_start_without_descriptors_says_so() -> None:
    script = """
        import asyncio, os, resource
        from quicksand import Sandbox, SandboxError
        sb = Sandbox(image="minimal", memory="128M")
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        async def main():
            held = []
            try:
                while True:
                    held.append(os.dup(0))
            except OSError:
                pass
            for free in (0, 1, 2, 4, 8):
                while free > 0 and held:
                    os.close(held.pop())
                    free -= 1
                try:
                    await sb.start()
                except Exception as error:
                    print(repr(error))
                    assert "Too many open files" in str(error), error
                else:
                    await sb.stop()
                    break
        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done
    assert "Image not found" not in done.stdout


def test_a_forked_child_can_neither_use_nor_end_its_parents_machine(sb: Sandbox) -> None:
    pid = os.fork()
    if pid == 0:
        signal.alarm(90)  # a child that hangs is a failure, and not the end of all tests
        code = 1
        try:
            asyncio.run(sb.execute("true"))
        except NotRunningError:
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert asyncio.run(sb.execute("echo alive")).stdout == "alive\n"


def test_a_forked_child_can_have_a_machine_of_its_own(sb: Sandbox) -> None:
    pid = os.fork()
    if pid == 0:
        signal.alarm(90)  # a child that hangs is a failure, and not the end of all tests
        code = 1
        try:
            with sync.Sandbox(image="minimal", memory="256M") as mine:
                code = 0 if mine.execute("echo mine").stdout == "mine\n" else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert sb.is_running

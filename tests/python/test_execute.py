"""Commands: options, output, limits and ends, in one machine that all tests share."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import subprocess
import sys
import textwrap
import time

import pytest
from quicksand import ConfigError, ExecuteResult, Sandbox, SandboxError


def execute(sb: Sandbox, command: str, **options) -> ExecuteResult:
    return asyncio.run(sb.execute(command, **options))


def test_output_and_exit_code(sb: Sandbox) -> None:
    result = execute(sb, "echo out; echo err >&2; exit 7")
    assert (result.stdout, result.stderr, result.exit_code) == ("out\n", "err\n", 7)
    assert (result.stdout_bytes, result.stderr_bytes) == (b"out\n", b"err\n")


def test_a_kernel_of_its_own(sb: Sandbox) -> None:
    guest = execute(sb, "cat /proc/sys/kernel/random/boot_id").stdout
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        assert guest and guest != file.read()


def test_signals_are_the_shells_exit_codes(sb: Sandbox) -> None:
    assert execute(sb, "kill -9 $$").exit_code == 137
    assert execute(sb, "kill -15 $$").exit_code == 143


def test_cwd_user_env_and_shell(sb: Sandbox) -> None:
    assert execute(sb, "pwd", cwd="/tmp").stdout == "/tmp\n"
    assert execute(sb, "id -un").stdout == "root\n"
    assert execute(sb, 'echo "$A|$B"', env={"A": "x y", "B": "$A"}).stdout == "x y|$A\n"
    assert execute(sb, "echo $0", shell="/bin/ash").stdout.strip() == "/bin/ash"


def test_a_folder_that_is_not_there(sb: Sandbox) -> None:
    with pytest.raises(SandboxError, match="/no/such/folder"):
        execute(sb, "pwd", cwd="/no/such/folder")


@pytest.mark.parametrize("stdin", [b"a\nb\n", "a\nb\n", bytes(range(256)) * 4096])
def test_stdin(sb: Sandbox, stdin: bytes | str) -> None:
    expect = stdin.encode() if isinstance(stdin, str) else stdin
    result = execute(sb, "cat", stdin=stdin)
    assert result.stdout_bytes == expect


def test_stdin_is_empty_without_one(sb: Sandbox) -> None:
    assert execute(sb, "cat; echo end", timeout=10).stdout == "end\n"


def test_bytes_that_are_not_utf8_survive(sb: Sandbox) -> None:
    result = execute(sb, r"printf 'caf\303\251 \377\376\200 \303'")
    assert result.stdout_bytes == b"caf\xc3\xa9 \xff\xfe\x80 \xc3"
    assert result.stdout == "café \udcff\udcfe\udc80 \udcc3"
    assert result.stdout.encode("utf-8", "surrogateescape") == result.stdout_bytes


def test_the_products_own_output_is_taken_as_its_input(sb: Sandbox) -> None:
    """PEP 383: what a listing showed goes back as the bytes that it stands for."""
    execute(sb, r"mkdir -p $(printf '/tmp/d\376'); echo hi > $(printf '/tmp/d\376/a\377')")
    folder = "/tmp/" + execute(sb, "cd /tmp; echo d*").stdout.rstrip("\n")
    name = execute(sb, "echo *", cwd=folder).stdout.rstrip("\n")
    assert (folder, name) == ("/tmp/d\udcfe", "a\udcff")
    assert execute(sb, shlex.join(["cat", f"{folder}/{name}"])).stdout == "hi\n"
    result = execute(sb, 'printf %s "$A"', env={"A": name})
    assert result.stdout_bytes == b"a\xff" and result.stdout == name
    assert execute(sb, "cat", stdin=name).stdout == name
    execute(sb, f"cp /bin/sh {shlex.quote(folder)}/sh")
    assert execute(sb, "echo shell", shell=f"{folder}/sh").stdout == "shell\n"

    async def talk() -> str:
        async with await sb.shell(f"echo {name}", cwd=folder, env={"A": name}) as shell:
            return await shell.read_until("\n")

    assert asyncio.run(talk()) == f"{name}\r\n"


@pytest.mark.parametrize(
    "call",
    [
        lambda sb: execute(sb, "echo \ud800"),
        lambda sb: execute(sb, "true", cwd="/\ud800"),
        lambda sb: execute(sb, "true", env={"A": "\udfff"}),
        lambda sb: execute(sb, "true", env={"A\udcff": "a"}),
        lambda sb: execute(sb, "true", user="u\udcff"),
        lambda sb: asyncio.run(sb.create_user("u\udcff")),
        lambda sb: asyncio.run(sb.checkpoint("t\udcff")),
    ],
)
def test_text_that_stands_for_no_bytes_is_a_config_error(sb: Sandbox, call) -> None:
    with pytest.raises(ConfigError, match=r"\\ud[8cf][0f][0f]"):
        call(sb)


def test_messages_cannot_steer_a_terminal(sb: Sandbox) -> None:
    with pytest.raises(SandboxError) as caught:
        execute(sb, "true", cwd="/no\x1b[2J\u202esuch")
    assert "\x1b" not in str(caught.value) and "\u202e" not in str(caught.value)


def test_streams_arrive_in_order_and_as_they_are_made(sb: Sandbox) -> None:
    seen: list[tuple[float, str]] = []
    start = time.monotonic()
    result = execute(
        sb,
        "for i in 1 2 3; do printf $i; sleep 0.5; done",
        on_stdout=lambda text: seen.append((time.monotonic() - start, text)),
    )
    assert "".join(text for _, text in seen) == "123" == result.stdout
    assert len(seen) == 3
    assert seen[-1][0] - seen[0][0] > 0.6


def test_both_streams_have_their_callback(sb: Sandbox) -> None:
    out: list[str] = []
    err: list[str] = []
    execute(sb, "echo one; echo two >&2", on_stdout=out.append, on_stderr=err.append)
    assert ("".join(out), "".join(err)) == ("one\n", "two\n")


def test_characters_are_not_cut_in_callbacks(sb: Sandbox) -> None:
    seen: list[str] = []
    command = r"printf '\303'; sleep 0.4; printf '\251|\303'"
    result = execute(sb, command, on_stdout=seen.append)
    assert "".join(seen) == result.stdout == "é|\udcc3"
    assert all(text for text in seen)


def test_ten_megabytes_to_the_byte(sb: Sandbox) -> None:
    digest = hashlib.sha256()
    total = 0

    def take(text: str) -> None:
        nonlocal total
        data = text.encode("utf-8", "surrogateescape")
        digest.update(data)
        total += len(data)

    command = "dd if=/dev/urandom of=/tmp/ten bs=1M count=10 2>/dev/null; sha256sum </tmp/ten >&2; cat /tmp/ten; rm /tmp/ten"
    result = execute(sb, command, timeout=120, on_stdout=take)
    assert total == 10 << 20 == len(result.stdout_bytes)
    assert result.stderr.split()[0] == digest.hexdigest()


def test_a_result_is_bounded_and_says_so(sb: Sandbox) -> None:
    total = 0

    def count(text: str) -> None:
        nonlocal total
        total += len(text)

    command = "dd if=/dev/zero bs=1M count=70 2>/dev/null"
    result = execute(sb, command, timeout=240, on_stdout=count)
    assert total == 70 << 20
    assert len(result.stdout_bytes) == 64 << 20
    assert result.stdout_dropped == 6 << 20
    assert result.stderr_dropped == 0


def test_callbacks_run_in_the_loops_own_thread(sb: Sandbox) -> None:
    import threading

    threads: set[int] = set()
    execute(sb, "echo a", on_stdout=lambda _: threads.add(threading.get_ident()))
    assert threads == {threading.get_ident()}


def test_a_failing_callback_ends_the_command(sb: Sandbox) -> None:
    class Enough(Exception):
        pass

    def fail(text: str) -> None:
        raise Enough(text)

    with pytest.raises(Enough, match="go"):
        execute(sb, "echo go; sleep 77.1", on_stdout=fail, timeout=None)
    assert_not_running(sb, "sleep 77.1")


def test_a_timeout_kills_the_command_and_its_children(sb: Sandbox) -> None:
    start = time.monotonic()
    result = execute(sb, "echo begun; sleep 77.2 & (sleep 77.2); wait", timeout=1.0)
    assert time.monotonic() - start < 6
    assert result.exit_code == -1
    assert "timed out" in result.stderr
    assert result.stdout == "begun\n"
    assert_not_running(sb, "sleep 77.2")


def test_cancelling_kills_the_command(sb: Sandbox) -> None:
    async def main() -> None:
        began = asyncio.Event()
        task = asyncio.create_task(
            sb.execute("echo go; sleep 77.3", timeout=None, on_stdout=lambda _: began.set())
        )
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert_not_running(sb, "sleep 77.3")


def test_wait_for_gives_up_and_cleans_up(sb: Sandbox) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(sb.execute("sleep 77.4", timeout=None), 1)

    asyncio.run(main())
    assert_not_running(sb, "sleep 77.4")


def test_commands_run_side_by_side(sb: Sandbox) -> None:
    async def main() -> list[ExecuteResult]:
        commands = (sb.execute(f"sleep 1; echo {i}", timeout=60) for i in range(20))
        return await asyncio.gather(*commands)

    start = time.monotonic()
    results = asyncio.run(main())
    assert [result.stdout for result in results] == [f"{i}\n" for i in range(20)]
    assert time.monotonic() - start < 15


def test_an_exclusive_command_runs_alone(sb: Sandbox) -> None:
    alone = "echo begin >> /tmp/order; sleep 0.6; echo end >> /tmp/order"
    other = "echo other >> /tmp/order; sleep 0.3; echo other >> /tmp/order"

    async def main() -> None:
        await asyncio.gather(
            sb.execute(other),
            sb.execute(alone, exclusive=True),
            sb.execute(other),
            sb.execute(alone, exclusive=True),
            sb.execute(other),
        )

    asyncio.run(main())
    order = execute(sb, "cat /tmp/order; rm /tmp/order").stdout.split()
    assert sorted(order) == ["begin"] * 2 + ["end"] * 2 + ["other"] * 6
    for at in (index for index, word in enumerate(order) if word == "begin"):
        assert order[at + 1] == "end", order
        # Whatever began before has ended.
        assert order[:at].count("other") % 2 == 0, order


def test_a_background_child_does_not_keep_the_result(sb: Sandbox) -> None:
    start = time.monotonic()
    result = execute(sb, "sleep 20 & echo done", timeout=None)
    assert result.stdout == "done\n"
    assert time.monotonic() - start < 10
    execute(sb, "pkill -f 'sleep 20' || killall sleep || true")


def test_a_server_in_the_background_goes_on_writing(sb: Sandbox) -> None:
    server = "(while :; do echo out; echo err >&2; date +%s%N > /tmp/beat; sleep 0.1; done) & echo $! > /tmp/server"
    execute(sb, server)
    time.sleep(2)
    beat = "cat /tmp/beat"
    before = execute(sb, beat).stdout
    time.sleep(1)
    assert execute(sb, beat).stdout != before
    assert execute(sb, "kill $(cat /tmp/server)").exit_code == 0


@pytest.mark.parametrize(
    "call",
    [
        'await sb.execute("true", stdin=pipe())',
        'await sb.execute("cat", stdin=pipe(), timeout=1)',
        'await sb.execute("true", stdin=slow())',
        'await cancelled(sb.execute("cat", stdin=pipe()))',
        'await sb.execute("true", stdin=sys.stdin.buffer)',
        'await sb.execute("true", stdin=sys.stdin)',
        # The loop's own threads are still there for others after many of them.
        '[await sb.execute("true", stdin=pipe()) for _ in range(40)]; await asyncio.to_thread(int)',
    ],
)
def test_an_input_that_blocks_keeps_no_program_from_ending(call: str) -> None:
    script = f"""
        import asyncio, os, sys, time
        from quicksand import Sandbox

        held = []
        def pipe():
            reader, writer = os.pipe()
            held.append(writer)
            return os.fdopen(reader, "rb")
        def slow():
            time.sleep(1000)
            yield b""
        async def cancelled(call):
            task = asyncio.ensure_future(call)
            await asyncio.sleep(0.5)
            task.cancel()
            await asyncio.wait([task])
        async def main():
            async with Sandbox(image="minimal", memory="128M") as sb:
                {call}
                print((await sb.execute("echo alive")).stdout, end="")
        asyncio.run(main())
        print("out", flush=True)
    """
    reader, writer = os.pipe()
    with os.fdopen(reader), os.fdopen(writer, "w"):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            check=False,
            stdin=reader,
            capture_output=True,
            text=True,
            timeout=90,
        )
    assert (done.returncode, done.stdout) == (0, "alive\nout\n"), done


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), "soon", True])
def test_bad_timeouts(sb: Sandbox, timeout: object) -> None:
    with pytest.raises(ConfigError, match="timeout"):
        execute(sb, "true", timeout=timeout)


def test_a_list_is_not_a_command(sb: Sandbox) -> None:
    with pytest.raises(TypeError, match="shlex.join"):
        execute(sb, ["ls", "-l"])  # type: ignore[arg-type]


def test_a_coroutine_is_not_a_callback(sb: Sandbox) -> None:
    async def take(text: str) -> None:
        pass

    with pytest.raises(TypeError, match="on_stdout"):
        execute(sb, "true", on_stdout=take)


def test_a_shell_that_is_not_there(sb: Sandbox) -> None:
    try:
        result = execute(sb, "true", shell="/bin/no-such-shell")
    except SandboxError as error:
        assert "/bin/no-such-shell" in str(error)
    else:
        assert result.exit_code in (126, 127)


def test_the_guest_forgets_nothing_between_commands(sb: Sandbox) -> None:
    execute(sb, "echo kept > /tmp/kept")
    assert execute(sb, "cat /tmp/kept; rm /tmp/kept").stdout == "kept\n"


def assert_not_running(sb: Sandbox, command: str) -> None:
    """The guest has a moment: the host has only asked for the kill when it goes on."""
    deadline = time.monotonic() + 5
    while True:
        listing = execute(sb, "cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '").stdout
        if command not in listing:
            return
        assert time.monotonic() < deadline, listing
        time.sleep(0.2)

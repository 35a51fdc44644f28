"""Users of the guest, shells in a terminal, and input that arrives while a command runs."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator, Iterator

import pytest
from quicksand import ConfigError, NotRunningError, Sandbox, SandboxError, sync
from quicksand._logging import emit


def execute(sandbox: Sandbox, command: str, **options: object):  # type: ignore[no-untyped-def]
    return asyncio.run(sandbox.execute(command, **options))  # type: ignore[arg-type]


def test_a_user_from_its_making_to_its_end(sb: Sandbox) -> None:
    async def main() -> None:
        alice = await sb.create_user("alice")
        assert (alice.name, alice.home) == ("alice", "/home/alice")
        result = await alice.execute("id -un; id -u; id -g; pwd", timeout=20.0, cwd=None)
        assert result.stdout.split() == ["alice", str(alice.uid), str(alice.gid), "/home/alice"]
        assert (await alice.execute("cat /etc/shadow")).exit_code != 0
        with pytest.raises(SandboxError, match="`alice` exists"):
            await sb.create_user("alice")
        await sb.delete_user("alice", remove_home=False)
        assert (await sb.execute("test -d /home/alice")).exit_code == 0
        with pytest.raises(SandboxError, match="alice"):
            await sb.delete_user("alice")
        await sb.execute("rm -r /home/alice")

    asyncio.run(main())


@pytest.mark.parametrize("name", ["", "Alice", "0a", "a b", "-a", "a" * 33, "root:0"])
def test_bad_names_of_users(name: str) -> None:
    with pytest.raises(ConfigError, match="`name`"):
        asyncio.run(Sandbox(image="minimal").create_user(name))


def test_the_systems_users_stay(sb: Sandbox) -> None:
    with pytest.raises((SandboxError, ConfigError), match="root"):
        asyncio.run(sb.delete_user("root"))
    assert execute(sb, "id -un").stdout == "root\n"


def test_a_user_needs_a_machine() -> None:
    with pytest.raises(NotRunningError, match="non-running"):
        asyncio.run(Sandbox(image="minimal").create_user("alice"))


def test_a_shell_has_a_size_keys_and_an_end(sb: Sandbox) -> None:
    async def main() -> None:
        async with await sb.shell(rows=33, cols=77) as shell:
            await shell.write("stty size\n")
            await shell.read_until("33 77")
            await shell.resize(20, 50)
            await shell.write("stty size\n")
            await shell.read_until("20 50")
            # The terminal is asleep in a command that only Ctrl-C ends.
            await shell.write("echo begin; sleep 1000\n")
            await shell.read_until("begin\r\n")
            await asyncio.sleep(0.3)
            await shell.write("\x03")
            await shell.write("exit 9\n")
            assert await asyncio.wait_for(shell.wait(), 20) == 9 == shell.exit_code
            assert await shell.read() == ""

    asyncio.run(main())


def test_leaving_a_shell_kills_what_runs_in_it(sb: Sandbox) -> None:
    async def main() -> None:
        async with await sb.shell("echo up; exec sleep 4321") as shell:
            await shell.read_until("up")
        for _ in range(100):
            if not (await sb.execute("pgrep -f '[s]leep 4321'")).stdout:
                return
            await asyncio.sleep(0.05)
        raise AssertionError("it still runs")

    asyncio.run(main())


@pytest.mark.parametrize("size", [(0, 80), (24, 70000), ("24", 80)])
def test_a_terminal_of_no_size(sb: Sandbox, size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match="rows|cols"):
        asyncio.run(sb.shell(rows=size[0], cols=size[1]))


def test_input_of_every_kind(sb: Sandbox) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for number in range(3):
            await asyncio.sleep(0.01)
            yield b"%d" % number

    for source in (pieces(), [b"0", "1", b"2"], (c for c in "012"), io.BytesIO(b"012"), "012"):
        assert execute(sb, "cat", stdin=source).stdout == "012"
    with pytest.raises(TypeError, match="stdin"):
        execute(sb, "cat", stdin=12)


def test_input_is_sent_while_the_command_runs(sb: Sandbox) -> None:
    async def main() -> None:
        answered = asyncio.Event()

        async def dialogue() -> AsyncIterator[str]:
            yield "first\n"
            # Without the answer there is no second line, and the command never ends.
            await asyncio.wait_for(answered.wait(), 20)
            yield "second\n"

        command = "read a; echo got $a; read b; echo got $b"
        result = await sb.execute(command, stdin=dialogue(), on_stdout=lambda _: answered.set())
        assert result.stdout == "got first\ngot second\n"

    asyncio.run(main())


def test_a_command_need_not_read_its_input(sb: Sandbox) -> None:
    endless: Iterator[bytes] = iter(lambda: b"x" * 65536, None)
    assert execute(sb, "head -c 1", stdin=endless, timeout=20).stdout == "x"


def test_input_that_fails_ends_the_command(sb: Sandbox) -> None:
    def broken() -> Iterator[str]:
        yield "1"
        raise KeyError("lost")

    with pytest.raises(KeyError, match="lost"):
        execute(sb, "cat; sleep 100", stdin=broken())


def test_the_limit_of_a_result_can_be_set(sb: Sandbox) -> None:
    seen: list[str] = []
    result = execute(sb, "printf 0123456789", max_output=4, on_stdout=seen.append)
    assert result.stdout_bytes == b"0123"
    assert result.stdout == "0123\n[quicksand: 6 bytes cut, beyond max_output]\n"
    assert result.truncated and result.stdout_dropped == 6
    assert "".join(seen) == "0123456789"
    whole = execute(sb, "printf 0123456789", max_output=10)
    assert whole.stdout == "0123456789" and not whole.truncated
    for wrong in (-1, 1.5, True, "1K"):
        with pytest.raises(ConfigError, match="max_output"):
            execute(sb, "true", max_output=wrong)


def test_the_log_reaches_logging(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.INFO, logger="quicksand"),
        sync.Sandbox(image="minimal", memory="256M") as sandbox,
    ):
        # The same calls without async, on a machine that is there anyway.
        assert sandbox.execute("cat", stdin=iter(["a", b"b"])).stdout == "ab"
        with sandbox.shell() as shell:
            shell.write("exit 3\n")
            assert shell.wait() == 3
        assert sandbox.create_user("bob").execute("id -un").stdout == "bob\n"
        sandbox.delete_user("bob")
        accelerator = sandbox.accelerator
    records = [record for record in caplog.records if record.name == "quicksand.sandbox.boot"]
    assert records and records[0].levelno == logging.INFO
    assert str(accelerator) in records[0].getMessage()


def test_the_log_is_silent_unless_it_is_asked_for(capfd: pytest.CaptureFixture[str]) -> None:
    emit(logging.WARNING, "test", "nobody listens")
    assert capfd.readouterr().err == ""

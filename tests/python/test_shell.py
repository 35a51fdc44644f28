"""The interactive shell, driven through a terminal of our own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator

import pytest


class Terminal:
    """A command in a pseudo terminal."""

    def __init__(self, arguments: list[str]) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(30, 100)
        self.before = termios.tcgetattr(self.slave)
        self.process = subprocess.Popen(
            arguments,
            stdin=self.slave,
            stdout=self.slave,
            stderr=self.slave,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm-256color"},
        )
        self.seen = b""

    def resize(self, rows: int, columns: int) -> None:
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, size)

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def expect(self, text: str, timeout: float = 60) -> str:
        """Reads until the text comes; gives everything up to its end."""
        deadline = time.monotonic() + timeout
        while text.encode() not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} in {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                self.seen += os.read(self.master, 65536)
        head, _, self.seen = self.seen.partition(text.encode())
        return (head + text.encode()).decode(errors="replace")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture
def terminal(command: str) -> Iterator[Terminal]:
    terminal = Terminal([command, "run", "minimal", "--memory", "256M"])
    yield terminal
    terminal.close()


def ask(terminal: Terminal, command: str) -> str:
    """Types a command; its answer stands between two marks that the echo does not contain."""
    terminal.type(f"echo '<''<'; {command}; echo '>''>'\r")
    terminal.expect("<<")
    return terminal.expect(">>")[:-2].strip()


def test_a_shell_with_a_terminal(terminal: Terminal) -> None:
    assert ask(terminal, "test -t 0 && test -t 1 && echo yes") == "yes"
    assert ask(terminal, "stty size") == "30 100"
    assert ask(terminal, "echo $TERM") == "xterm-256color"
    terminal.resize(40, 120)
    deadline = time.monotonic() + 10
    while ask(terminal, "stty size") != "40 120":
        assert time.monotonic() < deadline
    terminal.type("exit 6\r")
    assert terminal.process.wait(20) == 6
    assert termios.tcgetattr(terminal.slave) == terminal.before


def test_ctrl_c_goes_to_the_guest(terminal: Terminal) -> None:
    assert ask(terminal, "echo ready") == "ready"
    terminal.type("sleep 99\r")
    time.sleep(1)
    terminal.type("\x03")
    # The echo of what is typed has no 130 in it.
    terminal.type("echo code $?\r")
    terminal.expect("code 130")
    # BusyBox's shell asks for the cursor's place when it is ready for the next line. A Ctrl-D that comes
    # earlier becomes a character of that line.
    terminal.expect("\x1b[6n")
    terminal.type("\x04")
    terminal.process.wait(20)
    assert termios.tcgetattr(terminal.slave) == terminal.before


@pytest.mark.parametrize("number", [15, 1])
def test_a_signal_restores_the_terminal(terminal: Terminal, number: int) -> None:
    assert ask(terminal, "echo ready") == "ready"
    assert termios.tcgetattr(terminal.slave) != terminal.before
    terminal.process.send_signal(number)
    assert terminal.process.wait(20) == 128 + number
    assert termios.tcgetattr(terminal.slave) == terminal.before


INTERACT = """
import asyncio, sys
from quicksand import Sandbox, sync

async def main():
    async with Sandbox(image="minimal", memory="256M") as sb:
        async with await sb.shell("echo before; exec sh -l") as shell:
            assert "before" in await shell.read_until("before")
            return await shell.interact()

def main_sync():
    with sync.Sandbox(image="minimal", memory="256M") as sb, sb.shell() as shell:
        return shell.interact()

print("code", asyncio.run(main()) if sys.argv[1] == "async" else main_sync())
"""


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_interact_lends_the_callers_terminal(kind: str) -> None:
    terminal = Terminal([sys.executable, "-c", INTERACT, kind])
    try:
        assert ask(terminal, "stty size") == "30 100"
        terminal.resize(40, 120)
        deadline = time.monotonic() + 10
        while ask(terminal, "stty size") != "40 120":
            assert time.monotonic() < deadline
        terminal.type("sleep 99\r")
        time.sleep(1)
        terminal.type("\x03")
        terminal.type("echo code $?\r")
        terminal.expect("code 130")
        terminal.type("printf '\\303\\251|\\377|\\n'; exit 6\r")
        terminal.expect("code 6")
        assert terminal.process.wait(20) == 0
        assert termios.tcgetattr(terminal.slave) == terminal.before
    finally:
        terminal.close()


def test_interact_needs_a_terminal() -> None:
    script = INTERACT.replace("asyncio.run(main())", "None")
    done = subprocess.run(
        [sys.executable, "-c", script, "sync"],
        input="",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "interact() needs a terminal" in done.stderr and "hint: " in done.stderr

"""A shell in the guest with a terminal, for programs that talk to it."""

from __future__ import annotations

import codecs
import dataclasses
import shlex
from types import TracebackType
from typing import TYPE_CHECKING

from . import _native
from ._bridge import Begin, run
from ._errors import ConfigError
from ._interact import OwnTerminal

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BaseShell", "Shell", "Terminal", "command_line"]

_BEST = 'for s in /bin/bash /bin/sh; do [ -x "$s" ] && exec "$s" -l; done'
"""A login shell reads the profile, which whoever opens a terminal expects."""


@dataclasses.dataclass(frozen=True)
class Terminal:
    """A terminal's size in characters, and its kind (the variable ``TERM``)."""

    rows: int = 24
    cols: int = 80
    term: str = "xterm-256color"

    def __post_init__(self) -> None:
        for name, value in (("rows", self.rows), ("cols", self.cols)):
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 65535:
                raise ConfigError(f"Invalid value for `{name}`: {value!r}", "allowed: 1 to 65535")


def command_line(command: str | None, shell: str | None) -> str:
    """What the guest's shell is to run."""
    if command is not None:
        return command if shell is None else f"exec {shlex.join([shell, '-c', command])}"
    return _BEST if shell is None else f"exec {shlex.quote(shell)}"


class BaseShell:
    """What both kinds of shells share: everything but the waiting."""

    def __init__(self, session: _native.Session) -> None:
        self._session = session
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._exit_code: int | None = None
        self._unread = ""

    @property
    def exit_code(self) -> int | None:
        """The exit code; ``None`` while it runs. 128 + N when signal N ended it."""
        return self._exit_code

    def _take(self, event: bytes | int | None) -> str | None:
        """An event as text; ``None`` when there is no more."""
        if isinstance(event, bytes):
            return self._decoder.decode(event)
        if event is not None:
            self._exit_code = event
        return self._decoder.decode(b"", final=True) or None

    def _taken(self) -> str:
        text, self._unread = self._unread, ""
        return text

    def _next(self) -> Begin:
        return lambda wake: self._session.next(wake)

    def _write(self, data: bytes | str) -> Begin:
        data = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else bytes(data)
        return lambda wake: self._session.write(wake, data)

    def _resize(self, rows: int, cols: int) -> Begin:
        size = Terminal(rows, cols)
        return lambda wake: self._session.resize(wake, size.rows, size.cols)

    def _own_terminal(self) -> OwnTerminal:
        terminal = OwnTerminal(self._write, self._resize)
        terminal.show(self._taken().encode("utf-8", "surrogateescape"))
        return terminal

    def _shown(self, event: bytes | int | None, terminal: OwnTerminal) -> bool:
        """Shows an event; tells whether there may be more."""
        if isinstance(event, bytes):
            terminal.show(event)
        elif event is not None:
            self._exit_code = event
        return isinstance(event, bytes)

    def _signal(self, signal: int) -> Begin:
        if not 1 <= int(signal) <= 64:
            raise ConfigError(f"Invalid value for `signal`: {signal!r}", "allowed: 1 to 64")
        return lambda wake: self._session.signal(wake, int(signal))


class Shell(BaseShell):
    """A shell, or another program, in a terminal of the guest.

    Made by ``Sandbox.shell``. Input and output pass while it runs; the output of a terminal is one
    stream, with line ends ``\\r\\n``. Leaving the ``async with`` block kills what still runs.

    Example:
        >>> async def count_files(sb):
        ...     async with await sb.shell(rows=40, cols=120) as shell:
        ...         await shell.write("ls | wc -l; exit\\n")
        ...         async for text in shell:
        ...             print(text, end="")
        ...     return shell.exit_code
    """

    async def write(self, data: bytes | str) -> None:
        """Types into the terminal. ``"\\x03"`` is Ctrl-C, ``"\\x04"`` is Ctrl-D."""
        await run(self._write(data))

    async def read(self) -> str:
        """Waits for output and gives it; ``""`` after the end.

        Raises:
            AgentConnectionError: the machine ended meanwhile.
        """
        while not self._unread and self._exit_code is None:
            text = self._take(await run(self._next()))
            if text is None:
                break
            self._unread = text
        return self._taken()

    async def read_until(self, text: str) -> str:
        """Output up to and including ``text``, or all of it when the end comes before."""
        seen = ""
        while text not in seen:
            more = await self.read()
            if not more:
                return seen
            seen += more
        end = seen.index(text) + len(text)
        self._unread = seen[end:]
        return seen[:end]

    async def resize(self, rows: int, cols: int) -> None:
        """Changes the terminal's size, in characters."""
        await run(self._resize(rows, cols))

    async def send_signal(self, signal: int) -> None:
        """Sends a signal, by its Linux number, to the shell's process group."""
        await run(self._signal(signal))

    async def wait(self) -> int:
        """Waits for the end and gives the exit code; output that nobody read is dropped."""
        while await self.read():
            pass
        return -1 if self._exit_code is None else self._exit_code

    async def interact(self) -> int:
        """Lends this process's terminal to the shell until it ends; gives its exit code.

        Every key goes to the guest, Ctrl-C too, and the shell has the terminal's size, also when
        it changes. The terminal is as before afterwards.

        Raises:
            ConfigError: standard input or output is no terminal.
            NotAvailableError: on Windows.

        Example:
            >>> async def look_around(sb):
            ...     async with await sb.shell() as shell:
            ...         return await shell.interact()
        """
        with self._own_terminal() as terminal:
            while self._exit_code is None and self._shown(await run(self._next()), terminal):
                pass
        return -1 if self._exit_code is None else self._exit_code

    async def close(self) -> None:
        """Kills what still runs."""
        self._session.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        text = await self.read()
        if not text:
            raise StopAsyncIteration
        return text

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

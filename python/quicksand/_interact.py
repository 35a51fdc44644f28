"""The terminal of this process, lent to a shell of the guest.

Owns the terminal's mode and the way from its keys to the guest; what comes back is written by the
shell, which knows how to wait for it. No signal handler is touched: they belong to the program.
"""

from __future__ import annotations

import os
import select
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ._bridge import Begin, run_sync
from ._errors import ConfigError, NotAvailableError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["OwnTerminal"]

_LOOK_AT_SIZE = 0.25
"""Seconds between looks at the terminal's size; its signal can be had in the main thread alone."""


class OwnTerminal:
    """Standard input and output in raw mode, for the length of a ``with`` block.

    Keys go to the guest from a thread of their own, Ctrl-C and Ctrl-D among them.

    Args:
        write: makes the operation that types into the guest's terminal.
        resize: makes the one that gives it a size, in rows and columns.

    Raises:
        ConfigError: standard input or output is no terminal.
        NotAvailableError: this system has terminals of another kind.
    """

    def __init__(
        self, write: Callable[[bytes], Begin], resize: Callable[[int, int], Begin]
    ) -> None:
        try:
            import termios
            import tty
        except ImportError:
            raise NotAvailableError(
                "interact() needs a terminal of Unix", "`quicksand run IMAGE` works on Windows too"
            ) from None
        self._write, self._resize = write, resize
        self._keys, self._screen = _descriptor(sys.stdin), _descriptor(sys.stdout)
        self._termios, self._tty = termios, tty
        self._before: list[Any] = []
        self._size: tuple[int, int] | None = None
        # What is written here ends the thread's wait.
        self._end, self._ended = -1, -1
        self._thread = threading.Thread(target=self._type, name="quicksand-keys", daemon=True)

    def show(self, data: bytes) -> None:
        """Writes output to the screen as it is."""
        view = memoryview(data)
        while view:
            try:
                view = view[os.write(self._screen, view) :]
            except BlockingIOError:
                # Whoever shares the terminal may have made it so.
                select.select([], [self._screen], [])

    def __enter__(self) -> Self:
        sys.stdout.flush()
        self._before = self._termios.tcgetattr(self._keys)
        self._ended, self._end = os.pipe()
        # What was typed already is for the guest, and must not be flushed.
        self._tty.setraw(self._keys, self._termios.TCSADRAIN)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._end)
        # It may wait for a guest that reads nothing; then its next look ends it.
        self._thread.join(1)
        self._termios.tcsetattr(self._keys, self._termios.TCSADRAIN, self._before)

    def _type(self) -> None:
        try:
            while True:
                self._tell_size()
                ready, _, _ = select.select([self._keys, self._ended], [], [], _LOOK_AT_SIZE)
                if self._ended in ready:
                    return
                if self._keys in ready:
                    data = os.read(self._keys, 4096)
                    # A terminal that was hung up reads as an end.
                    if not data or not run_sync(self._write(data)):
                        return
        except OSError:
            # The terminal is gone, and with it whoever typed.
            return
        finally:
            os.close(self._ended)

    def _tell_size(self) -> None:
        size = os.get_terminal_size(self._screen)
        if (size.lines, size.columns) != self._size and size.lines and size.columns:
            self._size = (size.lines, size.columns)
            run_sync(self._resize(*self._size))


def _descriptor(stream: Any) -> int:
    try:
        number = int(stream.fileno())
    except (AttributeError, OSError, ValueError):
        number = -1
    if number < 0 or not os.isatty(number):
        raise ConfigError(
            "interact() needs a terminal at standard input and output",
            "Use `write` and `read` where a program talks to the shell",
        )
    return number

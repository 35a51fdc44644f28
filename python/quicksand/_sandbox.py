"""The asynchronous sandbox, for any event loop with asyncio's interface."""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING

from ._bridge import run
from ._machine import BaseSandbox, ExecuteResult, Output, ProgressCallback

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ._config import SandboxConfigParams

__all__ = [
    "AlpineDesktopSandbox",
    "AlpineSandbox",
    "DebianDesktopSandbox",
    "DebianSandbox",
    "Sandbox",
    "UbuntuDesktopSandbox",
    "UbuntuSandbox",
]


class Sandbox(BaseSandbox):
    """A virtual machine for untrusted work.

    Args:
        image: name of an installed image, or the path of one.
        progress_callback: called in the event loop as ``(stage, current, total)`` while the
            machine starts.
        save: not in this version.
        workspace: not in this version.
        **options: the fields of ``SandboxConfig``, such as ``memory="2G"``.

    Raises:
        ConfigError: an option is unknown or has a value that it cannot have (a ``ValueError``).
        NotAvailableError: this version does not have what an option asks for.

    Example:
        >>> import asyncio
        >>> from quicksand import Sandbox
        >>> async def main():
        ...     async with Sandbox(image="minimal") as sb:
        ...         result = await sb.execute("echo hello from $(uname)")
        ...         print(result.stdout, end="")
        >>> asyncio.run(main())
        hello from Linux
    """

    async def start(self) -> None:
        """Starts the machine and waits until it answers.

        A cancelled or failed start leaves nothing behind.

        Raises:
            AlreadyRunningError: it runs already.
            ImageNotFoundError: ``Image not found: '<name>'``.
            QemuNotFoundError: no QEMU was found.
            StartError: QEMU did not start, or the guest did not answer in ``boot_timeout`` seconds.
        """
        await run(self._begin_start(), self._on_progress)

    async def stop(self) -> None:
        """Ends the machine and removes its temporary files; does nothing when it does not run."""
        await run(self._begin_stop(), cancellable=False)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    async def execute(
        self,
        command: str,
        timeout: float | None = 30.0,
        cwd: str | os.PathLike[str] | None = None,
        shell: str = "/bin/sh",
        on_stdout: Output | None = None,
        on_stderr: Output | None = None,
        exclusive: bool = False,
        user: str | None = None,
        *,
        stdin: bytes | str | None = None,
        env: dict[str, str] | None = None,
    ) -> ExecuteResult:
        """Runs a command in the guest. Commands run side by side.

        Cancelling the task that waits kills the command and its children in the guest, and so
        does an exception from a callback, which is then raised here.

        Args:
            command: a line for the shell; see ``shlex.join`` for a list of arguments.
            timeout: seconds until the command and its children are killed; ``None``: no limit.
            cwd: the folder to run in; the user's own when ``None``.
            shell: the shell that reads ``command``.
            on_stdout: called with each piece of standard output as it arrives. Characters are
                never cut in two; bytes that are not UTF-8 become lone surrogates (PEP 383).
            on_stderr: the same for standard error.
            exclusive: no other command runs meanwhile, interactive shells excepted.
            user: the user to run as, by name; root when ``None``.
            stdin: what the command reads; nothing when ``None``.
            env: variables to set beside the usual ones.

        Returns:
            Its output and exit code. After a timeout ``exit_code`` is -1 and ``stderr`` ends
            with a line that says "timed out".

        Raises:
            NotRunningError: the sandbox does not run.
            AgentConnectionError: the machine ended, or stopped answering, meanwhile.

        Example:
            >>> async def count(sb):
            ...     lines = []
            ...     result = await sb.execute("seq 3", on_stdout=lines.append)
            ...     return "".join(lines), result.exit_code
        """
        begin, running = self._begin_execute(
            command,
            timeout=timeout,
            cwd=cwd,
            shell=shell,
            on_stdout=on_stdout,
            on_stderr=on_stderr,
            exclusive=exclusive,
            user=user,
            stdin=stdin,
            env=env,
        )
        return running.finish(await run(begin, running.on_event))


class AlpineSandbox(Sandbox):
    """A ``Sandbox`` with the image ``alpine`` unless another is named."""

    _preset = "alpine"


class AlpineDesktopSandbox(Sandbox):
    """A ``Sandbox`` with the image ``alpine-desktop`` unless another is named."""

    _preset = "alpine-desktop"


class DebianSandbox(Sandbox):
    """A ``Sandbox`` with the image ``debian`` unless another is named."""

    _preset = "debian"


class DebianDesktopSandbox(Sandbox):
    """A ``Sandbox`` with the image ``debian-desktop`` unless another is named."""

    _preset = "debian-desktop"


class UbuntuSandbox(Sandbox):
    """A ``Sandbox`` with the image ``ubuntu`` unless another is named."""

    _preset = "ubuntu"


class UbuntuDesktopSandbox(Sandbox):
    """A ``Sandbox`` with the image ``ubuntu-desktop`` unless another is named."""

    _preset = "ubuntu-desktop"

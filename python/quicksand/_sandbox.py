"""The asynchronous sandbox, for any event loop with asyncio's interface."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from ._base import (
    AnyPath,
    BaseSandbox,
    Checkpoint,
    ExecuteResult,
    GuestPath,
    Metrics,
    MountHandle,
    Output,
    Transfer,
)
from ._bridge import in_thread, run
from ._config import Forward, PortForward, read_forward
from ._desktop import Desktop
from ._enums import MountType
from ._errors import ImageNotFoundError
from ._input import AsyncInput, run_fed
from ._install import install_missing, may_install
from ._saves import SaveManifest
from ._shell import Shell, Terminal
from ._users import SandboxUser
from ._users import fields as user_fields

if TYPE_CHECKING:
    from typing_extensions import Self


__all__ = [
    "AlpineDesktopSandbox",
    "AlpineSandbox",
    "DebianDesktopSandbox",
    "DebianSandbox",
    "Sandbox",
    "UbuntuDesktopSandbox",
    "UbuntuSandbox",
]


class Sandbox(Desktop, BaseSandbox):
    """A virtual machine for untrusted work.

    Args:
        image: name of an installed image, or the path of one.
        progress_callback: called in the event loop as ``(stage, current, total)`` while the
            machine starts.
        save: when the sandbox stops, its disk is saved under this name or absolute path.
        workspace: the folder of saves, instead of ``.quicksand/sandboxes`` in the working folder.
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

        A cancelled or failed start leaves nothing behind. With the variable
        ``QUICKSAND_AUTO_INSTALL=1`` an image that is missing is installed first.

        Raises:
            AlreadyRunningError: it runs already.
            ImageNotFoundError: ``Image not found: '<name>'``.
            InstallError: it was to be installed, and could not be.
            QemuNotFoundError: no QEMU was found.
            StartError: QEMU did not start, or the guest did not answer in ``boot_timeout`` seconds.
        """
        try:
            await run(self._begin_start(), self._on_progress)
        except ImageNotFoundError as missing:
            if not may_install(self._config.image):
                raise
            await in_thread(install_missing, missing, self._config.image)
            await run(self._begin_start(), self._on_progress)

    async def stop(self) -> None:
        """Ends the machine; does nothing when it does not run.

        With ``save=`` its disk is saved first, otherwise it is gone.

        Raises:
            SaveError: the save failed. The machine is ended all the same, and a save that was
                there before is untouched.
        """
        await run(self._begin_stop(), cancellable=False)

    async def __aenter__(self) -> Self:
        if not self._is_new_child():
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
        stdin: AsyncInput | None = None,
        env: dict[str, str] | None = None,
        max_output: int | None = None,
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
            stdin: what the command reads; nothing when ``None``. Bytes or text, an open file, or
                an iterable (asynchronous too) whose pieces are sent while the command runs.
            env: variables to set beside the usual ones.
            max_output: bytes of each stream that the result keeps; 64 MiB when ``None``. What is
                beyond still reaches the callbacks, and the result says how much it was.

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
        begin, running, feed = self._begin_execute(
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
            max_output=max_output,
        )
        if feed is None or stdin is None:
            return running.finish(await run(begin, running.on_event))
        return running.finish(await run_fed(begin, running.on_event, stdin, feed))

    async def shell(
        self,
        command: str | None = None,
        *,
        rows: int = 24,
        cols: int = 80,
        term: str = "xterm-256color",
        shell: str | None = None,
        cwd: str | os.PathLike[str] | None = None,
        user: str | None = None,
        env: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> Shell:
        """Opens a shell in a terminal of the guest, to be talked to while it runs.

        Args:
            command: what runs in the terminal; a login shell (bash where there is one) when ``None``.
            rows: the terminal's height in characters.
            cols: its width.
            term: its kind, the variable ``TERM``.
            shell: another shell, by its path.
            cwd: the folder to run in; the user's own when ``None``.
            user: the user to run as, by name; root when ``None``.
            env: variables to set beside the usual ones.
            timeout: seconds until everything in it is killed; ``None``: no limit.

        Raises:
            NotRunningError: the sandbox does not run.

        Example:
            >>> async def ask(sb):
            ...     async with await sb.shell() as shell:
            ...         await shell.write("echo $((6 * 7))\\n")
            ...         return await shell.read_until("42")
        """
        begin = self._begin_shell(
            command,
            Terminal(rows, cols, term),
            shell=shell,
            cwd=cwd,
            user=user,
            env=env,
            timeout=timeout,
        )
        return Shell(await run(begin))

    async def create_user(self, name: str) -> SandboxUser:
        """Adds a user to the guest, with a home directory and a group of its own.

        Args:
            name: a lower-case letter or ``_``, then letters, digits, ``_`` and ``-``, 32 at most.

        Raises:
            ConfigError: the name is not allowed.
            SandboxError: there is such a user already.

        Example:
            >>> async def as_alice(sb):
            ...     alice = await sb.create_user("alice")
            ...     return (await alice.execute("whoami")).stdout
        """
        begin = self._begin_create_user(name)
        return SandboxUser(**user_fields(await run(begin)), _sandbox=self)

    async def delete_user(self, name: str | SandboxUser, *, remove_home: bool = True) -> None:
        """Removes a user of the guest, after its processes.

        Args:
            name: the user, or its name.
            remove_home: whether its home directory goes too.

        Raises:
            ConfigError: the name is not allowed.
            SandboxError: there is no such user, or it belongs to the system.
        """
        await run(self._begin_delete_user(name, remove_home))

    async def read_file(self, path: AnyPath, *, max_bytes: int = 1 << 30) -> bytes:
        """Reads a file of the guest.

        It goes over the agent's connection, in any network mode, as root. Text with lone surrogates
        (PEP 383), as ``execute`` gives it for names that are not UTF-8, leads to the file of these
        bytes; so do ``bytes``.

        Args:
            path: absolute path in the guest.
            max_bytes: a larger file is an error.

        Raises:
            GuestFileNotFoundError: there is no such file (a ``FileNotFoundError`` too).
            GuestFileError: it cannot be read, is larger, or is a folder, pipe, socket or device.
            AgentConnectionError: the guest sent nothing for 60 seconds.

        Example:
            >>> async def release(sb):
            ...     return (await sb.read_file("/etc/os-release")).decode()
        """
        return await run(self._begin_read_file(path, max_bytes))  # type: ignore[no-any-return]

    async def write_file(self, path: AnyPath, data: bytes | str, mode: int | None = None) -> None:
        """Writes a file of the guest, as root, in one step. Missing folders above it are made.

        Whoever reads the file sees the old content or the new one, and an error leaves the old one.
        A file that is there keeps its owner. A link is followed when it is root's, so that nobody
        in the guest can lead the write elsewhere.

        Args:
            path: absolute path in the guest.
            data: the content; text is written as UTF-8, lone surrogates as the bytes that they
                stand for (PEP 383).
            mode: permission bits; those of the file that is there, or 0o644, when ``None``.

        Raises:
            GuestFileError: it cannot be written, a pipe, socket, device or folder is there, or the
                path leads through a link of another user.
            AgentConnectionError: the guest took nothing for 60 seconds.

        Example:
            >>> async def greet(sb):
            ...     await sb.write_file("/root/hello.txt", "hello", mode=0o600)
        """
        await run(self._begin_write_file(path, data, mode))

    async def upload(self, host: AnyPath, guest: AnyPath) -> Transfer:
        """Copies a file, or a folder with all that is in it, into the guest.

        Permissions, times and holes are kept, links stay links, set-user-ID is dropped; everything
        belongs to root, but a file that is replaced keeps its owner. A file goes into a folder of
        the guest that is there already, under its own name; otherwise ``guest`` is the copy's own
        path. Folders that are there keep their mode.

        Args:
            host: the file or folder on the host.
            guest: absolute path in the guest.

        Raises:
            FileNotFoundError: there is no such file on the host.
            GuestFileError: it cannot be written in the guest.
            AgentConnectionError: the guest took nothing for 60 seconds.

        Example:
            >>> async def send(sb):
            ...     return (await sb.upload("project", "/root/project")).n_files
        """
        return Transfer._read(await run(self._begin_upload(host, guest)))

    async def download(
        self,
        guest: AnyPath,
        host: AnyPath,
        *,
        tree: bool | None = None,
        overwrite: bool = False,
        max_bytes: int | None = 16 << 30,
        max_entries: int | None = 1_000_000,
    ) -> Transfer:
        """Copies a file, or a folder with all that is in it, out of the guest.

        ``host`` is the copy's path. A file goes into a folder that is there already, under its own
        name. Nothing of the host is replaced unless ``overwrite`` says so, nothing is written
        outside of ``host``, whatever the guest sends, and a download that fails or is cancelled
        leaves nothing behind. Times and holes are kept, and permissions as far as the umask allows,
        without set-user-ID and the like. Links that lead out of the tree are left out and named in
        ``skipped``.

        Args:
            guest: absolute path in the guest.
            host: the copy's path.
            tree: ``True`` wants a folder with all that is in it, ``False`` a file; the other kind
                is an error. ``None`` takes either when nothing is at ``host`` yet, and only a file
                when something is.
            overwrite: whether files of the host may be replaced; with ``tree=True`` also whether
                the tree may go into a folder that is not empty.
            max_bytes: more bytes than this in all, holes included, are an error (16 GiB); no limit
                when ``None``.
            max_entries: more files, folders and links than this are an error; no limit when
                ``None``.

        Raises:
            GuestFileNotFoundError: there is no such file or folder in the guest.
            GuestFileError: it cannot be read, is over a limit, or is a folder where a file was
                asked for.
            HostFileExistsError: something of the host is in the way (a ``FileExistsError`` too).
            AgentConnectionError: the guest sent nothing for 60 seconds.

        Example:
            >>> async def results(sb):
            ...     return (await sb.download("/root/out", "out", tree=True)).n_bytes
        """
        begin = self._begin_download(
            guest,
            host,
            tree=tree,
            overwrite=overwrite,
            max_bytes=max_bytes,
            max_entries=max_entries,
        )
        return Transfer._read(await run(begin))

    async def mount(
        self,
        host: str | os.PathLike[str],
        guest: GuestPath,
        readonly: bool = False,
        type: MountType | str = MountType.AUTO,
        *,
        uid: int | None = None,
        gid: int | None = None,
        umask: int | None = None,
        cache: str = "auto",
    ) -> MountHandle:
        """Shares a folder or a file of the host with the running guest.

        Args:
            host: the folder or file on the host; ``~`` at the start is the home folder.
            guest: where the guest sees it; made when it is missing.
            readonly: the guest may not change it; the host enforces that.
            type: as of ``Mount``; ``"9p"`` is for the start only (``mounts=[...]``).
            uid, gid, umask, cache: as of ``Mount``.

        Raises:
            MountError: ``Failed to mount shares: ...``.

        Example:
            >>> async def share(sb):
            ...     handle = await sb.mount("code", "/mnt/code", readonly=True)
            ...     await sb.unmount(handle)
        """
        fuse = {"uid": uid, "gid": gid, "umask": umask, "cache": cache}
        handle = await run(self._begin_mount(host, guest, readonly, type, **fuse))
        return MountHandle(**json.loads(handle))

    async def unmount(self, handle: MountHandle, *, force: bool = False) -> None:
        """Takes a share away from the guest.

        The host's side comes first and asks nobody: what uses the share in the guest sees errors
        from then on. The guest is asked afterwards and has ten seconds to unmount; its answer
        changes nothing.

        Args:
            handle: what ``mount`` gave, or one of ``active_mounts``.
            force: for 9p alone, which QEMU serves until the machine ends: the guest is asked to
                unmount, and refuses while the share is in use unless this is set.

        Raises:
            MountError: it is not mounted, or it is 9p and the guest refuses.
        """
        await run(self._begin_unmount(handle, force))

    async def port_forwards(self) -> list[PortForward | Forward]:
        """The ports that are forwarded now."""
        return [read_forward(item) for item in json.loads(await run(self._begin_forwards()))]

    async def add_forward(self, forward: PortForward | Forward) -> PortForward | Forward:
        """Forwards a port from now on.

        Returns:
            The forward as it is: with the host's port when 0, any free one, was asked for.

        Raises:
            ConfigError: it is forwarded already, or this network cannot have it.
            StartError: the host's port is in use.

        Example:
            >>> from quicksand import PortForward
            >>> async def publish(sb):
            ...     forward = await sb.add_forward(PortForward(host=0, guest=80))
            ...     print(f"http://127.0.0.1:{forward.host}")
        """
        return read_forward(json.loads(await run(self._begin_add_forward(forward))))

    async def remove_forward(self, forward: PortForward | Forward) -> None:
        """Forwards a port no more; connections that exist go on.

        Raises:
            ConfigError: there is no such forward.
        """
        await run(self._begin_remove_forward(forward))

    async def set_allow(self, allow: Iterable[str] | None) -> None:
        """Changes what a guest with ``network_mode="full"`` may reach from now on.

        Args:
            allow: entries as in ``SandboxConfig.allow``; ``None``: everything but the host itself.

        Raises:
            ConfigError: an entry means nothing, or the mode is another one.

        Example:
            >>> async def restrict(sb):
            ...     await sb.set_allow(["example.com", "*.example.org:443"])
        """
        await run(self._begin_set_allow(allow))

    async def save(
        self,
        name: str | os.PathLike[str],
        *,
        workspace: str | os.PathLike[str] | None = None,
        compress: bool = False,
        memory: bool = False,
        delete_checkpoints: bool = False,
    ) -> SaveManifest:
        """Saves the disk while the machine runs on; ``Sandbox(image=name)`` starts from it.

        The guest writes everything out and stands still for a moment. A save of that name is
        replaced in one step: whatever happens, the old one or the new one is there.

        Args:
            name: the save's name, or its absolute path.
            workspace: the folder of saves, instead of ``.quicksand/sandboxes``.
            compress: compress what was written since the start.
            memory: keep the guest's memory as well. A start from the save then goes on where it was
                made, processes and open files included, on this host and with the same options; from
                elsewhere, or with others, it boots from the disk, and ``boot_timing.cold_reason`` says
                why. The machine stands still while the memory is written. Not with ``compress``; the
                machine must be one that ``fork`` takes.
            delete_checkpoints: delete the checkpoints afterwards. A save holds none either way.

        Raises:
            NotRunningError: the sandbox does not run.
            ConfigError: the name leads elsewhere, or something that is no save is in the way.
            SaveError: it failed, with the cause.

        Example:
            >>> async def keep(sb):
            ...     await sb.execute("echo data > /root/file")
            ...     return await sb.save("my-env")
        """
        begin = self._begin_save(name, workspace, compress, memory, delete_checkpoints)
        return SaveManifest.from_json(await run(begin))

    async def checkpoint(self, tag: str) -> Checkpoint:
        """Keeps memory and disk of the running machine under a name, for ``revert``.

        The machine stands still meanwhile. A checkpoint of that name is replaced; all of them end
        with the machine. One of a machine that is a fork itself (``warm="fork"``, and machines of
        pools) and has had no share is kept in memory, with as much of it as the machine changes
        later; all others are on its disk.

        Raises:
            NotRunningError: the sandbox does not run.
            ConfigError: the name is empty, too long, or cannot be shown.

        Example:
            >>> import asyncio
            >>> from quicksand import Sandbox
            >>> async def main():
            ...     async with Sandbox(image="minimal", memory="256M") as sb:
            ...         await sb.execute("echo good > /state")
            ...         await sb.checkpoint("good")
            ...         await sb.execute("echo bad > /state")
            ...         await sb.revert("good")
            ...         print((await sb.execute("cat /state")).stdout, end="")
            >>> asyncio.run(main())
            good
        """
        return Checkpoint(*await run(self._begin_checkpoint(tag)))

    async def revert(self, tag: str) -> None:
        """Takes the machine back to a checkpoint: memory, processes, open files and disk.

        The guest's clock is of now. Calls that are under way fail; commands that they waited for
        are gone. With a checkpoint in memory ``pid`` is another one afterwards.

        Raises:
            ConfigError: there is no checkpoint of that name (a ``ValueError``).
        """
        await run(self._begin_revert(tag))

    async def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints of the running machine, the oldest first."""
        return [Checkpoint(*each) for each in await run(self._begin_checkpoints())]

    async def delete_checkpoint(self, tag: str) -> None:
        """Deletes a checkpoint.

        Raises:
            ConfigError: there is no checkpoint of that name (a ``ValueError``).
        """
        await run(self._begin_delete_checkpoint(tag))

    async def fork(self, n: int = 1) -> list[Self]:
        """Starts sandboxes that go on from this one: memory, processes, open files and disk.

        This one stands still and goes on: for a moment where it is a fork itself (``warm="fork"``, and
        machines of pools), else while its memory is written to the folder for temporary files. From
        then on each is a machine of its own: what one writes no other sees, and before it answers it
        has a clock, network address, machine id, boot id and random numbers of its own.
        Commands that are under way are this one's alone; what they left running in the background is
        in all. Children have the folders that are shared now, mounted again, and no forwarded ports;
        this one's TCP connections are reset in them.
        They are the caller's to stop. One that is started again after that starts from the image.

        Args:
            n: how many; 1 or more.

        Raises:
            NotRunningError: the sandbox does not run.
            ConfigError: ``n`` is no such number, or the machine cannot be forked: it has a display, a
                share by 9p, ``extra_qemu_args`` or ``transport="tcp"``, its guest is not for x86_64,
                or the host is not Linux (a ``ValueError``).

        Example:
            >>> import asyncio
            >>> from quicksand import Sandbox
            >>> async def main():
            ...     async with Sandbox(image="minimal", memory="128M") as sb:
            ...         await sb.execute("echo before > /state")
            ...         child, = await sb.fork()
            ...         async with child:
            ...             print((await child.execute("cat /state")).stdout, end="")
            >>> asyncio.run(main())
            before
        """
        return [self._child(machine) for machine in await run(self._begin_fork(n))]

    async def metrics(self) -> Metrics:
        """What the machine uses: processor, memory, disk and network.

        Raises:
            NotRunningError: the sandbox does not run.

        Example:
            >>> async def is_busy(sb):
            ...     return (await sb.metrics()).cpu_seconds > 10
        """
        return Metrics(**await run(self._begin_metrics()))


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

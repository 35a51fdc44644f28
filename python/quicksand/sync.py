"""The same sandbox without ``async``: each call blocks the calling thread, and only it.

Example:
    >>> from quicksand.sync import Sandbox
    >>> with Sandbox(image="minimal") as sb:
    ...     print(sb.execute("echo hello").stdout, end="")
    hello
"""

# Written by python/generate_sync.py from the asynchronous source: change that, and write it again.

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Literal

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
from ._bridge import run_sync
from ._config import Forward, PortForward, read_forward
from ._desktop import BaseDesktop, Key, Region, keep_picture
from ._enums import MountType
from ._errors import ImageNotFoundError
from ._input import Input, run_sync_fed
from ._install import install_missing, may_install
from ._saves import SaveManifest
from ._shell import BaseShell, Terminal
from ._users import User
from ._users import fields as user_fields

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "AlpineDesktopSandbox",
    "AlpineSandbox",
    "DebianDesktopSandbox",
    "DebianSandbox",
    "Sandbox",
    "SyncSandboxUser",
    "SyncShell",
    "UbuntuDesktopSandbox",
    "UbuntuSandbox",
]


class SyncShell(BaseShell):
    """``quicksand.Shell`` with blocking methods.

    A shell, or another program, in a terminal of the guest.

    Made by ``Sandbox.shell``. Input and output pass while it runs; the output of a terminal is one
    stream, with line ends ``\\r\\n``. Leaving the ``with`` block kills what still runs.

    Example:
        >>> def count_files(sb):
        ...     with sb.shell(rows=40, cols=120) as shell:
        ...         shell.write("ls | wc -l; exit\\n")
        ...         for text in shell:
        ...             print(text, end="")
        ...     return shell.exit_code
    """

    def write(self, data: bytes | str) -> None:
        """Types into the terminal. ``"\\x03"`` is Ctrl-C, ``"\\x04"`` is Ctrl-D."""
        run_sync(self._write(data))

    def read(self) -> str:
        """Waits for output and gives it; ``""`` after the end.

        Raises:
            AgentConnectionError: the machine ended meanwhile.
        """
        while not self._unread and self._exit_code is None:
            text = self._take(run_sync(self._next()))
            if text is None:
                break
            self._unread = text
        return self._taken()

    def read_until(self, text: str) -> str:
        """Output up to and including ``text``, or all of it when the end comes before."""
        seen = ""
        while text not in seen:
            more = self.read()
            if not more:
                return seen
            seen += more
        end = seen.index(text) + len(text)
        self._unread = seen[end:]
        return seen[:end]

    def resize(self, rows: int, cols: int) -> None:
        """Changes the terminal's size, in characters."""
        run_sync(self._resize(rows, cols))

    def send_signal(self, signal: int) -> None:
        """Sends a signal, by its Linux number, to the shell's process group."""
        run_sync(self._signal(signal))

    def wait(self) -> int:
        """Waits for the end and gives the exit code; output that nobody read is dropped."""
        while self.read():
            pass
        return -1 if self._exit_code is None else self._exit_code

    def interact(self) -> int:
        """Lends this process's terminal to the shell until it ends; gives its exit code.

        Every key goes to the guest, Ctrl-C too, and the shell has the terminal's size, also when
        it changes. The terminal is as before afterwards.

        Raises:
            ConfigError: standard input or output is no terminal.
            NotAvailableError: on Windows.

        Example:
            >>> def look_around(sb):
            ...     with sb.shell() as shell:
            ...         return shell.interact()
        """
        with self._own_terminal() as terminal:
            while self._exit_code is None and self._shown(run_sync(self._next()), terminal):
                pass
        return -1 if self._exit_code is None else self._exit_code

    def close(self) -> None:
        """Kills what still runs."""
        self._session.close()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> str:
        text = self.read()
        if not text:
            raise StopIteration
        return text

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


@dataclasses.dataclass(frozen=True)
class SyncSandboxUser(User):
    """``quicksand.SandboxUser`` with blocking methods; made by ``Sandbox.create_user``.

    Example:
        >>> def who(sb):
        ...     alice = sb.create_user("alice")
        ...     return alice.execute("id -un; pwd").stdout
    """

    _sandbox: Sandbox = dataclasses.field(repr=False, compare=False)

    def execute(
        self,
        command: str,
        timeout: float | None = 30.0,
        cwd: str | os.PathLike[str] | None = None,
        shell: str = "/bin/sh",
        on_stdout: Output | None = None,
        on_stderr: Output | None = None,
        exclusive: bool = False,
        *,
        stdin: Input | None = None,
        env: dict[str, str] | None = None,
        max_output: int | None = None,
    ) -> ExecuteResult:
        """Runs a command as this user; options as for ``Sandbox.execute``, but for ``user``."""
        return self._sandbox.execute(
            command,
            timeout,
            cwd,
            shell,
            on_stdout,
            on_stderr,
            exclusive,
            self.name,
            stdin=stdin,
            env=env,
            max_output=max_output,
        )


class Desktop(BaseDesktop):
    """``quicksand.Sandbox``'s calls of desktop control with blocking methods.

    They are for a sandbox made with ``enable_display=True``.

    Every one raises ``SandboxError`` when the sandbox has no display and ``NotRunningError`` when
    it does not run.

    Example:
        A loop that looks, acts, and waits until the screen has settled:

        with Sandbox(image="debian-desktop", enable_display=True) as sb:
            while not sb.wait_for_change(timeout=60):
                pass
            sb.screenshot("screen.png")
            sb.mouse_click("left")
            sb.type_text("Hello!\n")
    """

    def screenshot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        region: Region | None = None,
        scale: float | None = None,
    ) -> bytes:
        """Takes a picture of the screen.

        Args:
            path: where to write it, too.
            region: the part to take: x, y, width, height in pixels.
            scale: a factor for its size, above 0 and at most 1.

        Returns:
            The picture as PNG.

        Raises:
            ConfigError: the region is not inside the screen, or the scale is not allowed.
        """
        return keep_picture(path, run_sync(self._begin_screenshot(region, scale)))

    def wait_for_change(self, timeout: float = 10.0) -> bool:
        """Waits until the screen differs from what it shows now, and has settled.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether it changed. A screen that never rests has changed, too.
        """
        changed: bool = run_sync(self._begin_wait(timeout))
        return changed

    def type_text(self, text: str) -> None:
        """Types printable ASCII, newlines as Return, and tabs.

        Other characters go into the guest by its clipboard: write them to ``xclip`` with
        ``execute(..., stdin=...)`` and press Ctrl+V.

        Raises:
            ConfigError: a character is on no key; nothing was typed then.
        """
        run_sync(self._begin_type(text))

    def press_key(self, *keys: Key | str) -> None:
        """Presses keys in order, holds them for 100 ms, releases them in reverse.

        Args:
            *keys: such as ``Key.CTRL, Key.C``, or the names of keys: QEMU's (``"pgdn"``), X11's
                (``"Page_Down"``, ``"super"``, ``"XF86AudioMute"``), browsers' (``"ArrowLeft"``),
                or a character of a US keyboard; ``+`` joins keys in one name (``"ctrl+s"``).

        Raises:
            ConfigError: no key has that name; nothing was pressed then.

        Example:
            sb.press_key("ctrl+shift+t")
        """
        run_sync(self._begin_press(keys))

    def mouse_move(self, x: int, y: int, *, unit: Literal["abs", "px"] = "abs") -> None:
        """Moves the pointer.

        Args:
            x: from the left edge.
            y: from the upper edge.
            unit: ``"abs"`` counts 0 to 32767 from edge to edge, ``"px"`` counts pixels.
        """
        run_sync(self._begin_move(x, y, unit))

    def mouse_click(self, button: str = "left", *, double: bool = False) -> None:
        """Clicks where the pointer is.

        Args:
            button: ``left``, ``right``, ``middle``, ``wheel-up`` or ``wheel-down``.
            double: click twice with 50 ms between.
        """
        run_sync(self._begin_click(button, double))

    def mouse_drag(
        self,
        start: tuple[int, int],
        end: tuple[int, int],
        *,
        button: str = "left",
        unit: Literal["abs", "px"] = "abs",
    ) -> None:
        """Moves to ``start``, and from there to ``end`` with the button held."""
        run_sync(self._begin_drag(start, end, button, unit))

    def query_display_size(self) -> tuple[int, int]:
        """Width and height of the screen in pixels."""
        size: tuple[int, int] = run_sync(self._begin_query_size())
        return size

    def set_display_size(self, width: int, height: int) -> None:
        """Gives the screen another size, through ``xrandr`` in the guest.

        Args:
            width: pixels, 320 to 8192.
            height: pixels, 320 to 8192.

        Raises:
            ConfigError: another number.
            SandboxError: no X server is there to do it (a text console, a Wayland session, a boot),
                or it refuses; the message says which.

        Example:
            sb.set_display_size(1920, 1080)
        """
        run_sync(self._begin_resize(width, height))

    def query_mouse_position(self) -> tuple[int, int] | None:
        """Where the last movement put the pointer (0 to 32767); ``None`` before the first."""
        place: tuple[int, int] | None = run_sync(self._begin_query_position())
        return place


class Sandbox(Desktop, BaseSandbox):
    """``quicksand.Sandbox`` with blocking methods, for ``with`` and for threads.

    A virtual machine for untrusted work. Ctrl-C during a call cancels it and leaves nothing
    behind.

    Args:
        image: name of an installed image, or the path of one.
        progress_callback: called in the calling thread as ``(stage, current, total)`` while the
            machine starts.
        save: when the sandbox stops, its disk is saved under this name or absolute path.
        workspace: the folder of saves, instead of ``.quicksand/sandboxes`` in the working folder.
        **options: the fields of ``SandboxConfig``, such as ``memory="2G"``.

    Raises:
        ConfigError: an option is unknown or has a value that it cannot have (a ``ValueError``).
        NotAvailableError: this version does not have what an option asks for.

    Example:
        >>> from quicksand.sync import Sandbox
        >>> def main():
        ...     with Sandbox(image="minimal") as sb:
        ...         result = sb.execute("echo hello from $(uname)")
        ...         print(result.stdout, end="")
        >>> main()
        hello from Linux
    """

    def start(self) -> None:
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
            run_sync(self._begin_start(), self._on_progress)
        except ImageNotFoundError as missing:
            if not may_install(self._config.image):
                raise
            install_missing(missing, self._config.image)
            run_sync(self._begin_start(), self._on_progress)

    def stop(self) -> None:
        """Ends the machine; does nothing when it does not run.

        With ``save=`` its disk is saved first, otherwise it is gone.

        Raises:
            SaveError: the save failed. The machine is ended all the same, and a save that was
                there before is untouched.
        """
        run_sync(self._begin_stop(), cancellable=False)

    def __enter__(self) -> Self:
        if not self._is_new_child():
            self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def execute(
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
        stdin: Input | None = None,
        env: dict[str, str] | None = None,
        max_output: int | None = None,
    ) -> ExecuteResult:
        """Runs a command in the guest. Commands run side by side.

        Ctrl-C kills the command and its children in the guest, and so does an exception from a
        callback, which is then raised here.

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
                an iterable whose pieces are sent while the command runs.
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
            >>> def count(sb):
            ...     lines = []
            ...     result = sb.execute("seq 3", on_stdout=lines.append)
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
            return running.finish(run_sync(begin, running.on_event))
        return running.finish(run_sync_fed(begin, running.on_event, stdin, feed))

    def shell(
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
    ) -> SyncShell:
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
            >>> def ask(sb):
            ...     with sb.shell() as shell:
            ...         shell.write("echo $((6 * 7))\\n")
            ...         return shell.read_until("42")
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
        return SyncShell(run_sync(begin))

    def create_user(self, name: str) -> SyncSandboxUser:
        """Adds a user to the guest, with a home directory and a group of its own.

        Args:
            name: a lower-case letter or ``_``, then letters, digits, ``_`` and ``-``, 32 at most.

        Raises:
            ConfigError: the name is not allowed.
            SandboxError: there is such a user already.

        Example:
            >>> def as_alice(sb):
            ...     alice = sb.create_user("alice")
            ...     return alice.execute("whoami").stdout
        """
        begin = self._begin_create_user(name)
        return SyncSandboxUser(**user_fields(run_sync(begin)), _sandbox=self)

    def delete_user(self, name: str | SyncSandboxUser, *, remove_home: bool = True) -> None:
        """Removes a user of the guest, after its processes.

        Args:
            name: the user, or its name.
            remove_home: whether its home directory goes too.

        Raises:
            ConfigError: the name is not allowed.
            SandboxError: there is no such user, or it belongs to the system.
        """
        run_sync(self._begin_delete_user(name, remove_home))

    def read_file(self, path: AnyPath, *, max_bytes: int = 1 << 30) -> bytes:
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
            >>> def release(sb):
            ...     return sb.read_file("/etc/os-release").decode()
        """
        return run_sync(self._begin_read_file(path, max_bytes))  # type: ignore[no-any-return]

    def write_file(self, path: AnyPath, data: bytes | str, mode: int | None = None) -> None:
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
            >>> def greet(sb):
            ...     sb.write_file("/root/hello.txt", "hello", mode=0o600)
        """
        run_sync(self._begin_write_file(path, data, mode))

    def upload(self, host: AnyPath, guest: AnyPath) -> Transfer:
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
            >>> def send(sb):
            ...     return sb.upload("project", "/root/project").n_files
        """
        return Transfer._read(run_sync(self._begin_upload(host, guest)))

    def download(
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
            >>> def results(sb):
            ...     return sb.download("/root/out", "out", tree=True).n_bytes
        """
        begin = self._begin_download(
            guest,
            host,
            tree=tree,
            overwrite=overwrite,
            max_bytes=max_bytes,
            max_entries=max_entries,
        )
        return Transfer._read(run_sync(begin))

    def mount(
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
            >>> def share(sb):
            ...     handle = sb.mount("code", "/mnt/code", readonly=True)
            ...     sb.unmount(handle)
        """
        fuse = {"uid": uid, "gid": gid, "umask": umask, "cache": cache}
        handle = run_sync(self._begin_mount(host, guest, readonly, type, **fuse))
        return MountHandle(**json.loads(handle))

    def unmount(self, handle: MountHandle, *, force: bool = False) -> None:
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
        run_sync(self._begin_unmount(handle, force))

    def port_forwards(self) -> list[PortForward | Forward]:
        """The ports that are forwarded now."""
        return [read_forward(item) for item in json.loads(run_sync(self._begin_forwards()))]

    def add_forward(self, forward: PortForward | Forward) -> PortForward | Forward:
        """Forwards a port from now on.

        Returns:
            The forward as it is: with the host's port when 0, any free one, was asked for.

        Raises:
            ConfigError: it is forwarded already, or this network cannot have it.
            StartError: the host's port is in use.

        Example:
            >>> from quicksand import PortForward
            >>> def publish(sb):
            ...     forward = sb.add_forward(PortForward(host=0, guest=80))
            ...     print(f"http://127.0.0.1:{forward.host}")
        """
        return read_forward(json.loads(run_sync(self._begin_add_forward(forward))))

    def remove_forward(self, forward: PortForward | Forward) -> None:
        """Forwards a port no more; connections that exist go on.

        Raises:
            ConfigError: there is no such forward.
        """
        run_sync(self._begin_remove_forward(forward))

    def set_allow(self, allow: Iterable[str] | None) -> None:
        """Changes what a guest with ``network_mode="full"`` may reach from now on.

        Args:
            allow: entries as in ``SandboxConfig.allow``; ``None``: everything but the host itself.

        Raises:
            ConfigError: an entry means nothing, or the mode is another one.

        Example:
            >>> def restrict(sb):
            ...     sb.set_allow(["example.com", "*.example.org:443"])
        """
        run_sync(self._begin_set_allow(allow))

    def save(
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
            >>> def keep(sb):
            ...     sb.execute("echo data > /root/file")
            ...     return sb.save("my-env")
        """
        begin = self._begin_save(name, workspace, compress, memory, delete_checkpoints)
        return SaveManifest.from_json(run_sync(begin))

    def checkpoint(self, tag: str) -> Checkpoint:
        """Keeps memory and disk of the running machine under a name, for ``revert``.

        The machine stands still meanwhile. A checkpoint of that name is replaced; all of them end
        with the machine. One of a machine that is a fork itself (``warm="fork"``, and machines of
        pools) and has had no share is kept in memory, with as much of it as the machine changes
        later; all others are on its disk.

        Raises:
            NotRunningError: the sandbox does not run.
            ConfigError: the name is empty, too long, or cannot be shown.

        Example:
            >>> from quicksand.sync import Sandbox
            >>> def main():
            ...     with Sandbox(image="minimal", memory="256M") as sb:
            ...         sb.execute("echo good > /state")
            ...         sb.checkpoint("good")
            ...         sb.execute("echo bad > /state")
            ...         sb.revert("good")
            ...         print(sb.execute("cat /state").stdout, end="")
            >>> main()
            good
        """
        return Checkpoint(*run_sync(self._begin_checkpoint(tag)))

    def revert(self, tag: str) -> None:
        """Takes the machine back to a checkpoint: memory, processes, open files and disk.

        The guest's clock is of now. Calls that are under way fail; commands that they waited for
        are gone. With a checkpoint in memory ``pid`` is another one afterwards.

        Raises:
            ConfigError: there is no checkpoint of that name (a ``ValueError``).
        """
        run_sync(self._begin_revert(tag))

    def checkpoints(self) -> list[Checkpoint]:
        """The checkpoints of the running machine, the oldest first."""
        return [Checkpoint(*each) for each in run_sync(self._begin_checkpoints())]

    def delete_checkpoint(self, tag: str) -> None:
        """Deletes a checkpoint.

        Raises:
            ConfigError: there is no checkpoint of that name (a ``ValueError``).
        """
        run_sync(self._begin_delete_checkpoint(tag))

    def fork(self, n: int = 1) -> list[Self]:
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
            >>> from quicksand.sync import Sandbox
            >>> def main():
            ...     with Sandbox(image="minimal", memory="128M") as sb:
            ...         sb.execute("echo before > /state")
            ...         child, = sb.fork()
            ...         with child:
            ...             print(child.execute("cat /state").stdout, end="")
            >>> main()
            before
        """
        return [self._child(machine) for machine in run_sync(self._begin_fork(n))]

    def metrics(self) -> Metrics:
        """What the machine uses: processor, memory, disk and network.

        Raises:
            NotRunningError: the sandbox does not run.

        Example:
            >>> def is_busy(sb):
            ...     return sb.metrics().cpu_seconds > 10
        """
        return Metrics(**run_sync(self._begin_metrics()))


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

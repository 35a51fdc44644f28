"""The same sandbox without ``async``: each call blocks the calling thread, and only it.

Example:
    >>> from quicksand.sync import Sandbox
    >>> with Sandbox(image="minimal") as sb:
    ...     print(sb.execute("echo hello").stdout, end="")
    hello
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING

from ._bridge import run_sync
from ._config import Forward, PortForward, read_forward
from ._desktop import BaseDesktop, Key, Region, keep_picture
from ._enums import MountType
from ._input import Input, run_sync_fed
from ._machine import (
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
from ._saves import SaveManifest
from ._shell import SyncShell, Terminal
from ._users import SyncSandboxUser
from ._users import fields as user_fields

if TYPE_CHECKING:
    from typing_extensions import Literal, Self

__all__ = [
    "AlpineDesktopSandbox",
    "AlpineSandbox",
    "DebianDesktopSandbox",
    "DebianSandbox",
    "Sandbox",
    "UbuntuDesktopSandbox",
    "UbuntuSandbox",
]


class Sandbox(BaseDesktop, BaseSandbox):
    """``quicksand.Sandbox`` with blocking methods, for ``with`` and for threads.

    Options, errors and results are those of ``quicksand.Sandbox``; callbacks are called in the
    thread that made the call. Ctrl-C during a call cancels it and leaves nothing behind.
    """

    def start(self) -> None:
        """See ``quicksand.Sandbox.start``."""
        run_sync(self._begin_start(), self._on_progress)

    def stop(self) -> None:
        """See ``quicksand.Sandbox.stop``."""
        run_sync(self._begin_stop(), cancellable=False)

    def __enter__(self) -> Self:
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
        """See ``quicksand.Sandbox.execute``."""
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
        """See ``quicksand.Sandbox.shell``."""
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
        """See ``quicksand.Sandbox.create_user``."""
        begin = self._begin_create_user(name)
        return SyncSandboxUser(**user_fields(run_sync(begin)), _sandbox=self)

    def delete_user(self, name: str | SyncSandboxUser, *, remove_home: bool = True) -> None:
        """See ``quicksand.Sandbox.delete_user``."""
        run_sync(self._begin_delete_user(name, remove_home))

    def read_file(self, path: AnyPath, *, max_bytes: int = 1 << 30) -> bytes:
        """See ``quicksand.Sandbox.read_file``."""
        return run_sync(self._begin_read_file(path, max_bytes))  # type: ignore[no-any-return]

    def write_file(
        self, path: AnyPath, data: bytes | str, mode: int | None = None
    ) -> None:
        """See ``quicksand.Sandbox.write_file``."""
        run_sync(self._begin_write_file(path, data, mode))

    def upload(self, host: AnyPath, guest: AnyPath) -> Transfer:
        """See ``quicksand.Sandbox.upload``."""
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
        """See ``quicksand.Sandbox.download``."""
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
        """See ``quicksand.Sandbox.mount``."""
        fuse = {"uid": uid, "gid": gid, "umask": umask, "cache": cache}
        handle = run_sync(self._begin_mount(host, guest, readonly, type, **fuse))
        return MountHandle(**json.loads(handle))

    def unmount(self, handle: MountHandle, *, force: bool = False) -> None:
        """See ``quicksand.Sandbox.unmount``."""
        run_sync(self._begin_unmount(handle, force))

    def port_forwards(self) -> list[PortForward | Forward]:
        """See ``quicksand.Sandbox.port_forwards``."""
        return [read_forward(item) for item in json.loads(run_sync(self._begin_forwards()))]

    def add_forward(self, forward: PortForward | Forward) -> PortForward | Forward:
        """See ``quicksand.Sandbox.add_forward``."""
        return read_forward(json.loads(run_sync(self._begin_add_forward(forward))))

    def remove_forward(self, forward: PortForward | Forward) -> None:
        """See ``quicksand.Sandbox.remove_forward``."""
        run_sync(self._begin_remove_forward(forward))

    def set_allow(self, allow: Iterable[str] | None) -> None:
        """See ``quicksand.Sandbox.set_allow``."""
        run_sync(self._begin_set_allow(allow))

    def screenshot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        region: Region | None = None,
        scale: float | None = None,
    ) -> bytes:
        """See ``quicksand.Sandbox.screenshot``."""
        return keep_picture(path, run_sync(self._begin_screenshot(region, scale)))

    def wait_for_change(self, timeout: float = 10.0) -> bool:
        """See ``quicksand.Sandbox.wait_for_change``."""
        changed: bool = run_sync(self._begin_wait(timeout))
        return changed

    def type_text(self, text: str) -> None:
        """See ``quicksand.Sandbox.type_text``."""
        run_sync(self._begin_type(text))

    def press_key(self, *keys: Key | str) -> None:
        """See ``quicksand.Sandbox.press_key``."""
        run_sync(self._begin_press(keys))

    def mouse_move(self, x: int, y: int, *, unit: Literal["abs", "px"] = "abs") -> None:
        """See ``quicksand.Sandbox.mouse_move``."""
        run_sync(self._begin_move(x, y, unit))

    def mouse_click(self, button: str = "left", *, double: bool = False) -> None:
        """See ``quicksand.Sandbox.mouse_click``."""
        run_sync(self._begin_click(button, double))

    def mouse_drag(
        self,
        start: tuple[int, int],
        end: tuple[int, int],
        *,
        button: str = "left",
        unit: Literal["abs", "px"] = "abs",
    ) -> None:
        """See ``quicksand.Sandbox.mouse_drag``."""
        run_sync(self._begin_drag(start, end, button, unit))

    def query_display_size(self) -> tuple[int, int]:
        """See ``quicksand.Sandbox.query_display_size``."""
        size: tuple[int, int] = run_sync(self._begin_desktop("query_display_size"))
        return size

    def set_display_size(self, width: int, height: int) -> None:
        """See ``quicksand.Sandbox.set_display_size``."""
        run_sync(self._begin_resize(width, height))

    def query_mouse_position(self) -> tuple[int, int] | None:
        """See ``quicksand.Sandbox.query_mouse_position``."""
        place: tuple[int, int] | None = run_sync(self._begin_desktop("query_mouse_position"))
        return place

    def save(
        self,
        name: str | os.PathLike[str],
        *,
        workspace: str | os.PathLike[str] | None = None,
        compress: bool = False,
        delete_checkpoints: bool = False,
    ) -> SaveManifest:
        """See ``quicksand.Sandbox.save``."""
        begin = self._begin_save(name, workspace, compress, delete_checkpoints)
        return SaveManifest.from_json(run_sync(begin))

    def checkpoint(self, tag: str) -> Checkpoint:
        """See ``quicksand.Sandbox.checkpoint``."""
        return Checkpoint(*run_sync(self._begin_checkpoint("make", tag)))

    def revert(self, tag: str) -> None:
        """See ``quicksand.Sandbox.revert``."""
        run_sync(self._begin_checkpoint("revert", tag))

    def checkpoints(self) -> list[Checkpoint]:
        """See ``quicksand.Sandbox.checkpoints``."""
        return [Checkpoint(*each) for each in run_sync(self._begin_checkpoint("list", None))]

    def delete_checkpoint(self, tag: str) -> None:
        """See ``quicksand.Sandbox.delete_checkpoint``."""
        run_sync(self._begin_checkpoint("delete", tag))

    def metrics(self) -> Metrics:
        """See ``quicksand.Sandbox.metrics``."""
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

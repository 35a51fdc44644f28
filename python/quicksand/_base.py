"""What the asynchronous and the synchronous sandbox share: everything but the waiting."""

from __future__ import annotations

import codecs
import dataclasses
import inspect
import json
import math
import os
import warnings
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Union

from . import _native
from ._bridge import Begin, Event
from ._config import Forward, Mount, PortForward, SandboxConfig, check_options, plain
from ._enums import Accelerator, MountType
from ._errors import ConfigError
from ._input import encoded
from ._locate import search
from ._logging import refresh as refresh_log
from ._saves import SaveManifest, validate_save
from ._shell import Terminal, command_line
from ._users import User

if TYPE_CHECKING:
    from typing_extensions import Self, Unpack

    from ._config import SandboxConfigParams

__all__ = [
    "BaseSandbox",
    "BootTiming",
    "Checkpoint",
    "Command",
    "ExecuteResult",
    "Metrics",
    "MountHandle",
    "Transfer",
]

Output = Callable[[str], object]
GuestPath = Union[str, "os.PathLike[str]"]
AnyPath = Union[GuestPath, bytes, "os.PathLike[bytes]"]
ProgressCallback = Callable[[str, int, int], object]


@dataclasses.dataclass(frozen=True)
class ExecuteResult:
    """What a command left.

    Attributes:
        stdout: standard output as text. Bytes that are not UTF-8 become lone surrogates (PEP
            383's ``surrogateescape``), so that encoding the text the same way restores them. When
            it was cut, a last line says so: ``[quicksand: 17 bytes cut, beyond max_output]``.
        stderr: standard error, in the same form.
        exit_code: the command's own; 128 + N when signal N ended it; -1 after a timeout.
        stdout_bytes: standard output as it was.
        stderr_bytes: standard error as it was.
        stdout_dropped: bytes of standard output beyond the ``max_output`` (64 MiB) that a result
            keeps; callbacks saw them.
        stderr_dropped: the same for standard error.
        truncated: whether any were dropped.
    """

    stdout: str
    stderr: str
    exit_code: int
    stdout_bytes: bytes = dataclasses.field(repr=False, compare=False, default=b"")
    stderr_bytes: bytes = dataclasses.field(repr=False, compare=False, default=b"")
    stdout_dropped: int = 0
    stderr_dropped: int = 0

    @property
    def truncated(self) -> bool:
        """Whether output is missing from this result, because it was more than ``max_output``."""
        return bool(self.stdout_dropped or self.stderr_dropped)


@dataclasses.dataclass(frozen=True)
class MountHandle:
    """A folder of the host that is shared with the guest, for ``unmount``.

    Attributes:
        id: a number that no other share of the same start has.
        host: the folder or file on the host.
        guest: where the guest sees it.
        readonly: whether the guest may only read.
        type: how it is shared: ``"fuse"``, ``"cifs"`` or ``"9p"``.
    """

    id: int
    host: str
    guest: str
    readonly: bool = False
    type: MountType = MountType.AUTO

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", MountType(self.type))


@dataclasses.dataclass(frozen=True)
class Transfer:
    """What an upload or download moved.

    Attributes:
        n_files: number of files.
        n_bytes: bytes in them, holes included.
        skipped: what was left out, by its path below the root: devices, pipes and sockets, on a
            download links that lead out of the tree, and names that this host's file system cannot
            have. At most 1000 names; control characters and bytes that are not UTF-8 are shown as
            ``\\x1b``.
    """

    n_files: int
    n_bytes: int
    skipped: tuple[str, ...] = ()

    @classmethod
    def _read(cls, text: str) -> Transfer:
        values = json.loads(text)
        return cls(values["n_files"], values["n_bytes"], tuple(values["skipped"]))


class Command:
    """One command while it runs: hands its output to the callbacks."""

    def __init__(self, on_stdout: Output | None, on_stderr: Output | None) -> None:
        self._sinks = {
            name: (codecs.getincrementaldecoder("utf-8")("surrogateescape"), callback)
            for name, callback in (("stdout", on_stdout), ("stderr", on_stderr))
            if callback is not None
        }

    def on_event(self, event: Event) -> None:
        """Takes one event of the native module."""
        name, data = event[0], event[1]
        sink = self._sinks.get(name)
        if sink is not None:
            decoder, callback = sink
            self._call(callback, decoder.decode(data))

    def finish(self, value: tuple[bytes, bytes, int, int, int]) -> ExecuteResult:
        """Flushes characters that were cut short and makes the result."""
        for decoder, callback in self._sinks.values():
            self._call(callback, decoder.decode(b"", final=True))
        stdout, stderr, exit_code, stdout_dropped, stderr_dropped = value
        return ExecuteResult(
            _told(stdout, stdout_dropped),
            _told(stderr, stderr_dropped),
            exit_code,
            stdout,
            stderr,
            stdout_dropped,
            stderr_dropped,
        )

    @staticmethod
    def _call(callback: Output, text: str) -> None:
        if text:
            callback(text)


def _told(data: bytes, n_dropped: int) -> str:
    """A stream as text, which says what is missing from it."""
    text = data.decode("utf-8", "surrogateescape")
    if n_dropped:
        text += f"\n[quicksand: {n_dropped} bytes cut, beyond max_output]\n"
    return text


def _tag(tag: str) -> str:
    if not isinstance(tag, str):
        raise TypeError(f"tag is a string, not {type(tag).__name__}")
    return tag


class BaseSandbox:
    """Configuration, properties and the checking of arguments."""

    _preset: ClassVar[str | None] = None
    """The image of a subclass such as ``DebianSandbox``, unless the caller names another."""

    _was_entered: bool = True
    """Not so for a child that ``fork`` has started and no block has got yet."""

    def __init__(
        self,
        *,
        image: str | os.PathLike[str] | None = None,
        progress_callback: ProgressCallback | None = None,
        save: str | os.PathLike[str] | None = None,
        workspace: str | os.PathLike[str] | None = None,
        **options: Unpack[SandboxConfigParams],
    ) -> None:
        image = self._preset if image is None else image
        if image is None:
            raise TypeError(f'{type(self).__name__}() needs an image, such as image="debian"')
        _check_callback("progress_callback", progress_callback)
        check_options({"image": "-", **dict.fromkeys(options)})
        self._progress_callback = progress_callback
        # What the type checker misses: SandboxConfig turns lists and paths into its own types.
        self._config = SandboxConfig(image=image, **options)  # type: ignore[arg-type]
        place = {"save": _text(save), "workspace": _text(workspace)}
        self._machine = _native.Machine(
            json.dumps({**self._config.named(), **place}),
            search(self._config.image, self._config.arch),
        )

    def __repr__(self) -> str:
        state = "running" if self.is_running else "not running"
        return f"<{type(self).__name__} {self._config.image!r}, {state}>"

    def __del__(self) -> None:
        machine = self.__dict__.get("_machine")
        if machine is not None and machine.is_running:
            # The machine is ended by its own destructor; the warning says where tidiness is due.
            warnings.warn(f"{self!r} was never stopped", ResourceWarning, stacklevel=2)

    @property
    def config(self) -> SandboxConfig:
        """The configuration that this sandbox was made with."""
        return self._config

    @property
    def is_running(self) -> bool:
        """Whether the machine runs and answers."""
        return self._machine.is_running

    @property
    def accelerator(self) -> Accelerator | None:
        """What executes the guest's instructions; ``None`` before the start."""
        name = self._machine.accelerator
        return None if name is None else Accelerator(name)

    @property
    def boot_timeout(self) -> float:
        """Seconds until a start is given up, with the accelerator taken into account."""
        return self._machine.boot_timeout

    @property
    def qemu_command(self) -> list[str]:
        """QEMU's program and arguments, without the secret token.

        Before the start, those that it would use; as far as they can be known.
        """
        return self._machine.qemu_command

    @property
    def boot_timing(self) -> BootTiming | None:
        """Where the time of the last start went; ``None`` before the first one."""
        marks = self._machine.boot_timing
        return None if marks is None else BootTiming(**marks)

    @property
    def active_mounts(self) -> list[MountHandle]:
        """The folders that are shared now, those of the start included."""
        return [MountHandle(**handle) for handle in json.loads(self._machine.active_mounts)]

    def _begin_read_file(self, path: AnyPath, max_bytes: int) -> Begin:
        limit = _limit("max_bytes", max_bytes)
        return lambda wake: self._machine.read_file(wake, os.fspath(path), limit)

    def _begin_write_file(self, path: AnyPath, data: bytes | str, mode: int | None) -> Begin:
        if isinstance(data, str):
            data = data.encode("utf-8", "surrogateescape")
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(f"data is bytes or text, not {type(data).__name__}")
        content = bytes(data)
        if mode is not None and not 0 <= mode <= 0o7777:
            raise ConfigError(f"Invalid value for `mode`: {mode!r}", "allowed: 0 to 0o7777")
        return lambda wake: self._machine.write_file(wake, os.fspath(path), content, mode)

    def _begin_upload(self, host: AnyPath, guest: AnyPath) -> Begin:
        os.stat(host)
        return lambda wake: self._machine.upload(wake, os.fsdecode(host), os.fspath(guest))

    def _begin_download(
        self,
        guest: AnyPath,
        host: AnyPath,
        *,
        tree: bool | None,
        overwrite: bool,
        max_bytes: int | None,
        max_entries: int | None,
    ) -> Begin:
        limits = {
            name: None if value is None else _limit(name, value)
            for name, value in (("max_bytes", max_bytes), ("max_entries", max_entries))
        }
        return lambda wake: self._machine.download(
            wake,
            os.fspath(guest),
            os.fsdecode(host),
            tree=None if tree is None else bool(tree),
            overwrite=bool(overwrite),
            **limits,
        )

    def _begin_mount(
        self,
        host: str | os.PathLike[str],
        guest: GuestPath,
        readonly: bool,
        type: MountType | str,
        **fuse: Any,
    ) -> Begin:
        mount = Mount(os.fspath(host), os.fspath(guest), readonly, type, **fuse)  # type: ignore[arg-type]
        check_options({"image": "-", "mounts": [plain(mount)]})
        return lambda wake: self._machine.mount(wake, json.dumps(plain(mount)))

    def _begin_unmount(self, handle: MountHandle, force: bool) -> Begin:
        if not isinstance(handle, MountHandle):
            raise TypeError(f"unmount() takes a MountHandle, not {type(handle).__name__}")
        return lambda wake: self._machine.unmount(wake, handle.id, force)

    def _begin_forwards(self) -> Begin:
        return lambda wake: self._machine.forwards(wake)

    def _begin_add_forward(self, forward: PortForward | Forward) -> Begin:
        text = json.dumps(plain(forward))
        return lambda wake: self._machine.add_forward(wake, text)

    def _begin_remove_forward(self, forward: PortForward | Forward) -> Begin:
        text = json.dumps(plain(forward))
        return lambda wake: self._machine.remove_forward(wake, text)

    def _begin_set_allow(self, allow: Iterable[str] | None) -> Begin:
        if isinstance(allow, str):
            raise TypeError("allow is a list of strings, or None")
        entries = None if allow is None else list(allow)
        return lambda wake: self._machine.set_allow(wake, entries)

    @staticmethod
    def validate_save(path: str | os.PathLike[str]) -> SaveManifest:
        """Reads a save and checks all of it, without starting anything.

        Args:
            path: the folder of the save, or the name of one in ``.quicksand/sandboxes``.

        Raises:
            SaveNotFoundError: ``Save not found`` (a ``FileNotFoundError``).
            ConfigError: it is no save, or a damaged one: ``Missing manifest.json``, ``Missing
                overlays``, ``No overlay files found``, a manifest ``newer than supported``, ``not
                a directory`` (a ``ValueError``).

        Example:
            >>> try:
            ...     Sandbox.validate_save("no-such-save")
            ... except FileNotFoundError as error:
            ...     print("Save not found" in str(error))
            True
        """
        return validate_save(path)

    def _begin_save(
        self,
        name: str | os.PathLike[str],
        workspace: str | os.PathLike[str] | None,
        compress: bool,
        memory: bool,
        delete_checkpoints: bool,
    ) -> Begin:
        return lambda wake: self._machine.save(
            wake,
            os.fspath(name),
            workspace=_text(workspace),
            compress=compress,
            memory=memory,
            delete_checkpoints=delete_checkpoints,
        )

    def _begin_checkpoint(self, tag: str | None) -> Begin:
        name = None if tag is None else _tag(tag)
        return lambda wake: self._machine.checkpoint(wake, name)

    def _begin_revert(self, tag: str) -> Begin:
        name = _tag(tag)
        return lambda wake: self._machine.revert(wake, name)

    def _begin_checkpoints(self) -> Begin:
        return self._machine.checkpoints

    def _begin_delete_checkpoint(self, tag: str) -> Begin:
        name = _tag(tag)
        return lambda wake: self._machine.delete_checkpoint(wake, name)

    def _begin_fork(self, n: int) -> Begin:
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise ConfigError(f"Invalid value for `n`: {n!r}", "allowed: a number of 1 or more")
        return lambda wake: self._machine.fork(wake, n)

    def _child(self, machine: _native.Machine) -> Self:
        child = object.__new__(type(self))
        child._progress_callback = None
        child._config = self._config.replace(port_forwards=[])
        child._machine = machine
        child._was_entered = False
        return child

    def _is_new_child(self) -> bool:
        """Whether a block gets what ``fork`` has started, for the first time."""
        is_new = not self._was_entered and self.is_running
        self._was_entered = True
        return is_new

    def _begin_metrics(self) -> Begin:
        return lambda wake: self._machine.metrics(wake)

    def _begin_create_user(self, name: str) -> Begin:
        if not isinstance(name, str):
            raise TypeError(f"name is a string, not {type(name).__name__}")
        return lambda wake: self._machine.create_user(wake, name)

    def _begin_delete_user(self, name: str | User, remove_home: bool) -> Begin:
        text = name.name if isinstance(name, User) else name
        if not isinstance(text, str):
            raise TypeError(f"name is a string, not {type(name).__name__}")
        return lambda wake: self._machine.delete_user(wake, text, remove_home)

    def _begin_shell(
        self,
        command: str | None,
        terminal: Terminal,
        *,
        shell: str | None,
        cwd: str | os.PathLike[str] | None,
        user: str | None,
        env: dict[str, str] | None,
        timeout: float | None,
    ) -> Begin:
        if timeout is not None:
            _check_timeout(timeout)
        line = command_line(command, shell)
        return lambda wake: self._machine.shell(
            wake,
            line,
            rows=terminal.rows,
            cols=terminal.cols,
            term=terminal.term,
            cwd=_text(cwd),
            user=user,
            env=env,
            timeout=timeout,
        )

    def _begin_start(self) -> Begin:
        refresh_log()
        return lambda wake: self._machine.start(wake)

    def _begin_stop(self) -> Begin:
        return lambda wake: self._machine.stop(wake)

    def _on_progress(self, event: Event) -> None:
        if self._progress_callback is not None:
            _, stage, current, total = event
            self._progress_callback(stage, current, total)

    def _begin_execute(
        self,
        command: str,
        *,
        timeout: float | None,
        cwd: str | os.PathLike[str] | None,
        shell: str,
        on_stdout: Output | None,
        on_stderr: Output | None,
        exclusive: bool,
        user: str | None,
        stdin: object,
        env: dict[str, str] | None,
        max_output: int | None,
    ) -> tuple[Begin, Command, _native.Input | None]:
        if not isinstance(command, str):
            raise TypeError(
                f"command is a string for the shell, not {type(command).__name__}; "
                "for a list of arguments: shlex.join(arguments)"
            )
        if timeout is not None:
            _check_timeout(timeout)
        is_whole = stdin is None or isinstance(stdin, (str, bytes, bytearray, memoryview))
        whole = encoded(stdin) if is_whole and stdin is not None else None  # type: ignore[arg-type]
        feed = None if is_whole else _native.Input()
        if max_output is not None:
            _check_max_output(max_output)
        _check_callback("on_stdout", on_stdout)
        _check_callback("on_stderr", on_stderr)
        begin: Begin = lambda wake: self._machine.execute(  # noqa: E731
            wake,
            command,
            timeout=timeout,
            cwd=_text(cwd),
            shell=shell,
            exclusive=exclusive,
            user=user,
            stdin=whole,
            input=feed,
            env=env,
            max_output=max_output,
            streaming=on_stdout is not None or on_stderr is not None,
        )
        return begin, Command(on_stdout, on_stderr), feed


@dataclasses.dataclass(frozen=True)
class BootTiming:
    """Where the time of a start went, in seconds.

    Attributes:
        locate: finding QEMU and the image, and trying the accelerator.
        prepare: checking the image, making the overlay and the command line.
        launch: from QEMU's start to its greeting.
        boot: from the greeting to the agent's first answer (or to the end of the guest's boot,
            with ``wait_for="boot"``).
        mount: mounting the shares that the configuration names.
        total: the whole start.
        guest_marks: the guest's own marks, in seconds since its kernel began, in their order;
            none with ``warm``.
        warm: whether the guest had booted already: the machine is a copy of a template, or
            goes on from another one or from a save with memory.
        cold_reason: why it has booted, when it need not have; ``None`` otherwise.
        forked: whether its process was made by a fork: of a machine that waits in memory, or of the
            one whose child it is.
    """

    locate: float
    prepare: float
    launch: float
    boot: float
    mount: float
    total: float
    guest_marks: dict[str, float]
    warm: bool = False
    cold_reason: str | None = None
    forked: bool = False


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """A checkpoint of a running sandbox.

    Attributes:
        tag: its name.
        created: when it was made, in seconds since 1970.
        state_bytes: bytes of the guest's memory and devices in it.
    """

    tag: str
    created: float
    state_bytes: int


@dataclasses.dataclass(frozen=True)
class Metrics:
    """What a running machine uses, all of it since its start.

    Attributes:
        uptime: seconds.
        cpu_seconds: processor time of the host that the machine has used; ``None`` where the
            system does not tell.
        memory_rss: bytes of the host's memory that the machine holds now; ``None`` likewise.
        disk_read_bytes: bytes that the guest has read from its disk.
        disk_written_bytes: bytes that the guest has written to it.
        overlay_bytes: bytes that its changes take on the host.
        network_received_bytes: bytes that the guest has received, as it says; ``None`` without a
            network.
        network_sent_bytes: bytes that it has sent.
        guest_memory_total: bytes of memory that the guest's kernel has, as it says.
        guest_memory_available: bytes that programs could still get.
    """

    uptime: float
    cpu_seconds: float | None
    memory_rss: int | None
    disk_read_bytes: int
    disk_written_bytes: int
    overlay_bytes: int
    network_received_bytes: int | None
    network_sent_bytes: int | None
    guest_memory_total: int | None
    guest_memory_available: int | None


def _text(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)


def _check_timeout(value: object) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or math.isnan(value) or value <= 0:  # type: ignore[arg-type,operator]
        raise ConfigError(
            f"Invalid value for `timeout`: {value!r}",
            "allowed: a number of seconds above 0, or None for no limit",
        )


def _limit(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 64:
        raise ConfigError(f"Invalid value for `{name}`: {value!r}", "allowed: a number, 0 or more")
    return value


def _check_max_output(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 40:
        raise ConfigError(
            f"Invalid value for `max_output`: {value!r}", "allowed: a number of bytes, 0 or more"
        )


def _check_callback(name: str, value: object) -> None:
    if value is None:
        return
    if not callable(value):
        raise TypeError(f"{name} is a function, not {type(value).__name__}")
    if inspect.iscoroutinefunction(value):
        raise TypeError(f"{name} is a plain function: nothing would await a coroutine")

"""The native module: crates/quicksand-python."""

from collections.abc import Callable
from typing import Any, final

__version__: str

def check_config(config: str) -> str:
    """Reads a configuration (JSON), and gives it back with names in their normal spelling.

    Raises:
        ConfigError: a value is not allowed.
        UnknownOptionError: an option is unknown.
    """

def find_qemu(arch: str | None, search: str) -> str:
    """Finds QEMU. The answer is JSON: the fields of ``RuntimeInfo`` but for its version.

    Raises:
        QemuNotFoundError: there is none.
    """

def detect_accelerator() -> str:
    """What ``auto`` chooses, and why. The answer is JSON: accelerator, reason, hint, nested."""

def machine_type(arch: str | None) -> str:
    """QEMU's machine for an architecture.

    Raises:
        ConfigError: the architecture is unknown.
    """

def host() -> str:
    """The operating system and native architecture. The answer is JSON: ``os`` and ``arch``."""

def install(
    names: list[str],
    python: str,
    index_url: str | None,
    find_links: list[str],
    upgrade: bool,
    listener: tuple[Callable[[str], None], Callable[[], None]],
) -> None:
    """Installs packages into the environment of an interpreter.

    Of the listener's two functions the first gets each line of news. The second is called several
    times a second, and what it raises ends the installation. So does Ctrl-C in the main thread.

    Raises:
        ConfigError: a name is unknown.
        InstallError: nothing was installed, and why.
    """

def validate_save(path: str) -> str:
    """Checks a save, and gives its manifest (JSON).

    Raises:
        SaveNotFoundError: there is none.
        ConfigError: it is damaged.
    """

def list_saves(workspace: str | None) -> str:
    """All saves. The answer is JSON: a list of the fields of ``SaveInfo``."""

def remove_save(name: str, workspace: str | None) -> None:
    """Removes a save.

    Raises:
        SaveNotFoundError: there is none.
        ConfigError: it is no save.
    """

def export_save(name: str, file: str, workspace: str | None) -> str:
    """Writes a save to one file, and gives its manifest (JSON)."""

def import_save(file: str, name: str, workspace: str | None, replace: bool) -> str:
    """Makes a save of one file, and gives its manifest (JSON)."""

def set_log_level(level: int) -> None:
    """Says from which level on (numbers of ``logging``) events are handed over."""

def shutdown() -> None:
    """Ends every machine of this process that still runs."""

@final
class Operation:
    """Work in the background; see ``quicksand._bridge``."""

    def poll(self) -> list[tuple[Any, ...]]: ...
    def cancel(self) -> None: ...

@final
class Input:
    """Input for one command, written while it runs; each can be used once."""

    def __init__(self) -> None: ...
    def write(self, wake: Callable[[], None], data: bytes) -> Operation: ...
    def close(self) -> None: ...

@final
class Session:
    """A running command with a terminal."""

    def next(self, wake: Callable[[], None]) -> Operation: ...
    def write(self, wake: Callable[[], None], data: bytes) -> Operation: ...
    def resize(self, wake: Callable[[], None], rows: int, cols: int) -> Operation: ...
    def signal(self, wake: Callable[[], None], signal: int) -> Operation: ...
    def close(self) -> None: ...

@final
class Desktop:
    """The screen, keyboard and mouse of a machine."""

    def screenshot(
        self,
        wake: Callable[[], None],
        region: tuple[int, int, int, int] | None,
        scale: float | None,
    ) -> Operation: ...
    def wait_for_change(self, wake: Callable[[], None], timeout: float) -> Operation: ...
    def type_text(self, wake: Callable[[], None], text: str) -> Operation: ...
    def press_key(self, wake: Callable[[], None], keys: list[str]) -> Operation: ...
    def mouse_move(self, wake: Callable[[], None], x: int, y: int, unit: str) -> Operation: ...
    def mouse_click(self, wake: Callable[[], None], button: str, double: bool) -> Operation: ...
    def mouse_drag(
        self,
        wake: Callable[[], None],
        start: tuple[int, int],
        end: tuple[int, int],
        button: str,
        unit: str,
    ) -> Operation: ...
    def query_display_size(self, wake: Callable[[], None]) -> Operation: ...
    def set_display_size(self, wake: Callable[[], None], width: int, height: int) -> Operation: ...
    def query_mouse_position(self, wake: Callable[[], None]) -> Operation: ...

@final
class Machine:
    """One machine and its life."""

    def __init__(self, config: str, search: str) -> None: ...
    @property
    def is_running(self) -> bool: ...
    @property
    def accelerator(self) -> str | None: ...
    @property
    def boot_timeout(self) -> float: ...
    @property
    def vnc_port(self) -> int | None: ...
    @property
    def vnc_password(self) -> str | None: ...
    @property
    def qemu_command(self) -> list[str]: ...
    @property
    def boot_timing(self) -> dict[str, Any] | None: ...
    @property
    def active_mounts(self) -> str: ...
    def read_file(
        self, wake: Callable[[], None], path: str | bytes, max_bytes: int
    ) -> Operation: ...
    def write_file(
        self, wake: Callable[[], None], path: str | bytes, data: bytes, mode: int | None
    ) -> Operation: ...
    def upload(self, wake: Callable[[], None], host: str, guest: str | bytes) -> Operation: ...
    def download(
        self,
        wake: Callable[[], None],
        guest: str | bytes,
        host: str,
        *,
        tree: bool | None,
        overwrite: bool,
        max_bytes: int | None,
        max_entries: int | None,
    ) -> Operation: ...
    def mount(self, wake: Callable[[], None], mount: str) -> Operation: ...
    def unmount(self, wake: Callable[[], None], id: int, force: bool) -> Operation: ...
    def forwards(self, wake: Callable[[], None]) -> Operation: ...
    def add_forward(self, wake: Callable[[], None], forward: str) -> Operation: ...
    def remove_forward(self, wake: Callable[[], None], forward: str) -> Operation: ...
    def set_allow(self, wake: Callable[[], None], allow: list[str] | None) -> Operation: ...
    def start(self, wake: Callable[[], None]) -> Operation: ...
    def stop(self, wake: Callable[[], None]) -> Operation: ...
    @property
    def desktop(self) -> Desktop: ...
    def save(
        self,
        wake: Callable[[], None],
        name: str,
        *,
        workspace: str | None,
        compress: bool,
        memory: bool,
        delete_checkpoints: bool,
    ) -> Operation: ...
    def checkpoint(self, wake: Callable[[], None], tag: str | None) -> Operation: ...
    def revert(self, wake: Callable[[], None], tag: str) -> Operation: ...
    def checkpoints(self, wake: Callable[[], None]) -> Operation: ...
    def delete_checkpoint(self, wake: Callable[[], None], tag: str) -> Operation: ...
    def fork(self, wake: Callable[[], None], n: int) -> Operation: ...
    def metrics(self, wake: Callable[[], None]) -> Operation: ...
    def execute(
        self,
        wake: Callable[[], None],
        command: str,
        *,
        timeout: float | None,
        cwd: str | None,
        shell: str,
        exclusive: bool,
        user: str | None,
        stdin: bytes | None,
        input: Input | None,
        env: dict[str, str] | None,
        max_output: int | None,
        streaming: bool,
    ) -> Operation: ...
    def shell(
        self,
        wake: Callable[[], None],
        command: str,
        *,
        rows: int,
        cols: int,
        term: str,
        cwd: str | None,
        user: str | None,
        env: dict[str, str] | None,
        timeout: float | None,
    ) -> Operation: ...
    def create_user(self, wake: Callable[[], None], name: str) -> Operation: ...
    def delete_user(self, wake: Callable[[], None], name: str, remove_home: bool) -> Operation: ...

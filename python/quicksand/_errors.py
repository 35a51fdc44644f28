"""The exceptions of quicksand.

Every one of them carries ``hint``: what to do next, or ``None``. ``str(error)`` is the message,
followed by the hint on a line of its own. The native module raises these classes by name.
"""

from __future__ import annotations

__all__ = [
    "AgentConnectionError",
    "AlreadyRunningError",
    "ConfigError",
    "GuestFileError",
    "GuestFileNotFoundError",
    "HostFileExistsError",
    "ImageNotFoundError",
    "InstallError",
    "MountError",
    "NotAvailableError",
    "NotRunningError",
    "QemuNotFoundError",
    "SandboxError",
    "SaveError",
    "SaveNotFoundError",
    "StartError",
    "UnknownOptionError",
]


class _Hinted(Exception):
    """A message and a hint. ``args`` keeps both, so that the exceptions can be pickled."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}\nhint: {self.hint}"


class SandboxError(_Hinted, RuntimeError):
    """Something about a sandbox failed; the base of every error that is not about bad input."""


class StartError(SandboxError):
    """The machine did not start."""


class ImageNotFoundError(StartError):
    """No image of that name is installed: ``Image not found: '<name>'``."""


class QemuNotFoundError(StartError):
    """No QEMU for this architecture was found."""


class AgentConnectionError(SandboxError):
    """The agent in the guest did not answer, or the connection to it was lost."""


class GuestFileError(SandboxError):
    """A file of the guest could not be read or written, or is more than was asked for."""


class GuestFileNotFoundError(GuestFileError, FileNotFoundError):
    """There is no such file or folder in the guest."""


class HostFileExistsError(SandboxError, FileExistsError):
    """A download would replace something of the host, which it does only with ``overwrite=True``."""


class MountError(SandboxError):
    """A folder could not be shared: ``Failed to mount shares: ...``, or taken away again."""


class AlreadyRunningError(SandboxError):
    """A sandbox was started a second time."""


class NotRunningError(SandboxError):
    """A sandbox was used before its start or after its stop."""


class SaveError(SandboxError):
    """The sandbox could not be saved; what was saved before is untouched."""


class SaveNotFoundError(_Hinted, FileNotFoundError):
    """There is no save at that place: ``Save not found: …``."""


class NotAvailableError(SandboxError, NotImplementedError, AttributeError):
    """This version of quicksand does not have the feature that was asked for.

    It is an ``AttributeError`` too, so that ``hasattr(sandbox, "checkpoint")`` tells the truth.
    """


class InstallError(SandboxError):
    """A package could not be installed; the environment is as it was."""


class ConfigError(_Hinted, ValueError):
    """An option has a value that it cannot have; raised before anything starts."""


class UnknownOptionError(ConfigError, TypeError):
    """There is no option of that name; the hint offers the nearest one."""

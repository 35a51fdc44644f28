"""Where this interpreter keeps packages, for the native module's search for QEMU and images.

The native module finds wheels by their file layout in the folders of ``sys.path``. Images whose
files lie elsewhere are found through their entry point: an object with ``name``, ``type`` and
``resolve(arch=None)``, made by whoever made the image.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import metadata

__all__ = ["entry_point_folder", "search"]

_GROUP = "quicksand.images"


def search() -> str:
    """The folders to search, as JSON for the native module."""
    folders = [os.path.abspath(path or os.curdir) for path in sys.path if not path.endswith(".zip")]
    return json.dumps({"site_packages": list(dict.fromkeys(folders))})


def entry_point_folder(name: str) -> str | None:
    """The folder of images that the entry point of this name points at; ``None`` without one."""
    for entry in metadata.entry_points(group=_GROUP):
        if entry.name == name:
            images_dir = getattr(entry.load(), "images_dir", None)
            return None if images_dir is None else os.fspath(images_dir)
    return None

"""The machine image ``IMAGE_NAME`` for quicksand: kernel, initrd and disk."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import NamedTuple

__all__ = ["Image", "ResolvedImage", "image"]

_ARCHES = {
    "amd64": "amd64",
    "x86_64": "amd64",
    "x64": "amd64",
    "arm64": "arm64",
    "aarch64": "arm64",
}


class ResolvedImage(NamedTuple):
    """The three files of the image for one architecture."""

    kernel: Path
    initrd: Path
    disk: Path
    arch: str

    @property
    def name(self) -> str:
        """The image's name."""
        return Image.name

    @property
    def chain(self) -> list[Path]:
        """The image's disks, the base first."""
        return [self.disk]

    @property
    def guest_arch(self) -> str:
        """The guest's architecture, ``amd64`` or ``arm64``."""
        return self.arch


class Image:
    """An image as the entry point group ``quicksand.images`` offers it."""

    name = "IMAGE_NAME"
    version = "IMAGE_VERSION"
    type = "base"

    @property
    def images_dir(self) -> Path:
        """The folder that holds the image's files."""
        return Path(__file__).resolve().parent / "images"

    def resolve(self, arch: str | None = None) -> ResolvedImage:
        """The image's files for ``arch`` (this machine's when it is None).

        Raises ValueError for an architecture that quicksand does not know, and FileNotFoundError
        when this package does not hold the image for it.
        """
        given = (arch or platform.machine()).lower()
        known = _ARCHES.get(given)
        if known is None:
            raise ValueError(f"unknown architecture {arch!r}; allowed are 'amd64' and 'arm64'")
        stem = f"{self.name}-{self.version}-{known}"
        files = [self.images_dir / f"{stem}.{part}" for part in ("kernel", "initrd", "qcow2")]
        for file in files:
            if not file.is_file():
                raise FileNotFoundError(f"the image {self.name} is not here for {known}: {file}")
        kernel, initrd, disk = files
        return ResolvedImage(kernel, initrd, disk, known)

    def __repr__(self) -> str:
        return f"<quicksand image {self.name} {self.version}>"


image = Image()

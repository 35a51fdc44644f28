"""The machine image ``IMAGE_NAME`` for quicksand: what it adds to the image that it lies on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

__all__ = ["Image", "ResolvedOverlay", "image"]


class ResolvedOverlay(NamedTuple):
    """The files of the overlay, bottom to top, and the name of the image below them."""

    manifest: Path
    overlays: list[Path]
    base: str
    arch: str


class Image:
    """An image as the entry point group ``quicksand.images`` offers it."""

    name = "IMAGE_NAME"
    version = "IMAGE_VERSION"
    type = "overlay"

    @property
    def images_dir(self) -> Path:
        """The folder that holds the image's files."""
        return Path(__file__).resolve().parent / "images"

    def resolve(self, arch: str | None = None) -> ResolvedOverlay:
        """The overlay's files, which are for the one architecture that its manifest names.

        Raises ValueError when ``arch`` is another one, and FileNotFoundError when files are
        missing.
        """
        manifest = self.images_dir / "manifest.json"
        config = json.loads(manifest.read_text(encoding="utf-8"))
        known = {"x86_64": "amd64", "aarch64": "arm64"}
        own = known[config["arch"]]
        if arch is not None and known.get(arch.lower(), arch.lower()) != own:
            raise ValueError(f"the image {self.name} is for {own} here, not for {arch!r}")
        files = sorted(
            (self.images_dir / "overlays").glob("*.qcow2"), key=lambda file: int(file.stem)
        )
        if not files:
            raise FileNotFoundError(f"the image {self.name} has no overlays in {self.images_dir}")
        return ResolvedOverlay(manifest, files, config["config"]["image"], own)

    def __repr__(self) -> str:
        return f"<quicksand image {self.name} {self.version}>"


image = Image()

"""Saves on disk: what is in them, and how they are listed, removed and carried elsewhere."""

from __future__ import annotations

import dataclasses
import json
import os
from typing import Any

from . import _native
from ._config import SandboxConfig
from ._errors import ConfigError, NotAvailableError

__all__ = [
    "SaveInfo",
    "SaveManifest",
    "export_save",
    "import_save",
    "list_saves",
    "remove_save",
    "validate_save",
]


@dataclasses.dataclass(frozen=True)
class SaveManifest:
    """What a save's ``manifest.json`` says.

    Attributes:
        version: the layout's version.
        config: the options of the sandbox; ``config.image`` names what the save lies on. Options of
            another version that mean nothing here are left out.
        arch: the guest's architecture in QEMU's words, such as ``x86_64``.
    """

    version: int
    config: SandboxConfig
    arch: str | None

    @classmethod
    def from_json(cls, text: str) -> SaveManifest:
        """Reads a manifest; keys that are not ours are left out."""
        values = json.loads(text)
        return cls(values["version"], _config(values["config"]), values.get("arch"))


@dataclasses.dataclass(frozen=True)
class SaveInfo:
    """One save, whole or damaged.

    Attributes:
        name: the name of its folder.
        path: the folder.
        base: the image that it lies on.
        arch: the guest's architecture in QEMU's words.
        n_overlays: how many layers it has.
        bytes: the bytes of its layers. Saves made from one another share files.
        created: when it was made, in seconds since 1970.
        problem: what is wrong with it, or ``None``.
    """

    name: str
    path: str
    base: str | None
    arch: str | None
    n_overlays: int
    bytes: int
    created: int | None
    problem: str | None


def _config(options: dict[str, Any]) -> SandboxConfig:
    """The options that a save names, as far as they mean something here."""
    names = {field.name for field in dataclasses.fields(SandboxConfig)}
    known = {name: value for name, value in options.items() if name in names}
    try:
        return SandboxConfig.from_dict(known)
    except (ConfigError, NotAvailableError, TypeError, KeyError):
        return SandboxConfig(image=known["image"])


def validate_save(path: str | os.PathLike[str]) -> SaveManifest:
    """See ``Sandbox.validate_save``."""
    return SaveManifest.from_json(_native.validate_save(os.fspath(path)))


def list_saves(workspace: str | os.PathLike[str] | None = None) -> list[SaveInfo]:
    """The saves of a folder, or of ``.quicksand/sandboxes`` in the working and home folders.

    Example:
        >>> import tempfile
        >>> list_saves(tempfile.mkdtemp())
        []
    """
    return [SaveInfo(**save) for save in json.loads(_native.list_saves(_text(workspace)))]


def remove_save(
    name: str | os.PathLike[str], *, workspace: str | os.PathLike[str] | None = None
) -> None:
    """Removes a save, by its name or path. A sandbox that was started from it goes on.

    Raises:
        SaveNotFoundError: there is none.
        ConfigError: what is there is no save; it is not touched.
    """
    _native.remove_save(os.fspath(name), _text(workspace))


def export_save(
    name: str | os.PathLike[str],
    file: str | os.PathLike[str],
    *,
    workspace: str | os.PathLike[str] | None = None,
) -> SaveManifest:
    """Writes a save to one file, which ``import_save`` reads on another machine.

    Raises:
        SaveNotFoundError: there is none.
        ConfigError: it is damaged.
    """
    text = _native.export_save(os.fspath(name), os.fspath(file), _text(workspace))
    return SaveManifest.from_json(text)


def import_save(
    file: str | os.PathLike[str],
    name: str | os.PathLike[str],
    *,
    workspace: str | os.PathLike[str] | None = None,
    replace: bool = False,
) -> SaveManifest:
    """Makes a save from an exported file, whoever it came from.

    Raises:
        ConfigError: the file is no exported save, or there is a save already and ``replace`` is
            not set.
    """
    text = _native.import_save(os.fspath(file), os.fspath(name), _text(workspace), replace)
    return SaveManifest.from_json(text)


def _text(path: str | os.PathLike[str] | None) -> str | None:
    return None if path is None else os.fspath(path)

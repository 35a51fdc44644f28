"""Installs QEMU and images, as the ``quicksand`` command of the same wheel does."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterable
from importlib import metadata

from . import _native
from ._errors import ConfigError, ImageNotFoundError, InstallError

__all__ = ["AUTO_INSTALL", "command", "install", "install_missing", "may_install"]

AUTO_INSTALL = "QUICKSAND_AUTO_INSTALL"
"""The variable that has missing images installed when it is 1."""

_DISTRIBUTION = "quicksand-runtime"


def install(
    *names: str,
    index_url: str | None = None,
    find_links: str | os.PathLike[str] | Iterable[str | os.PathLike[str]] = (),
    upgrade: bool = False,
) -> None:
    """Installs packages into this interpreter's environment, all or none.

    They are chosen by the hardware (also where this interpreter is emulated), compared with the
    index's sha256 and verified. What is fetched is reported on stderr.

    Args:
        names: ``"qemu"``, ``"debian"``, ``"minimal"`` and so on, ``"all"``, or the paths of wheels;
            a version follows as in ``"debian==0.1.0"``.
        index_url: the index to ask; pip's configuration says it when ``None``.
        find_links: folders of wheels, or pages that link to wheels.
        upgrade: take the newest version even if another one is installed.

    Raises:
        ConfigError: a name is unknown; the hint offers the nearest one.
        InstallError: nothing was installed, and why.

    Example:
        >>> install("debain")
        Traceback (most recent call last):
            ...
        quicksand._errors.ConfigError: Unknown name `debain`
        hint: did you mean `debian` or `debian-agent` or `debian-desktop`?
    """
    if not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"Invalid value for `names`: {names!r}", 'name what to install: "qemu"')
    links = [find_links] if isinstance(find_links, (str, os.PathLike)) else list(find_links)
    folders = [os.fspath(link) for link in links]
    _install(list(names), index_url, folders, upgrade, _nothing)


def _install(
    names: list[str],
    index_url: str | None,
    find_links: list[str],
    upgrade: bool,
    go_on: Callable[[], None],
) -> None:
    listener = (_tell, go_on)
    _native.install(names, sys.executable or "", index_url, find_links, upgrade, listener)
    importlib.invalidate_caches()


def may_install(image: str) -> bool:
    """Whether an image that is missing is to be installed: the environment says so, and it has a name."""
    is_name = not any(mark in image for mark in (os.sep, "/")) and image not in (".", "..")
    return os.environ.get(AUTO_INSTALL) == "1" and is_name


def _nothing() -> None:
    """Ctrl-C alone ends an installation that is waited for in the caller's own thread."""


def install_missing(
    missing: ImageNotFoundError, image: str, go_on: Callable[[], None] = _nothing
) -> None:
    """Installs an image that a start did not find, unless ``go_on`` raises meanwhile.

    Raises:
        ImageNotFoundError: nothing of that name can be installed.
        InstallError: it could not be installed.
    """
    print(f"quicksand: installing {image}, which is missing ({AUTO_INSTALL}=1)", file=sys.stderr)
    try:
        _install([image], None, [], False, go_on)
    except ConfigError:
        # Nothing of that name can be installed.
        raise missing from None


def command() -> str:
    """The command that belongs to this package, wherever its installer put it."""
    try:
        files = metadata.files(_DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name in ("quicksand", "quicksand.exe"):
            return os.path.realpath(os.fspath(file.locate()))
    raise InstallError(
        "The `quicksand` command of this package was not found",
        f"install {_DISTRIBUTION} as a wheel",
    )


def _tell(line: str) -> None:
    print(line, file=sys.stderr)

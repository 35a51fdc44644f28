"""The Rust side's log as records of the logger ``quicksand``, silent unless it is configured.

Example:
    >>> import logging
    >>> logging.getLogger("quicksand").setLevel(logging.INFO)
"""

from __future__ import annotations

import logging

from . import _native

__all__ = ["emit", "refresh"]

_ROOT = logging.getLogger("quicksand")
# The convention for libraries: nothing goes to stderr unless the program asks for it.
_ROOT.addHandler(logging.NullHandler())


def emit(level: int, target: str, message: str) -> None:
    """Logs one event of the native module; ``target`` is the Rust module, with dots."""
    _ROOT.getChild(target).log(level, "%s", message)


def refresh() -> None:
    """Tells the native module from which level on events are worth the trip."""
    _native.set_log_level(_ROOT.getEffectiveLevel())

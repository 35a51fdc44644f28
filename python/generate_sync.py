"""Writes `quicksand/sync.py` from the asynchronous source: the same calls, without `async`.

    python generate_sync.py           writes the file
    python generate_sync.py --check   fails when the file is not what it would write

The classes are taken from their modules as they stand, docstrings included, and changed by the tables
below, word by word and phrase by phrase. A phrase that no class has any more is an error, so that the
tables stay true. `cargo xtask check python` compares.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent / "quicksand"

CLASSES = {
    "_shell.py": ["Shell"],
    "_users.py": ["SandboxUser"],
    "_desktop.py": ["Desktop"],
    "_sandbox.py": ["Sandbox", "AlpineSandbox", "AlpineDesktopSandbox", "DebianSandbox",
                    "DebianDesktopSandbox", "UbuntuSandbox", "UbuntuDesktopSandbox"],
}  # fmt: skip

WORDS = [
    (r"\basync (def|with|for)\b", r"\1"),
    (r"\bawait in_thread\((\w+), ", r"\1("),
    (r"\(await ((?:[^()]|\([^()]*\))*)\)\.", r"\1."),
    (r"\bawait ", ""),
    (r"\b__a(enter|exit|iter|next)__\b", r"__\1__"),
    (r"\bStopAsyncIteration\b", "StopIteration"),
    (r"\brun\(", "run_sync("),
    (r"\brun_fed\(", "run_sync_fed("),
    (r"\bAsyncInput\b", "Input"),
    (r"(?<![\w.])Shell\b", "SyncShell"),
    (r"(?<![\w.`])SandboxUser\b", "SyncSandboxUser"),
    (r"^ *>>> import asyncio\n", ""),
    (r">>> asyncio\.run_sync\((.*)\)$", r">>> \1"),
    (r">>> from quicksand import Sandbox$", ">>> from quicksand.sync import Sandbox"),
]

PHRASES = {
    '"""A virtual machine for untrusted work.\n': (
        '"""``quicksand.Sandbox`` with blocking methods, for ``with`` and for threads.\n\n'
        "    A virtual machine for untrusted work. Ctrl-C during a call cancels it and leaves nothing\n"
        "    behind.\n"
    ),
    "called in the event loop as ``(stage, current, total)`` while the\n            machine starts.": (
        "called in the calling thread as ``(stage, current, total)`` while the\n"
        "            machine starts."
    ),
    "Cancelling the task that waits kills the command and its children in the guest, and so\n"
    "        does an exception from a callback, which is then raised here.": (
        "Ctrl-C kills the command and its children in the guest, and so does an exception from a\n"
        "        callback, which is then raised here."
    ),
    "an iterable (asynchronous too) whose pieces": "an iterable whose pieces",
    '"""A shell, or another program, in a terminal of the guest.\n': (
        '"""``quicksand.Shell`` with blocking methods.\n\n'
        "    A shell, or another program, in a terminal of the guest.\n"
    ),
    '"""A user of the guest; made by ``Sandbox.create_user``.\n': (
        '"""``quicksand.SandboxUser`` with blocking methods; made by ``Sandbox.create_user``.\n'
    ),
    '"""The calls of desktop control, ': (
        '"""``quicksand.Sandbox``\'s calls of desktop control with blocking methods.\n\n'
        "    They are "
    ),
}

HEADER = '''"""The same sandbox without ``async``: each call blocks the calling thread, and only it.

Example:
    >>> from quicksand.sync import Sandbox
    >>> with Sandbox(image="minimal") as sb:
    ...     print(sb.execute("echo hello").stdout, end="")
    hello
"""

# Written by python/generate_sync.py from the asynchronous source: change that, and write it again.

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Literal

from ._base import (
    AnyPath,
    BaseSandbox,
    Checkpoint,
    ExecuteResult,
    GuestPath,
    Metrics,
    MountHandle,
    Output,
    Transfer,
)
from ._bridge import run_sync
from ._config import Forward, PortForward, read_forward
from ._desktop import BaseDesktop, Key, Region, keep_picture
from ._enums import MountType
from ._errors import ImageNotFoundError
from ._input import Input, run_sync_fed
from ._install import install_missing, may_install
from ._saves import SaveManifest
from ._shell import BaseShell, Terminal
from ._users import User
from ._users import fields as user_fields

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "AlpineDesktopSandbox",
    "AlpineSandbox",
    "DebianDesktopSandbox",
    "DebianSandbox",
    "Sandbox",
    "SyncSandboxUser",
    "SyncShell",
    "UbuntuDesktopSandbox",
    "UbuntuSandbox",
]
'''


def classes(file: str, names: list[str]) -> list[str]:
    """The source of these classes of a module, decorators included."""
    source = (PACKAGE / file).read_text(encoding="utf-8")
    lines = source.splitlines(keepends=True)
    found = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef) and node.name in names:
            first = min([node.lineno, *(it.lineno for it in node.decorator_list)])
            found[node.name] = "".join(lines[first - 1 : node.end_lineno])
    missing = [name for name in names if name not in found]
    if missing:
        sys.exit(f"error: {file} has no class {missing[0]}")
    return [found[name] for name in names]


def generated() -> str:
    """The text of the synchronous module."""
    parts = [part for file, names in CLASSES.items() for part in classes(file, names)]
    text = "\n\n".join(parts)
    for phrase, other in PHRASES.items():
        if phrase not in text:
            sys.exit(f"error: no class says this any more:\n{phrase}")
        text = text.replace(phrase, other)
    for word, other in WORDS:
        text = re.sub(word, other, text, flags=re.MULTILINE)
    left = re.search(r"^.*\b(await|async|asyncio)\b.*$", text, re.MULTILINE)
    if left is not None:
        sys.exit(f"error: this is not without async:\n{left.group()}")
    return f"{HEADER}\n\n{text}"


def main() -> None:
    """Writes the module, or compares it."""
    path = PACKAGE / "sync.py"
    text = generated()
    if sys.argv[1:] == ["--check"]:
        if path.read_text(encoding="utf-8") != text:
            sys.exit("error: python/quicksand/sync.py is not what its source gives\n"
                     "hint: python3 python/generate_sync.py writes it again")  # fmt: skip
    elif sys.argv[1:]:
        sys.exit("error: allowed is --check, or nothing")
    else:
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

"""Every Python example of docs/ runs.

The blocks of a page run in their order, with one set of names, in a folder of the page's own. The
name `sb` is the machine that these tests share; blocks that start others say so themselves.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import time
from pathlib import Path

import pytest
import quicksand
from quicksand import Sandbox

DOCS = Path(__file__).parents[2] / "docs" / "src"
BLOCK = re.compile(r"^```python([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGES = sorted(page for page in DOCS.rglob("*.md") if BLOCK.search(page.read_text("utf-8")))


def blocks(page: Path) -> list[tuple[int, str, str]]:
    """The examples of a page: line, what stands behind `python`, code."""
    text = page.read_text("utf-8")
    return [
        (text.count("\n", 0, found.start()) + 2, found[1].strip(), found[2])
        for found in BLOCK.finditer(text)
    ]


def test_there_are_pages() -> None:
    assert len(PAGES) >= 10


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of(
    page: Path, sb: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    names = {name: getattr(quicksand, name) for name in quicksand.__all__}

    async def run() -> None:
        for line, mark, code in blocks(page):
            # The line numbers of an error are those of the page.
            tree = compile(
                "\n" * (line - 1) + code,
                str(page),
                "exec",
                ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | (ast.PyCF_ONLY_AST if mark else 0),
            )
            # What needs an image that is not here (`python,ignore`) must still be Python.
            if mark:
                assert mark == ",ignore"
                continue
            # An example that starts a machine of its own calls it by the same name.
            names["sb"] = sb
            outcome = eval(tree, names)
            if inspect.iscoroutine(outcome):
                await outcome

    begin = time.monotonic()
    asyncio.run(run())
    assert time.monotonic() - begin < 120

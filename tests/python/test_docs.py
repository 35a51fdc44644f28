"""The examples of the docstrings run, the stubs are true, and type checkers agree."""

from __future__ import annotations

import ast
import asyncio
import doctest
import importlib
import inspect
import json
import os
import pkgutil
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import quicksand
from quicksand import Sandbox, _native

MODULES = ["quicksand"] + [
    f"quicksand.{module.name}" for module in pkgutil.iter_modules(quicksand.__path__)
]


@pytest.mark.parametrize("name", [name for name in MODULES if name != "quicksand._native"])
def test_examples(name: str) -> None:
    module = importlib.import_module(name)
    failed, _ = doctest.testmod(module, extraglobs=vars(quicksand).copy())
    assert failed == 0


def functions() -> dict[str, str]:
    """The examples that are functions of a running sandbox, by their name."""
    found = {}
    for module in map(importlib.import_module, MODULES):
        for test in doctest.DocTestFinder().find(module):
            for example in test.examples:
                defined = re.match(r"async def (\w+)\(sb\):", example.source)
                if defined:
                    found[defined[1]] = example.source
    # This one needs somebody at a terminal; test_shell.py has one.
    del found["look_around"]
    return found


FUNCTIONS = functions()


def test_there_are_functions_of_a_sandbox() -> None:
    assert len(FUNCTIONS) >= 12


@pytest.mark.parametrize("name", FUNCTIONS)
def test_an_example_that_is_a_function(
    name: str, sb: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("code", "project"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "file").write_text("content")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    names = vars(quicksand).copy()
    exec(FUNCTIONS[name].replace("8080", str(port)), names)

    async def call() -> object:
        if name == "restrict":
            async with Sandbox(image="minimal", memory="256M", network_mode="full") as full:
                return await names[name](full)
        await sb.execute("mkdir -p /root/out && echo content > /root/out/file")
        try:
            return await names[name](sb)
        finally:
            if "alice" in FUNCTIONS[name]:
                await sb.delete_user("alice")
            for forward in await sb.port_forwards():
                await sb.remove_forward(forward)

    outcome = asyncio.run(call())
    expect = {
        "as_alice": "alice\n",
        "count": ("1\n2\n3\n", 0),
        "count_files": 0,
        "results": 8,
        "send": 1,
        "who": "alice\n/home/alice\n",
    }
    assert name not in expect or outcome == expect[name]


def test_there_are_examples() -> None:
    for thing in (quicksand, quicksand.Sandbox, quicksand.Sandbox.execute, quicksand.SandboxConfig):
        assert ">>>" in (thing.__doc__ or "")


@pytest.mark.parametrize("name", quicksand.__all__)
def test_every_export_is_there_and_documented(name: str) -> None:
    thing = getattr(quicksand, name)
    if not isinstance(thing, str):
        assert inspect.getdoc(thing)


def test_the_stub_names_what_the_native_module_has() -> None:
    stub = ast.parse((Path(quicksand.__file__).parent / "_native.pyi").read_text())
    declared = {
        node.name if not isinstance(node, ast.AnnAssign) else node.target.id  # type: ignore[union-attr]
        for node in stub.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.AnnAssign))
    }
    actual = {name for name in vars(_native) if not name.startswith("__")} | {"__version__"}
    assert declared == actual
    for node in stub.body:
        if isinstance(node, ast.ClassDef):
            members = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
            public = {
                name for name in vars(getattr(_native, node.name)) if not name.startswith("__")
            }
            assert members - {"__init__"} == public


def test_mypy_accepts_the_package() -> None:
    run_mypy(["--strict", "-p", "quicksand"])


def test_mypy_accepts_a_users_script_and_refuses_a_wrong_one(tmp_path: Path) -> None:
    good = tmp_path / "good.py"
    good.write_text(
        "from quicksand import ExecuteResult, NetworkMode, Sandbox\n"
        "async def main() -> str:\n"
        "    async with Sandbox(image='debian', memory='2G', cpus=4,\n"
        "                       network_mode=NetworkMode.FULL) as sb:\n"
        "        result: ExecuteResult = await sb.execute('ls', on_stdout=print)\n"
        "        return result.stdout\n"
    )
    run_mypy(["--strict", str(good)])
    bad = tmp_path / "bad.py"
    bad.write_text("from quicksand import Sandbox\nSandbox(image='debian', memroy='2G')\n")
    done = mypy(["--strict", str(bad)])
    assert done.returncode == 1
    assert "memroy" in done.stdout


def test_pyright_accepts_the_package_and_refuses_a_wrong_script(tmp_path: Path) -> None:
    assert pyright(Path(quicksand.__file__).parent, tmp_path) == []
    script = tmp_path / "script.py"
    script.write_text(
        "from quicksand import Sandbox\n"
        "async def main() -> int:\n"
        "    async with Sandbox(image='debian', cpus=2) as sb:\n"
        "        async with await sb.shell() as shell:\n"
        "            async for text in shell:\n"
        "                print(text.upper())\n"
        "        alice = await sb.create_user('alice')\n"
        "        return (await alice.execute('ls', stdin=[b'a'])).exit_code\n"
    )
    assert pyright(script, tmp_path) == []
    script.write_text("from quicksand import Sandbox\nSandbox(image='debian', memroy='2G')\n")
    assert any("memroy" in message for message in pyright(script, tmp_path))


def pyright(path: Path, settings: Path) -> list[str]:
    """Errors by Pyright's own standard, which basedpyright tightens; the test runner says where it is."""
    settings = settings / "pyrightconfig.json"
    settings.write_text(
        json.dumps({"typeCheckingMode": "standard", "include": [str(path)], "exclude": []})
    )
    done = subprocess.run(
        [
            os.environ["QUICKSAND_PYRIGHT"],
            "--outputjson",
            *("--project", settings),
            *("--pythonpath", sys.executable),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] > 0
    found = report["generalDiagnostics"]
    return [each["message"] for each in found if each["severity"] == "error"]


def run_mypy(arguments: list[str]) -> None:
    done = mypy(arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def mypy(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mypy", "--no-incremental", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )

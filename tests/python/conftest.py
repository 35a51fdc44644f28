"""Fixtures of the tests against the installed wheels.

`cargo xtask test python` installs the wheels of dist/ into an environment of their own and runs
pytest with its interpreter. Nothing is skipped when they are missing: such a run fails.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
import quicksand
from quicksand import Sandbox, SandboxError
from quicksand.sync import Sandbox as SyncSandbox
from seeing import events, until


@pytest.fixture(scope="session", autouse=True)
def _installed() -> None:
    """The package under test is the installed wheel, not a folder of the source tree."""
    site_packages = Path(sysconfig.get_path("platlib")).resolve()
    assert Path(quicksand.__file__).resolve().is_relative_to(site_packages)


@pytest.fixture(scope="session")
def command() -> str:
    """The `quicksand` command beside the interpreter."""
    return os.path.join(os.path.dirname(sys.executable), "quicksand")


@pytest.fixture(scope="session")
def sb() -> Iterator[Sandbox]:
    """One running `minimal` for all tests that leave no traces in it.

    Each test drives it from an event loop of its own.
    """
    sandbox = Sandbox(image="minimal", memory="256M", cpus=2)
    asyncio.run(sandbox.start())
    yield sandbox
    asyncio.run(sandbox.stop())


@pytest.fixture(scope="session")
def desktop() -> Iterator[SyncSandbox]:
    """One running `desktop-test`, whose window is there, for all tests that look at a screen."""
    with SyncSandbox(image="desktop-test", enable_display=True, vnc="port") as sandbox:
        with pytest.raises(SandboxError, match="1024x768"):
            sandbox.set_display_size(1024, 768)  # There is no X server yet.
        until(lambda: any("ready" in line for line in events(sandbox)), 120, "the window")
        yield sandbox


@pytest.fixture
def is_gone():
    """Tells whether a process has ended."""

    def check(pid: int) -> bool:
        status = subprocess.run(
            ["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False
        )
        return status.stdout.strip() in ("", "Z")

    return check

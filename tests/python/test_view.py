"""`quicksand view`: a machine's screen in a browser, for who holds the secret."""

from __future__ import annotations

import http.client
import io
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from browser import Browser
from PIL import Image
from quicksand import Key
from quicksand.sync import Sandbox
from seeing import GREEN, RED, events, find, keep, look, middle, until


class View:
    """A running `quicksand view`."""

    def __init__(self, command: str, sb: Sandbox) -> None:
        self.process = subprocess.Popen(
            [command, "view", f"vnc://127.0.0.1:{sb.vnc_port}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{sb.vnc_password}\n")
        self.process.stdin.flush()
        self.address = self.process.stdout.readline().strip()
        parts = urlsplit(self.address)
        self.host, self.path = parts.netloc, parts.path

    def status(self, path: str, **headers: str) -> int:
        connection = http.client.HTTPConnection(self.host, timeout=10)
        connection.request("GET", path, headers=headers)
        status = connection.getresponse().status
        connection.close()
        return status


@pytest.fixture(scope="module")
def view(command: str, desktop: Sandbox) -> Iterator[View]:
    view = View(command, desktop)
    yield view
    view.process.terminate()
    assert view.process.wait(10) == 143


def test_only_the_secret_lets_in(view: View) -> None:
    assert view.host.startswith("127.0.0.1:") and len(view.path) == 34
    assert view.status(view.path) == 200
    assert view.status(view.path + "novnc/core/rfb.js") == 200
    wrong = "/" + "0" * 32 + "/"
    for path in ["/", "/password", "/socket", wrong, wrong + "password", wrong + "socket"]:
        assert view.status(path) == 403, path


def test_other_pages_are_refused(view: View) -> None:
    upgrade = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    socket = view.path + "socket"
    assert view.status(socket, Origin=f"http://{view.host}", **upgrade) == 101
    assert view.status(socket, Origin="http://example.org", **upgrade) == 403
    assert view.status(socket, Origin="null", **upgrade) == 403
    assert view.status(socket, Host="example.org", **upgrade) == 403
    assert view.status(view.path + "password", Origin="http://example.org") == 403


def test_the_password_is_in_no_address_and_no_command_line(view: View, desktop: Sandbox) -> None:
    password = desktop.vnc_password
    assert password and password not in view.address
    line = Path(f"/proc/{view.process.pid}/cmdline").read_bytes()
    assert password.encode() not in line
    assert password not in " ".join(desktop.qemu_command)


def test_a_browser_shows_the_screen_and_reaches_it(
    view: View, desktop: Sandbox, tmp_path: Path
) -> None:
    desktop.press_key(Key.ESC)
    until(lambda: find(look(desktop), RED), 10, "the red button")
    browser = Browser(view.address, desktop.query_display_size(), tmp_path)
    try:
        until(lambda: browser.value("document.body.dataset.state") == "connected", 30, "VNC")
        shown = until(lambda: find(seen(browser), RED), 20, "the button in the browser")
        keep("view-in-a-browser", browser.screenshot())
        assert shown == find(look(desktop), RED)
        password = desktop.vnc_password
        assert password and password not in str(browser.value("location.href"))
        before = len(events(desktop))
        browser.click(*middle(shown))
        until(lambda: "pressed" in events(desktop)[before:], 20, "the click from the browser")
        until(lambda: find(seen(browser), GREEN), 20, "the green button in the browser")
    finally:
        browser.close()


def seen(browser: Browser) -> Image.Image:
    return Image.open(io.BytesIO(browser.screenshot())).convert("RGB")


@pytest.mark.parametrize("address", ["10.0.0.1:5900", "example.org:5900", "nowhere"])
def test_only_this_computer_is_viewed(command: str, address: str) -> None:
    done = subprocess.run([command, "view", address], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and address in done.stderr


def test_a_missing_machine_is_told_at_once(command: str) -> None:
    done = subprocess.run(
        [command, "view", "1"], input="password\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == 1 and "No VNC server answers" in done.stderr

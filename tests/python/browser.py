"""Chromium without a window, driven over its debugging pipe (descriptors 3 and 4, messages end with
a NUL): https://chromedevtools.github.io/devtools-protocol/."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

BROWSERS = ["chromium", "chromium-browser", "google-chrome"]
OPTIONS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
]

#: Gives two descriptors the numbers that the browser expects, and becomes it.
AS_3_AND_4 = """
import fcntl, os, sys
pair = [fcntl.fcntl(int(n), fcntl.F_DUPFD, 10) for n in sys.argv[1:3]]
os.dup2(pair[0], 3)
os.dup2(pair[1], 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """One page of a browser of its own."""

    def __init__(self, address: str, size: tuple[int, int], home: Path) -> None:
        program = next(filter(None, map(shutil.which, BROWSERS)), None)
        assert program, f"none of {BROWSERS} is installed"
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        line = [
            program,
            *OPTIONS,
            f"--user-data-dir={home / 'profile'}",
            f"--window-size={size[0]},{size[1]}",
        ]
        self.process = subprocess.Popen(
            [sys.executable, "-c", AS_3_AND_4, str(theirs_in), str(theirs_out), *line],
            pass_fds=(theirs_in, theirs_out),
            env={**os.environ, "HOME": str(home)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self.input, self.output = os.fdopen(ours_in, "rb"), os.fdopen(ours_out, "wb")
        self.count, self.rest, self.session = 0, b"", ""
        target = self.call("Target.createTarget", url=address)["targetId"]
        self.session = self.call("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        # The page is as large as the screen that it shows, so that pixels stay what they are.
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=size[0],
            height=size[1],
            deviceScaleFactor=1,
            mobile=False,
        )

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.count += 1
        request = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            request["sessionId"] = self.session
        self.output.write(json.dumps(request).encode() + b"\0")
        self.output.flush()
        while True:
            answer = json.loads(self.message())
            if answer.get("id") == self.count:
                assert "result" in answer, answer
                return answer["result"]

    def message(self) -> bytes:
        while b"\0" not in self.rest:
            more = os.read(self.input.fileno(), 1 << 20)
            assert more, "the browser has ended"
            self.rest += more
        message, self.rest = self.rest.split(b"\0", 1)
        return message

    def value(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression)["result"].get("value")

    def screenshot(self) -> bytes:
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    def click(self, x: int, y: int) -> None:
        for kind in ["mouseMoved", "mousePressed", "mouseReleased"]:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(20)
        self.input.close()
        self.output.close()

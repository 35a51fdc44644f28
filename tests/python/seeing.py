"""What the desktop tests share: pictures of a screen as pixels, and where they are kept."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageChops
from quicksand.sync import Sandbox

Pixel = tuple[int, int, int]
Box = tuple[int, int, int, int]


#: What the window of the image `desktop-test` is painted with.
BACKGROUND = (0x20, 0x40, 0x60)
RED, GREEN, AMBER = (0xD0, 0x20, 0x20), (0x20, 0xC0, 0x20), (0xE0, 0xA0, 0x00)


def keep(name: str, png: bytes) -> None:
    """Keeps a picture below QUICKSAND_ARTIFACTS, where that is set."""
    folder = os.environ.get("QUICKSAND_ARTIFACTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        Path(folder, f"{name}.png").write_bytes(png)


def look(sb: Sandbox, name: str | None = None) -> Image.Image:
    """Takes a picture, and keeps it when it has a name."""
    png = sb.screenshot()
    if name:
        keep(name, png)
    return Image.open(io.BytesIO(png)).convert("RGB")


def find(picture: Image.Image, colour: Pixel) -> Box | None:
    """The smallest box (left, top, right, bottom, all inside) around all pixels of a colour."""
    bands = ImageChops.difference(picture, Image.new("RGB", picture.size, colour)).split()
    worst = ImageChops.lighter(ImageChops.lighter(bands[0], bands[1]), bands[2])
    box = worst.point(lambda value: 255 if value == 0 else 0).getbbox()
    return box and (box[0], box[1], box[2] - 1, box[3] - 1)


def middle(box: Box) -> tuple[int, int]:
    return (box[0] + box[2]) // 2, (box[1] + box[3]) // 2


def events(sb: Sandbox) -> list[str]:
    """What the window of the image `desktop-test` has written down."""
    return sb.execute("cat /run/desktop/events 2>/dev/null; :", timeout=60).stdout.splitlines()


def until(true: Callable[[], object], seconds: float, what: str) -> object:
    """Asks again until the answer is true, and gives it."""
    end = time.monotonic() + seconds
    while True:
        answer = true()
        if answer:
            return answer
        assert time.monotonic() < end, f"not within {seconds} s: {what}"
        time.sleep(0.1)

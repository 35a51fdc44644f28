"""A loop that sees, decides and acts, as an agent with a screen does.

The rule that decides is small and needs no network: put a model's answer in its place. It looks for
the red button of the image `desktop-test` and presses it, and when the button has turned green it
says so in the text field.

    pip install pillow
    cargo xtask bake desktop-test
    QUICKSAND_IMAGE_PATH=dist python examples/desktop_agent.py
"""

from __future__ import annotations

import io
from collections.abc import Callable

from PIL import Image, ImageChops
from quicksand.sync import Sandbox

RED, GREEN = (0xD0, 0x20, 0x20), (0x20, 0xC0, 0x20)
MAX_STEPS = 20

Action = Callable[[Sandbox], None]


def see(sb: Sandbox) -> Image.Image:
    """What the screen shows, as pixels."""
    return Image.open(io.BytesIO(sb.screenshot())).convert("RGB")


def place_of(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int] | None:
    """The middle of what has a colour."""
    difference = ImageChops.difference(picture, Image.new("RGB", picture.size, colour))
    # The bands' largest difference, turned over: what is left is exactly of that colour.
    red, green, blue = difference.split()
    worst = ImageChops.lighter(ImageChops.lighter(red, green), blue)
    box = worst.point(lambda value: 255 if value == 0 else 0).getbbox()
    return ((box[0] + box[2]) // 2, (box[1] + box[3]) // 2) if box else None


def decide(picture: Image.Image) -> tuple[str, Action | None]:
    """What to do about a picture, in words and as an action; without an action all is done."""
    if red := place_of(picture, RED):

        def press(sb: Sandbox) -> None:
            sb.mouse_move(*red, unit="px")
            sb.mouse_click("left")

        return f"press the button at {red}", press
    if place_of(picture, GREEN):
        return "the button is green", None
    return "wait for the window", lambda sb: None


def work(sb: Sandbox) -> None:
    """Repeats until nothing is left to do."""
    for _ in range(MAX_STEPS):
        words, act = decide(see(sb))
        print(words)
        if act is None:
            sb.type_text("done\n")
            return
        act(sb)
        # The next picture is worth a look when something has come of it.
        sb.wait_for_change(timeout=10)
    raise TimeoutError(f"not done after {MAX_STEPS} steps")


if __name__ == "__main__":
    with Sandbox(image="desktop-test", enable_display=True) as sandbox:
        work(sandbox)

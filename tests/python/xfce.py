"""The real desktop: what a person does in front of Xfce, through the screen, keyboard and mouse.

Run on demand by `cargo xtask test desktop`, which bakes the image: the machine alone takes a minute
to come up where each instruction is translated. Pictures of each step are kept.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from quicksand import Key
from quicksand.sync import Sandbox
from seeing import find, look, middle, until

BLACK = (0, 0, 0)
PANEL = (0xF6, 0xF5, 0xF4)


@pytest.fixture(scope="module")
def sb() -> Iterator[Sandbox]:
    begin = time.monotonic()
    with Sandbox(image="debian-desktop", enable_display=True, memory="1G") as sandbox:
        until(lambda: is_there(sandbox), 300, "the panels of the desktop")
        sandbox.wait_for_change(10)
        look(sandbox, "1-desktop")
        print(f"\ndesktop ready after {time.monotonic() - begin:.1f} s")
        yield sandbox


def is_there(sb: Sandbox) -> bool:
    """Whether a panel reaches from the upper left to the lower half, and the icons are drawn."""
    box = find(look(sb), PANEL)
    return box is not None and box[1] < 5 and box[3] > 600


def terminal(sb: Sandbox, name: str) -> tuple[int, int, int, int]:
    """Where the black inside of the terminal's window is."""
    box = find(look(sb, name), BLACK)
    assert box is not None and box[2] - box[0] > 400, box
    return box


def test_the_desktop(sb: Sandbox) -> None:
    sb.press_key(Key.CTRL, Key.ALT, Key.T)
    prompt = "ps -o stat= -C bash | grep -q s+"
    until(lambda: sb.execute(prompt, timeout=60).exit_code == 0, 90, "a shell in the terminal")
    while sb.wait_for_change(3):
        pass
    first = terminal(sb, "2-terminal")

    text = "Hello!\n" + "".join(map(chr, range(32, 127))) + "\n"
    sb.type_text("cat > /tmp/typed\n")
    until(lambda: sb.execute("test -e /tmp/typed").exit_code == 0, 30, "the typed command")
    sb.type_text(text)
    sb.press_key(Key.CTRL, Key.D)
    until(lambda: sb.execute("! pgrep -x cat").exit_code == 0, 30, "the end of cat")
    look(sb, "3-typed")
    assert sb.execute("cat /tmp/typed").stdout == text

    start = ((first[0] + first[2]) // 2, first[1] - 39)
    sb.mouse_drag(start, (start[0] + 300, start[1] + 150), unit="px")
    moved = tuple(side + by for side, by in zip(first, (300, 150, 300, 150), strict=False))
    until(lambda: terminal(sb, "4-dragged") == moved, 20, f"the window at {moved}")

    sb.type_text("clear; seq 1 200\n")
    sb.wait_for_change(20)
    inside = (moved[0], moved[1], moved[2] - moved[0] - 30, moved[3] - moved[1] - 30)
    end = sb.screenshot(region=inside)
    sb.mouse_move(*middle(moved), unit="px")
    for _ in range(3):
        sb.mouse_click("wheel-up")
    until(lambda: sb.screenshot(region=inside) != end, 20, "older lines")
    look(sb, "5-scrolled")
    for _ in range(3):
        sb.mouse_click("wheel-down")
    until(lambda: sb.screenshot(region=inside) == end, 20, "the last lines again")

    # The cross at the right end of the title's bar is the last that is dark there.
    row = moved[1] - 39
    picture = look(sb)
    dark = [x for x in range(moved[0], moved[2] + 20) if sum(picture.getpixel((x, row))) < 250]
    sb.mouse_move(dark[-1] - 3, row, unit="px")
    sb.mouse_click()
    until(lambda: sb.execute("! pgrep -x xfce4-terminal").exit_code == 0, 30, "its end")
    until(lambda: find(look(sb, "6-closed"), BLACK) != moved, 20, "the window to go")

    sb.set_display_size(1920, 1080)
    sb.wait_for_change(20)
    assert look(sb, "7-larger").size == (1920, 1080)

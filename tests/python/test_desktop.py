"""The screen, keyboard and mouse in front of an X server: the image `desktop-test` has one window
that writes down each event, and shows what a person would see."""

from __future__ import annotations

import runpy
import string
from collections.abc import Callable
from pathlib import Path

import pytest
from quicksand import ConfigError, Key
from quicksand.sync import Sandbox
from seeing import AMBER, GREEN, RED, events, find, look, middle, until


@pytest.fixture
def sb(desktop: Sandbox) -> Sandbox:
    return desktop


@pytest.fixture
def observe(sb: Sandbox) -> Callable[[Callable[[], object], str], list[str]]:
    """Does something and gives the events up to the one that begins with `last`."""

    def observed(act: Callable[[], object], last: str) -> list[str]:
        before = len(events(sb))
        act()
        new: list[str] = []

        def has_come() -> bool:
            new[:] = events(sb)[before:]
            return any(line.startswith(last) for line in new)

        until(has_come, 20, f"`{last}`, only {new}")
        return new

    return observed


def test_every_character_arrives_once_and_in_order(sb: Sandbox, observe) -> None:
    printable = "".join(map(chr, range(32, 127)))
    assert set(string.ascii_letters + string.digits + string.punctuation) < set(printable)
    text = (printable * 11)[:1000]
    lines = observe(lambda: sb.type_text(text + "\n"), "line ")
    typed = [chr(int(line.split()[3])) for line in lines if is_character(line)]
    assert "".join(typed) == text + "\r"
    # The window has it in one line, in Tcl's spelling of a list.
    assert len([line for line in lines if line.startswith("line ")]) == 1
    hello = observe(lambda: sb.type_text("Hello!\n"), "line ")
    assert "line Hello!" in hello


def is_character(line: str) -> bool:
    return line.startswith("key down") and line.split()[3].isdigit()


def test_what_cannot_be_typed_is_refused_and_nothing_is_typed(sb: Sandbox) -> None:
    before = events(sb)
    with pytest.raises(ConfigError, match="U\\+6F22"):
        sb.type_text("abc漢")
    assert events(sb) == before


def test_the_names_that_agents_use_are_keys(sb: Sandbox, observe) -> None:
    lines = observe(lambda: sb.press_key("ctrl+Page_Down"), "key up Control_L")
    assert [line.split()[2] for line in lines] == ["Control_L", "Next", "Next", "Control_L"]
    lines = observe(lambda: sb.press_key("super"), "key up Super_L")
    assert [line.split()[2] for line in lines] == ["Super_L", "Super_L"]
    for wrong, hint in [("Retrun", "return"), ("sup", "names are"), ("é", "clipboard")]:
        with pytest.raises(ConfigError) as caught:
            sb.press_key(wrong)
        assert hint in caught.value.hint, caught.value.hint


def test_keys_go_down_in_order_and_up_in_reverse(sb: Sandbox, observe) -> None:
    lines = observe(lambda: sb.press_key(Key.CTRL, Key.SHIFT, Key.F5), "key up Control_L")
    assert [" ".join(line.split()[:3]) for line in lines] == [
        "key down Control_L",
        "key down Shift_L",
        "key down F5",
        "key up F5",
        "key up Shift_L",
        "key up Control_L",
    ]


def test_pixels_and_absolute_units_are_the_same_place(sb: Sandbox, observe) -> None:
    width, height = sb.query_display_size()
    assert (width, height) == look(sb).size
    observe(
        lambda: sb.mouse_move(width - 1, height - 1, unit="px"), f"motion {width - 1} {height - 1}"
    )
    observe(lambda: sb.mouse_move(700, 500, unit="px"), "motion 700 500")
    assert sb.query_mouse_position() == pytest.approx(
        (700 / width * 32768, 500 / height * 32768), abs=32
    )
    observe(lambda: sb.mouse_move(0, 0), "motion 0 0")
    observe(lambda: sb.mouse_move(16384, 16384), f"motion {width // 2} {height // 2}")


def test_each_button_goes_down_and_up_where_the_pointer_is(sb: Sandbox, observe) -> None:
    # The pointer goes on at once: nothing may be released or turned where it goes.
    for button, number in [
        ("right", 3),
        ("middle", 2),
        ("left", 1),
        ("wheel-up", 4),
        ("wheel-down", 5),
    ]:

        def act(button: str = button) -> None:
            sb.mouse_move(900, 600, unit="px")
            sb.mouse_click(button)
            sb.mouse_move(1000, 650, unit="px")

        lines = observe(act, "motion 1000 650")
        clicks = [line for line in lines if line.startswith("button")]
        assert clicks == [f"button down {number} 900 600", f"button up {number} 900 600"]


def test_a_double_click_is_one(sb: Sandbox, observe) -> None:
    sb.mouse_move(900, 500, unit="px")
    lines = observe(lambda: sb.mouse_click("left", double=True), "double 1 900 500")
    assert len([line for line in lines if line.startswith("button down 1")]) == 2


def test_a_button_found_in_a_picture_is_pressed(sb: Sandbox, observe) -> None:
    button = find(look(sb, "button-before"), RED)
    assert button is not None
    sb.mouse_move(*middle(button), unit="px")
    observe(sb.mouse_click, "pressed")
    seen = until(lambda: find(look(sb, "button-pressed"), GREEN), 10, "the green button")
    assert seen == pytest.approx(button, abs=2)


def test_what_is_dragged_goes_along(sb: Sandbox, observe) -> None:
    box = find(look(sb, "drag-before"), AMBER)
    assert box is not None
    (x, y), by = middle(box), (150, 90)
    observe(lambda: sb.mouse_drag((x, y), (x + by[0], y + by[1]), unit="px"), "dropped")
    there = (box[0] + by[0], box[1] + by[1], box[2] + by[0], box[3] + by[1])
    until(lambda: find(look(sb, "drag-after"), AMBER) == there, 10, f"the box at {there}")


def test_the_wheel_scrolls_and_scrolls_back(sb: Sandbox) -> None:
    sb.mouse_move(650, 300, unit="px")
    part = (570, 210, 150, 200)
    top = sb.screenshot(region=part)
    sb.mouse_click("wheel-down")
    until(lambda: sb.screenshot(region=part) != top, 10, "a scrolled list")
    look(sb, "scrolled")
    sb.mouse_click("wheel-up")
    until(lambda: sb.screenshot(region=part) == top, 10, "the list's beginning")


def test_the_example_of_an_agent(sb: Sandbox, observe) -> None:
    sb.press_key(Key.ESC)
    until(lambda: find(look(sb), RED), 10, "the red button")
    example = Path(__file__).parents[2] / "examples" / "desktop_agent.py"
    loop = runpy.run_path(str(example))["work"]
    lines = observe(lambda: loop(sb), "line done")
    assert "line done" in lines and "pressed" in lines
    assert find(look(sb, "agent"), GREEN) is not None


def test_the_display_takes_any_size(sb: Sandbox) -> None:
    first = sb.query_display_size()
    for size in [(1920, 1080), (1023, 767), first]:
        sb.set_display_size(*size)
        assert sb.query_display_size() == size == look(sb).size
        asked = sb.execute(
            "DISPLAY=:0 xrandr | sed -n 's/.* connected [a-z ]*\\([0-9x]*\\).*/\\1/p'"
        )
        assert asked.stdout.strip() == f"{size[0]}x{size[1]}"
    for wrong in [(0, 768), (1024, 100), (9000, 768)]:
        with pytest.raises(ConfigError, match="320 to 8192"):
            sb.set_display_size(*wrong)

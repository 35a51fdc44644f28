"""Desktop control: what the screen shows, and the keyboard and mouse in front of it."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Sequence
from enum import Enum
from typing import TYPE_CHECKING

from ._bridge import run
from ._errors import ConfigError

if TYPE_CHECKING:
    from typing import Literal

    from ._bridge import Begin
    from ._native import Machine

__all__ = ["Desktop", "Key"]


class Key(str, Enum):
    """A key, by QEMU's name for it (``QKeyCode``)."""

    A = "a"
    B = "b"
    C = "c"
    D = "d"
    E = "e"
    F = "f"
    G = "g"
    H = "h"
    I = "i"  # noqa: E741
    J = "j"
    K = "k"
    L = "l"
    M = "m"
    N = "n"
    O = "o"  # noqa: E741
    P = "p"
    Q = "q"
    R = "r"
    S = "s"
    T = "t"
    U = "u"
    V = "v"
    W = "w"
    X = "x"
    Y = "y"
    Z = "z"
    KEY_0 = "0"
    KEY_1 = "1"
    KEY_2 = "2"
    KEY_3 = "3"
    KEY_4 = "4"
    KEY_5 = "5"
    KEY_6 = "6"
    KEY_7 = "7"
    KEY_8 = "8"
    KEY_9 = "9"
    F1 = "f1"
    F2 = "f2"
    F3 = "f3"
    F4 = "f4"
    F5 = "f5"
    F6 = "f6"
    F7 = "f7"
    F8 = "f8"
    F9 = "f9"
    F10 = "f10"
    F11 = "f11"
    F12 = "f12"
    SHIFT = "shift"
    SHIFT_R = "shift_r"
    CTRL = "ctrl"
    CTRL_R = "ctrl_r"
    ALT = "alt"
    ALT_R = "alt_r"
    META_L = "meta_l"
    META_R = "meta_r"
    CAPS_LOCK = "caps_lock"
    NUM_LOCK = "num_lock"
    SCROLL_LOCK = "scroll_lock"
    RET = "ret"
    SPC = "spc"
    TAB = "tab"
    BACKSPACE = "backspace"
    ESC = "esc"
    DELETE = "delete"
    INSERT = "insert"
    HOME = "home"
    END = "end"
    PGUP = "pgup"
    PGDN = "pgdn"
    UP = "up"
    DOWN = "down"
    LEFT = "left"
    RIGHT = "right"
    MINUS = "minus"
    EQUAL = "equal"
    BRACKET_LEFT = "bracket_left"
    BRACKET_RIGHT = "bracket_right"
    BACKSLASH = "backslash"
    SEMICOLON = "semicolon"
    APOSTROPHE = "apostrophe"
    GRAVE_ACCENT = "grave_accent"
    COMMA = "comma"
    DOT = "dot"
    SLASH = "slash"
    PRINT = "print"
    PAUSE = "pause"
    MENU = "menu"
    KP_0 = "kp_0"
    KP_1 = "kp_1"
    KP_2 = "kp_2"
    KP_3 = "kp_3"
    KP_4 = "kp_4"
    KP_5 = "kp_5"
    KP_6 = "kp_6"
    KP_7 = "kp_7"
    KP_8 = "kp_8"
    KP_9 = "kp_9"
    KP_ADD = "kp_add"
    KP_SUBTRACT = "kp_subtract"
    KP_MULTIPLY = "kp_multiply"
    KP_DIVIDE = "kp_divide"
    KP_DECIMAL = "kp_decimal"
    KP_ENTER = "kp_enter"
    AUDIO_MUTE = "audiomute"
    VOLUME_UP = "volumeup"
    VOLUME_DOWN = "volumedown"
    AUDIO_PLAY = "audioplay"
    AUDIO_STOP = "audiostop"
    AUDIO_NEXT = "audionext"
    AUDIO_PREV = "audioprev"
    AC_BACK = "ac_back"
    AC_FORWARD = "ac_forward"
    AC_HOME = "ac_home"
    AC_REFRESH = "ac_refresh"
    AC_BOOKMARKS = "ac_bookmarks"
    MAIL = "mail"
    CALCULATOR = "calculator"
    SLEEP = "sleep"
    WAKE = "wake"

    def __str__(self) -> str:
        return str(self.value)


Region = tuple[int, int, int, int]


class BaseDesktop:
    """Checks the arguments of calls; the waiting is left to others."""

    _machine: Machine

    @property
    def vnc_port(self) -> int | None:
        """The VNC server's port on 127.0.0.1 while a machine with a display runs; ``None`` without a
        display, and with ``vnc="off"``."""
        return self._machine.vnc_port

    @property
    def vnc_password(self) -> str | None:
        """What the VNC server asks for: eight characters, drawn again at each start."""
        return self._machine.vnc_password

    def _begin_screenshot(self, region: Region | None, scale: float | None) -> Begin:
        if region is not None:
            if len(region) != 4:
                raise _wrong("region", region, "four numbers: x, y, width, height")
            x, y, width, height = (_count("region", part) for part in region)
            region = (x, y, width, height)
        factor = _number("scale", scale)
        return lambda wake: self._machine.desktop.screenshot(wake, region, factor)

    def _begin_wait(self, timeout: float) -> Begin:
        seconds = _number("timeout", timeout)
        if seconds is None or seconds < 0:
            raise _wrong("timeout", timeout, "seconds, 0 or more")
        return lambda wake: self._machine.desktop.wait_for_change(wake, seconds)

    def _begin_type(self, text: str) -> Begin:
        if not isinstance(text, str):
            raise TypeError(f"text is a string, not {type(text).__name__}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise _wrong("text", text[error.start], "characters of a US keyboard") from None
        return lambda wake: self._machine.desktop.type_text(wake, text)

    def _begin_press(self, keys: Sequence[Key | str]) -> Begin:
        if not keys:
            raise _wrong("keys", "", "at least one key")
        for key in keys:
            if not isinstance(key, str):
                raise TypeError(f"a key is its name, not {type(key).__name__}")
            if any("\ud800" <= character <= "\udfff" for character in key):
                raise _wrong("keys", key, "names of keys, such as ctrl, Return, f1, a, or ctrl+s")
        names = [str(key) for key in keys]
        return lambda wake: self._machine.desktop.press_key(wake, names)

    def _begin_move(self, x: int, y: int, unit: str) -> Begin:
        x, y = _count("x", x), _count("y", y)
        return lambda wake: self._machine.desktop.mouse_move(wake, x, y, unit)

    def _begin_click(self, button: str, double: bool) -> Begin:
        return lambda wake: self._machine.desktop.mouse_click(wake, button, bool(double))

    def _begin_drag(
        self, start: tuple[int, int], end: tuple[int, int], button: str, unit: str
    ) -> Begin:
        start, end = _place(start), _place(end)
        return lambda wake: self._machine.desktop.mouse_drag(wake, start, end, button, unit)

    def _begin_query_size(self) -> Begin:
        return self._machine.desktop.query_display_size

    def _begin_resize(self, width: int, height: int) -> Begin:
        width, height = _count("width", width), _count("height", height)
        return lambda wake: self._machine.desktop.set_display_size(wake, width, height)

    def _begin_query_position(self) -> Begin:
        return self._machine.desktop.query_mouse_position


def keep_picture(path: str | os.PathLike[str] | None, picture: bytes) -> bytes:
    """Writes a picture beside its place and moves it there, so that nobody sees half of one."""
    if path is not None:
        path = os.path.abspath(os.fspath(path))
        folder, name = os.path.split(path)
        descriptor, beside = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(picture)
            os.replace(beside, path)
        except BaseException:
            os.unlink(beside)
            raise
    return picture


class Desktop(BaseDesktop):
    """The calls of desktop control, for a sandbox made with ``enable_display=True``.

    Every one raises ``SandboxError`` when the sandbox has no display and ``NotRunningError`` when
    it does not run.

    Example:
        A loop that looks, acts, and waits until the screen has settled:

        async with Sandbox(image="debian-desktop", enable_display=True) as sb:
            while not await sb.wait_for_change(timeout=60):
                pass
            await sb.screenshot("screen.png")
            await sb.mouse_click("left")
            await sb.type_text("Hello!\n")
    """

    async def screenshot(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        region: Region | None = None,
        scale: float | None = None,
    ) -> bytes:
        """Takes a picture of the screen.

        Args:
            path: where to write it, too.
            region: the part to take: x, y, width, height in pixels.
            scale: a factor for its size, above 0 and at most 1.

        Returns:
            The picture as PNG.

        Raises:
            ConfigError: the region is not inside the screen, or the scale is not allowed.
        """
        return keep_picture(path, await run(self._begin_screenshot(region, scale)))

    async def wait_for_change(self, timeout: float = 10.0) -> bool:
        """Waits until the screen differs from what it shows now, and has settled.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether it changed. A screen that never rests has changed, too.
        """
        changed: bool = await run(self._begin_wait(timeout))
        return changed

    async def type_text(self, text: str) -> None:
        """Types printable ASCII, newlines as Return, and tabs.

        Other characters go into the guest by its clipboard: write them to ``xclip`` with
        ``execute(..., stdin=...)`` and press Ctrl+V.

        Raises:
            ConfigError: a character is on no key; nothing was typed then.
        """
        await run(self._begin_type(text))

    async def press_key(self, *keys: Key | str) -> None:
        """Presses keys in order, holds them for 100 ms, releases them in reverse.

        Args:
            *keys: such as ``Key.CTRL, Key.C``, or the names of keys: QEMU's (``"pgdn"``), X11's
                (``"Page_Down"``, ``"super"``, ``"XF86AudioMute"``), browsers' (``"ArrowLeft"``),
                or a character of a US keyboard; ``+`` joins keys in one name (``"ctrl+s"``).

        Raises:
            ConfigError: no key has that name; nothing was pressed then.

        Example:
            await sb.press_key("ctrl+shift+t")
        """
        await run(self._begin_press(keys))

    async def mouse_move(self, x: int, y: int, *, unit: Literal["abs", "px"] = "abs") -> None:
        """Moves the pointer.

        Args:
            x: from the left edge.
            y: from the upper edge.
            unit: ``"abs"`` counts 0 to 32767 from edge to edge, ``"px"`` counts pixels.
        """
        await run(self._begin_move(x, y, unit))

    async def mouse_click(self, button: str = "left", *, double: bool = False) -> None:
        """Clicks where the pointer is.

        Args:
            button: ``left``, ``right``, ``middle``, ``wheel-up`` or ``wheel-down``.
            double: click twice with 50 ms between.
        """
        await run(self._begin_click(button, double))

    async def mouse_drag(
        self,
        start: tuple[int, int],
        end: tuple[int, int],
        *,
        button: str = "left",
        unit: Literal["abs", "px"] = "abs",
    ) -> None:
        """Moves to ``start``, and from there to ``end`` with the button held."""
        await run(self._begin_drag(start, end, button, unit))

    async def query_display_size(self) -> tuple[int, int]:
        """Width and height of the screen in pixels."""
        size: tuple[int, int] = await run(self._begin_query_size())
        return size

    async def set_display_size(self, width: int, height: int) -> None:
        """Gives the screen another size, through ``xrandr`` in the guest.

        Args:
            width: pixels, 320 to 8192.
            height: pixels, 320 to 8192.

        Raises:
            ConfigError: another number.
            SandboxError: no X server is there to do it (a text console, a Wayland session, a boot),
                or it refuses; the message says which.

        Example:
            await sb.set_display_size(1920, 1080)
        """
        await run(self._begin_resize(width, height))

    async def query_mouse_position(self) -> tuple[int, int] | None:
        """Where the last movement put the pointer (0 to 32767); ``None`` before the first."""
        place: tuple[int, int] | None = await run(self._begin_query_position())
        return place


def _wrong(option: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"Invalid value for `{option}`: {value!r}", f"allowed: {allowed}")


def _count(option: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**32:
        raise _wrong(option, value, "a whole number, 0 or more")
    return value


def _place(place: tuple[int, int]) -> tuple[int, int]:
    x, y = place
    return _count("x", x), _count("y", y)


def _number(option: str, value: object) -> float | None:
    if value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):  # type: ignore[arg-type]
        raise _wrong(option, value, "a number")
    return float(value)  # type: ignore[arg-type]

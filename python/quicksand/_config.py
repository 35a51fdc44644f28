"""The options of a sandbox: an immutable, checked value that goes to and from JSON.

This module looks at shapes (is it a string, a number, a sequence); what the values mean is known
to the native module alone, so that Python, Rust and the command line accept the same things.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Generic,
    Literal,
    TypedDict,
    TypeVar,
    overload,
)

from . import _native
from ._enums import Accelerator, Architecture, MountType, NetworkMode
from ._errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "Forward",
    "Guest",
    "Host",
    "Limits",
    "Mount",
    "PortForward",
    "SandboxConfig",
    "SandboxConfigParams",
    "check_options",
    "plain",
    "read_forward",
]


T = TypeVar("T")


class Fallback(Generic[T]):
    """An option that is ``None`` until somebody chooses it, and reads as its default until then.

    What an image or an accelerator has a default for is theirs to say as long as it is ``None``.
    """

    def __init__(self, default: T) -> None:
        self._default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, config: None, owner: type) -> None: ...

    @overload
    def __get__(self, config: object, owner: type) -> T: ...

    def __get__(self, config: object | None, owner: type) -> T | None:
        # What the class itself answers is the default of the field.
        chosen: T | None = None if config is None else vars(config)[self._name]
        return self._default if chosen is None and config is not None else chosen

    def __set__(self, config: object, value: T | None) -> None:
        vars(config)[self._name] = value


class _Items(list[Any]):
    """The items of an option: a list that nobody changes, so that a configuration has a hash.

    It is equal to a tuple of the same items as well.
    """

    def __eq__(self, other: object) -> bool:
        return list(self) == list(other) if isinstance(other, (list, tuple)) else NotImplemented

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return (_Items, (list(self),))

    def __copy__(self) -> _Items:
        return self

    def __deepcopy__(self, memo: object) -> _Items:
        # The items are immutable too.
        return self

    def _refuse(self, *args: object, **options: object) -> Any:
        raise TypeError("a configuration is immutable: make another one")

    append = clear = extend = insert = pop = remove = reverse = _refuse
    sort = _refuse  # pyright: ignore[reportAssignmentType]
    __delitem__ = __iadd__ = __imul__ = __setitem__ = _refuse


@dataclasses.dataclass(frozen=True)
class _End:
    """One end of a forwarding: a port, and an address where there is more than one."""

    port: int
    address: str | None = None

    _least: ClassVar[int] = 1

    @overload
    def __init__(self, port: int, address: str | None = None) -> None: ...

    @overload
    def __init__(self, address: str, port: int) -> None: ...

    @overload
    def __init__(self, address_and_port: str, /) -> None: ...

    def __init__(self, *ends: object, **named: object) -> None:
        name = type(self).__name__
        port, address = named.pop("port", None), named.pop("address", None)
        for end in ends:
            # The text comes first when both are given so, and may have the port behind a colon.
            if isinstance(end, str) and address is None and len(ends) == 1 and port is None:
                before, _, after = end.rpartition(":")
                address, port = before or None, int(after) if after.isdecimal() else after
            elif (isinstance(end, str) or end is None) and address is None:
                address = end
            elif port is None:
                port = end
            else:
                raise TypeError(f"{name}() takes a port and an address")
        if named:
            raise TypeError(f"{name}() got an unexpected argument {next(iter(named))!r}")
        if address is not None and not isinstance(address, str):
            raise _invalid(f"{name}.address", address, "an address")
        _check_port(f"{name}.port", port, least=self._least)
        object.__setattr__(self, "port", port)
        object.__setattr__(self, "address", address)


class Host(_End):
    """An end of a forwarding on the host.

    Args:
        port: 1 to 65535, or 0 for any free port where the host listens;
            ``Sandbox.port_forwards()`` names it.
        address: the host's address to listen on; 127.0.0.1 when ``None``. Of the host that a port
            of the guest leads to, it may be a name, which is looked up when the forward begins.

    Example:
        >>> Host("0.0.0.0:8080") == Host("0.0.0.0", 8080) == Host(8080, "0.0.0.0")
        True
        >>> Host(8080)
        Host(port=8080, address=None)
    """

    _least = 0


class Guest(_End):
    """An end of a forwarding in the guest.

    Args:
        port: 1 to 65535.
        address: the guest's address; its only one when ``None``. The forms are those of ``Host``.
    """


@dataclasses.dataclass(frozen=True)
class PortForward:
    """Connections to 127.0.0.1:``host`` on the host reach ``guest`` in the guest.

    Args:
        host: 1 to 65535, or 0 for any free port: ``Sandbox.port_forwards()`` and what
            ``Sandbox.add_forward()`` returns name it.
        guest: 1 to 65535.

    Example:
        >>> PortForward(host=8080, guest=80)
        PortForward(host=8080, guest=80)
    """

    host: int
    guest: int

    def __post_init__(self) -> None:
        _check_port("PortForward.host", self.host, least=0)
        _check_port("PortForward.guest", self.guest)


@dataclasses.dataclass(frozen=True)
class Forward:
    """Connections to ``src`` reach ``dst``: one is a ``Host``, the other a ``Guest``.

    Example:
        >>> Forward(Host(8080, "127.0.0.1"), Guest(80)).dst
        Guest(port=80, address=None)
    """

    src: Host | Guest
    dst: Host | Guest

    def __post_init__(self) -> None:
        if {type(self.src), type(self.dst)} != {Host, Guest}:
            raise ConfigError(
                f"Invalid value for `Forward`: {self.src!r} to {self.dst!r}",
                "one end is a Host(...), the other a Guest(...)",
            )
        if isinstance(self.dst, Host):
            _check_port("Host.port", self.dst.port)


@dataclasses.dataclass(frozen=True)
class Mount:
    """A folder or a file of the host that is shared with the guest.

    Args:
        host: the folder or file on the host; ``~`` at the start is the home folder.
        guest: where the guest sees it; made when it is missing.
        readonly: the guest may not change it; the host enforces that.
        type: ``"auto"``, ``"fuse"``, ``"cifs"`` or ``"9p"``. ``"auto"`` is ``"fuse"`` on Linux with
            an image of ours, which behaves like a disk in every network mode, and ``"cifs"``
            elsewhere. A single file needs ``"fuse"``.
        uid: by FUSE, the guest's user who owns what belongs to the host's user; root without it.
        gid: by FUSE, the group, likewise.
        umask: by FUSE, has the guest see all files with the permissions that this leaves of
            ``0o777``, and not with their own.
        cache: by FUSE, ``"auto"``, or ``"writeback"`` for a folder that nobody else changes or
            reads meanwhile: what the guest writes stays in its memory for a while.

    Example:
        >>> Mount("app.conf", "/etc/app.conf", readonly=True).type.value
        'auto'
    """

    host: str
    guest: str
    readonly: bool = False
    type: MountType = MountType.AUTO
    uid: int | None = None
    gid: int | None = None
    umask: int | None = None
    cache: str = "auto"

    def __post_init__(self) -> None:
        object.__setattr__(self, "host", os.fspath(self.host))
        try:
            object.__setattr__(self, "type", MountType(self.type))
        except ValueError:
            raise ConfigError(
                f"Invalid value for `Mount.type`: {self.type!r}",
                'allowed: "auto", "fuse", "cifs", "9p"',
            ) from None


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one guest can make its host hold. A guest that is over a limit is refused; the process
    and its other sandboxes go on.

    Args:
        descriptors: file descriptors of this process that the guest can occupy: files open on
            shares, connections, partners of datagrams. 16 to 65535.
        memory: memory of this process that the guest can occupy: buffers of its connections,
            listings of shared folders and, in at most half of it (32 MiB), what its agent has sent
            and nobody has read yet. 8 MiB to 64 GiB, in the forms of ``SandboxConfig.memory``.
            What is asked for comes beside it: output, files, pictures of the screen.
        disk: size of the machine's overlay, checkpoints included; the machine stands still when
            it is reached. ``None``: twice the disk's size and eight times the memory.
        checkpoints: checkpoints at a time. 0 to 1000.
        picture: size of a picture of the screen, three bytes for each pixel; a larger screen is
            an error. 1 MiB to 768 MiB.

    Example:
        >>> Limits(descriptors=512).memory
        '64M'
    """

    descriptors: int = 256
    memory: str | int = "64M"
    disk: str | int | None = None
    checkpoints: int = 16
    picture: str | int = "64M"


class SandboxConfigParams(TypedDict, total=False):
    """The options of ``Sandbox(...)``, for type checkers; see ``SandboxConfig``."""

    arch: str | Architecture | None
    memory: str | int | None
    cpus: int | None
    mounts: Sequence[Mount]
    port_forwards: Sequence[PortForward | Forward]
    network_mode: NetworkMode | str
    allow: Sequence[str] | None
    extra_qemu_args: Sequence[str]
    boot_timeout: float | None
    accel: Accelerator | str | None
    disk_size: str | int | None
    enable_display: bool
    vnc: Literal["auto", "port", "off"]
    transport: Literal["auto", "socket", "tcp"]
    wait_for: Literal["agent", "boot"]
    warm: Literal["auto", "make", "fork", "off"]
    limits: Limits | Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class SandboxConfig:
    """Everything that describes a sandbox; checked when it is made, and immutable.

    Args:
        image: name of an installed image, or the path of one.
        arch: ``"amd64"`` or ``"arm64"`` (``None``: the host's). Another one than the host's is
            emulated in software.
        memory: ``"512M"``, ``"2G"``, ``"1GiB"``; a bare number is in MiB. An image that needs more
            than the default has a default of its own, as desktops do; so with ``cpus``.
        cpus: number of virtual processors.
        mounts: folders of the host to share.
        port_forwards: ports of the host that lead into the guest.
        network_mode: what the guest may reach.
        allow: with ``network_mode="full"``, the only things it may reach: domains
            (``"example.com"``, ``"*.example.com"`` for all below), IPv4 addresses and networks
            (``"192.0.2.0/24"``), or ``"*"``, each with ``":port"`` or without. The host itself and
            the addresses at which clouds tell secrets are closed unless they are named
            (``"10.0.2.2:8000"`` is port 8000 of the host's loopback). ``None``: everything else.
        extra_qemu_args: appended to QEMU's arguments as they are.
        boot_timeout: seconds until a start is given up. A default that was not touched becomes 600
            under TCG and 120 under WHPX.
        accel: ``"auto"``, an ``Accelerator`` or its name; ``None`` means TCG.
        disk_size: grow the disk to this size; forms as for ``memory``.
        enable_display: give the machine a screen, a keyboard and a mouse.
        vnc: who may watch the display: ``"port"`` serves VNC on 127.0.0.1, ports 5900 to 5999, with
            a password that ``Sandbox.vnc_password`` tells; ``"off"`` opens no port. ``"auto"`` is
            ``"port"``.
        transport: how the agent is reached: ``"socket"``, ``"tcp"`` or ``"auto"``.
        wait_for: a start is over when the ``"agent"`` answers, or when the guest's ``"boot"`` is.
        warm: with ``"auto"`` a start copies a machine of the same kind that has booted before,
            where that is possible; the second start of a configuration makes that template, in the
            user's cache folder. With ``"make"`` the first one makes it already; with ``"fork"``
            later ones of the process are forks of a copy that waits in memory; with ``"off"`` every
            machine boots.
        limits: what the guest can make the host hold, as ``Limits`` or a mapping of its fields.

    Raises:
        ConfigError: a value is not allowed (a ``ValueError``).
        NotAvailableError: this version does not have the feature (a ``NotImplementedError``).

    Example:
        >>> config = SandboxConfig(image="debian", memory="2G", cpus=1)
        >>> config.network_mode
        <NetworkMode.MOUNTS_ONLY: 'mounts_only'>
        >>> SandboxConfig.from_json(config.to_json()) == config
        True
    """

    image: str
    arch: str | None = None
    memory: Fallback[str | int] = Fallback("512M")
    cpus: Fallback[int] = Fallback(1)
    mounts: Sequence[Mount] = dataclasses.field(default_factory=_Items)
    port_forwards: Sequence[PortForward | Forward] = dataclasses.field(default_factory=_Items)
    network_mode: NetworkMode = NetworkMode.MOUNTS_ONLY
    allow: Sequence[str] | None = None
    extra_qemu_args: Sequence[str] = dataclasses.field(default_factory=_Items)
    boot_timeout: Fallback[float] = Fallback(60.0)
    accel: Accelerator | Literal["auto"] | None = "auto"
    disk_size: str | int | None = None
    enable_display: bool = False
    vnc: str = "auto"
    transport: str = "auto"
    wait_for: str = "agent"
    warm: str = "auto"
    limits: Limits = Limits()

    def __post_init__(self) -> None:
        # The way around `frozen` that the documentation of dataclasses gives.
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)

        if isinstance(self.image, os.PathLike):
            put("image", os.fspath(self.image))
        put("mounts", _items("mounts", self.mounts, (Mount,)))
        put("port_forwards", _items("port_forwards", self.port_forwards, (PortForward, Forward)))
        if self.allow is not None:
            put("allow", _items("allow", self.allow, (str,)))
        put("extra_qemu_args", _items("extra_qemu_args", self.extra_qemu_args, (str,)))
        put("limits", _read_limits(self.limits))
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, (_Items, Limits)):
                _check_scalar(field.name, value)
        checked = json.loads(_native.check_config(self.to_json()))
        put("arch", checked["arch"])
        put("network_mode", NetworkMode(checked["network_mode"]))
        if self.accel not in (None, "auto"):
            put("accel", Accelerator(checked["accel"]))

    def __getitem__(self, name: str) -> Any:
        """An option by its name, as ``to_dict`` has it."""
        return self.to_dict()[name]

    def to_dict(self) -> dict[str, Any]:
        """The options as values that JSON knows. A boot timeout that nobody chose is left out."""
        values: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            if field.name != "boot_timeout" or self._is_chosen(field.name):
                values[field.name] = plain(getattr(self, field.name))
        return values

    def named(self) -> dict[str, Any]:
        """The options without those that are left to the image and the accelerator."""
        values = self.to_dict()
        return {name: value for name, value in values.items() if self._is_chosen(name)}

    def _is_chosen(self, name: str) -> bool:
        has_fallback = isinstance(vars(SandboxConfig).get(name), Fallback)
        return not has_fallback or vars(self)[name] is not None

    def replace(self, **changes: Any) -> Self:
        """Another configuration with some options changed; what nobody chose stays unchosen.

        ``copy.replace`` does this too. ``dataclasses.replace`` would choose each default.

        Raises:
            ConfigError: an option is unknown, or has a value that it cannot have.

        Example:
            >>> SandboxConfig(image="debian").replace(cpus=1).cpus
            1
        """
        check_options({"image": "-", **dict.fromkeys(changes)})
        names = (field.name for field in dataclasses.fields(self))
        return type(self)(**({name: vars(self)[name] for name in names} | changes))

    __replace__ = replace

    def to_json(self) -> str:
        """The options as one JSON object."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SandboxConfig:
        """The inverse of ``to_dict``.

        Raises:
            ConfigError: an option is unknown, missing or has a value that it cannot have.
        """
        check_options(values)
        names = [field.name for field in dataclasses.fields(cls)]
        # None is the default of every option but `accel`, and not a value of all of them.
        known = {
            name: values[name]
            for name in names
            if name in values and (name == "accel" or values[name] is not None)
        }
        for name, read in (("mounts", _read_mount), ("port_forwards", read_forward)):
            if name in known:
                known[name] = [read(item) for item in known[name]]
        return cls(**known)

    @classmethod
    def from_json(cls, text: str | bytes) -> SandboxConfig:
        """The inverse of ``to_json``.

        Raises:
            ConfigError: the text is not a JSON object of options.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"The configuration is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise ConfigError("The configuration is not a JSON object")
        return cls.from_dict(values)


def check_options(options: Mapping[str, Any]) -> None:
    """Has the native module look at options that are JSON already.

    Raises:
        ConfigError: an option is unknown (the hint offers the nearest name), or has a value that
            it cannot have.
    """
    try:
        text = json.dumps(dict(options), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The options cannot be written as JSON: {error}") from None
    _native.check_config(text)


def _invalid(option: str, value: object, allowed: str) -> ConfigError:
    return ConfigError(f"Invalid value for `{option}`: {value!r}", f"allowed: {allowed}")


def _check_port(option: str, value: object, least: int = 1) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 65535:
        raise _invalid(option, value, f"a port from {least} to 65535")


def _check_scalar(option: str, value: object) -> None:
    """Refuses what JSON cannot carry; everything else is for the native module to judge."""
    is_finite = not isinstance(value, float) or math.isfinite(value)
    if value is not None and not (isinstance(value, (str, int, float)) and is_finite):
        raise _invalid(option, value, "text, a number, True, False or None")


def _items(option: str, value: object, kinds: tuple[type, ...]) -> _Items:
    names = " or ".join(kind.__name__ for kind in kinds)
    # A string is a sequence of strings too, and never what was meant.
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        raise _invalid(option, value, f"a list of {names}")
    items = _Items(value)
    for item in items:
        if not isinstance(item, kinds):
            raise _invalid(option, item, f"a list of {names}")
    return items


def plain(value: object) -> object:
    """A value in the form that JSON knows."""
    if isinstance(value, list):
        return [plain(item) for item in value]
    if isinstance(value, Forward):
        return _plain_forward(value)
    if isinstance(value, (PortForward, Mount, Limits)):
        return {key: plain(item) for key, item in vars(value).items()}
    return value.value if isinstance(value, Enum) else value


def _plain_forward(forward: Forward) -> dict[str, Any]:
    ends = {
        type(end).__name__.lower(): {"port": end.port, "address": end.address}
        for end in (forward.src, forward.dst)
    }
    if isinstance(forward.src, Guest):
        return {**ends, "direction": "guest_to_host"}
    return ends


def read_forward(value: Mapping[str, Any]) -> PortForward | Forward:
    """The inverse of ``plain`` for forwards."""
    host, guest = value["host"], value["guest"]
    if isinstance(host, int) and isinstance(guest, int) and "direction" not in value:
        return PortForward(host, guest)
    outside = Host(host) if isinstance(host, int) else Host(**host)
    inside = Guest(guest) if isinstance(guest, int) else Guest(**guest)
    if value.get("direction") == "guest_to_host":
        return Forward(inside, outside)
    return Forward(outside, inside)


def _read_limits(value: object) -> Limits:
    names = [field.name for field in dataclasses.fields(Limits)]
    if not isinstance(value, Limits):
        if not isinstance(value, Mapping) or not set(value) <= set(names):
            raise _invalid("limits", value, f"Limits(...), or a mapping of {', '.join(names)}")
        value = Limits(**value)
    for name in names:
        limit = getattr(value, name)
        if limit is not None and not isinstance(limit, (int, str)):
            raise _invalid("limits", value, f"a number or a size for {name}")
    return value


def _read_mount(value: Mapping[str, Any]) -> Mount:
    return Mount(**value)

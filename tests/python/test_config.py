"""Options: accepted, refused with the nearest name, immutable, to and from JSON, pickled."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path

import pytest
from quicksand import (
    Accelerator,
    ConfigError,
    Forward,
    Guest,
    Host,
    Limits,
    Mount,
    NetworkMode,
    NotAvailableError,
    PortForward,
    Sandbox,
    SandboxConfig,
    UnknownOptionError,
)

FULL = {
    "image": "minimal",
    "arch": "amd64",
    "memory": "1G",
    "cpus": 2,
    "port_forwards": [PortForward(8080, 80), Forward(Host(9090, "127.0.0.2"), Guest(90))],
    "network_mode": NetworkMode.FULL,
    "extra_qemu_args": ["-device", "virtio-rng-pci"],
    "boot_timeout": 12.5,
    "accel": Accelerator.TCG,
    "transport": "tcp",
    "wait_for": "boot",
    "limits": Limits(descriptors=512, memory="128M", disk="5G"),
}


def test_defaults() -> None:
    config = Sandbox(image="minimal").config
    assert config == SandboxConfig(image="minimal")
    assert (config.memory, config.cpus, config.boot_timeout) == ("512M", 1, 60.0)
    assert config.network_mode is NetworkMode.MOUNTS_ONLY
    assert (config.accel, config.transport, config.wait_for) == ("auto", "auto", "agent")
    assert (config.arch, config.disk_size, config.enable_display) == (None, None, False)


@pytest.mark.parametrize("memory", ["512M", "2G", "1GiB", "1024MB", "1.5G", "65536K", 256, "256"])
def test_memory_in_all_usual_forms(memory: str | int) -> None:
    assert SandboxConfig(image="minimal", memory=memory).memory == memory


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("memory", "lots"),
        ("memory", 0),
        ("memory", -512),
        ("memory", "0"),
        ("memory", None.__class__),
        ("memory", True),
        ("memory", b"512M"),
        ("memory", "1" * 40 + "G"),
        ("cpus", 0),
        ("cpus", -1),
        ("cpus", 256),
        ("cpus", 1.5),
        ("cpus", "two"),
        ("cpus", True),
        ("arch", "mips"),
        ("arch", 64),
        ("image", ""),
        ("image", 7),
        ("image", "mini\0mal"),
        ("network_mode", "everything"),
        ("network_mode", 1),
        ("accel", "warp"),
        ("boot_timeout", 0),
        ("boot_timeout", -1.0),
        ("boot_timeout", float("nan")),
        ("boot_timeout", float("inf")),
        ("boot_timeout", "soon"),
        ("transport", "pigeon"),
        ("wait_for", "godot"),
        ("extra_qemu_args", "-device x"),
        ("extra_qemu_args", [1]),
        ("port_forwards", [(8080, 80)]),
        ("port_forwards", "8080:80"),
        ("enable_display", "yes"),
        ("disk_size", object()),
        ("disk_size", "huge"),
        ("disk_size", -1),
        ("save", ".."),
        ("mounts", "/tmp:/mnt"),
        ("mounts", [Mount("/tmp", "relative")]),
        ("mounts", [Mount("/tmp", "/")]),
        ("mounts", [Mount("/tmp", "/mnt/../etc")]),
        ("mounts", [Mount("/tmp", "/mnt"), Mount("/var", "/mnt/")]),
        ("allow", "example.com"),
        ("allow", ["http://example.com"]),
        ("allow", [1]),
        ("port_forwards", [Forward(Guest(80, "10.0.2.2"), Host(8080))]),
        ("limits", 256),
        ("limits", {"files": 1}),
        ("limits", {"descriptors": 1}),
        ("limits", Limits(descriptors="many")),
        ("limits", Limits(memory="1M")),
        ("limits", Limits(disk=object())),
        ("limits", Limits(checkpoints=-1)),
    ],
)
def test_bad_values_are_refused_at_construction(option: str, value: object) -> None:
    options = {"image": "minimal", option: value}
    with pytest.raises((ConfigError, NotAvailableError)) as caught:
        Sandbox(**options)
    assert option in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("memroy", "memory"),
        ("cpu", "cpus"),
        ("network", "network_mode"),
        ("port_forward", "port_forwards"),
        ("extra_args", "extra_qemu_args"),
    ],
)
def test_an_unknown_option_names_the_nearest(name: str, nearest: str) -> None:
    with pytest.raises(UnknownOptionError) as caught:
        Sandbox(image="minimal", **{name: 1})
    error = caught.value
    assert isinstance(error, TypeError) and isinstance(error, ValueError)
    assert f"`{name}`" in str(error) and f"`{nearest}`" in str(error)
    assert error.hint is not None and nearest in error.hint


def test_a_name_like_no_other_is_refused_too() -> None:
    with pytest.raises(UnknownOptionError, match="`zzz`"):
        Sandbox(image="minimal", zzz=1)  # type: ignore[call-arg]


def test_an_image_is_needed() -> None:
    with pytest.raises(TypeError, match="image"):
        Sandbox()


@pytest.mark.parametrize(
    ("build", "names"),
    [
        (lambda: PortForward(80, 0), "PortForward.guest"),
        (lambda: PortForward(-1, 80), "PortForward.host"),
        (lambda: Forward(Guest(80), Host(0)), "Host.port"),
        (lambda: PortForward(80, 65536), "PortForward.guest"),
        (lambda: PortForward("80", 80), "PortForward.host"),
        (lambda: Host(-1), "Host.port"),
        (lambda: Guest(70000), "Guest.port"),
        (lambda: Forward(Host(1), Host(2)), "Forward"),
        (lambda: Forward(Guest(1), Guest(2)), "Forward"),
    ],
)
def test_bad_forwards(build, names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        build()


def test_limits_are_an_object_or_a_mapping() -> None:
    config = SandboxConfig(image="minimal", limits={"descriptors": 300})
    assert config.limits == Limits(descriptors=300)
    assert config == SandboxConfig(image="minimal", limits=Limits(descriptors=300))
    assert SandboxConfig(image="minimal").limits == Limits()


def test_any_free_port_can_be_asked_for_twice() -> None:
    forwards = [PortForward(0, 80), PortForward(0, 81), Forward(Host(0, "127.0.0.2"), Guest(82))]
    config = SandboxConfig(image="minimal", port_forwards=forwards)
    assert SandboxConfig.from_json(config.to_json()) == config


def test_forwards_that_collide_or_lead_nowhere() -> None:
    twice = [PortForward(8080, 80), PortForward(8080, 81)]
    with pytest.raises(ConfigError, match="8080"):
        SandboxConfig(image="minimal", port_forwards=twice)
    with pytest.raises(ConfigError, match="port_forwards"):
        SandboxConfig(image="minimal", network_mode="none", port_forwards=[PortForward(8080, 80)])


def test_mounts_forwards_and_the_allow_list_go_to_json_and_back() -> None:
    config = SandboxConfig(
        image="minimal",
        network_mode="full",
        mounts=[Mount("/tmp", "/mnt", readonly=True), Mount("/var", "/var/host", type="9p")],
        port_forwards=[Forward(Guest(80), Host(8080)), Forward(Host(8080), Guest(80))],
        allow=["example.com", "*.example.org:443", "192.0.2.0/24"],
    )
    assert SandboxConfig.from_json(config.to_json()) == config
    assert config.allow == ("example.com", "*.example.org:443", "192.0.2.0/24")
    with pytest.raises(ConfigError, match="full"):
        SandboxConfig(image="minimal", allow=["example.com"])
    by_smb = Mount("/tmp", "/mnt", type="cifs")
    with pytest.raises(ConfigError, match="SMB needs the network"):
        SandboxConfig(image="minimal", network_mode="none", mounts=[by_smb])


def test_only_fuse_can_say_how_files_are_shown() -> None:
    mount = Mount("~/code", "/mnt", uid=1000, gid=1000, umask=0o022, cache="writeback")
    config = SandboxConfig(image="minimal", network_mode="none", mounts=[mount])
    assert SandboxConfig.from_json(config.to_json()) == config
    for options in ({"type": "cifs", "uid": 1}, {"umask": 0o1000}, {"cache": "none"}):
        with pytest.raises(ConfigError, match="mounts"):
            SandboxConfig(image="minimal", mounts=[Mount("/tmp", "/mnt", **options)])  # type: ignore[arg-type]


def test_a_config_is_immutable_and_has_a_value() -> None:
    config = SandboxConfig(**FULL)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.memory = "2G"  # type: ignore[misc]
    assert config == SandboxConfig(**FULL)
    assert hash(config) == hash(SandboxConfig(**FULL))
    assert config != dataclasses.replace(config, cpus=3)


def test_another_configuration_leaves_open_what_nobody_chose() -> None:
    config = SandboxConfig(image="minimal").replace(cpus=2, network_mode="none")
    assert (config.cpus, config.network_mode) == (2, NetworkMode.NONE)
    assert config.memory == "512M" and "memory" not in config.named()
    assert "boot_timeout" not in config.to_dict()
    with pytest.raises(UnknownOptionError, match="network_mode"):
        config.replace(networkmode="full")


@pytest.mark.parametrize("options", [{"image": "minimal"}, FULL])
def test_a_config_survives_json_and_pickle(options: dict) -> None:
    config = SandboxConfig(**options)
    for twin in (
        SandboxConfig.from_json(config.to_json()),
        SandboxConfig.from_dict(config.to_dict()),
        pickle.loads(pickle.dumps(config)),
        copy.deepcopy(config),
    ):
        assert twin == config
        assert Sandbox(**vars(twin)).boot_timeout == Sandbox(**options).boot_timeout


@pytest.mark.parametrize(
    "text", ["", "[]", "7", "{", '{"memory": "1G"}', '{"image": "minimal", "memroy": 1}']
)
def test_json_that_is_no_config(text: str) -> None:
    with pytest.raises(ConfigError):
        SandboxConfig.from_json(text)


@pytest.mark.parametrize(
    "forwards", [[1], [{"host": 1}], [{"host": "a", "guest": 1}], {"host": 1}, [{}], [None]]
)
def test_json_with_bad_forwards(forwards: object) -> None:
    with pytest.raises(ConfigError, match="port_forwards"):
        SandboxConfig.from_dict({"image": "minimal", "port_forwards": forwards})


def test_a_boot_timeout_that_was_chosen_is_kept() -> None:
    chosen = Sandbox(image="minimal", accel="tcg", boot_timeout=60.0)
    assert chosen.boot_timeout == 60.0
    untouched = Sandbox(image="minimal", accel="tcg")
    assert untouched.config.boot_timeout == 60.0
    assert untouched.boot_timeout == 600.0


def test_accel_none_means_software() -> None:
    assert Sandbox(image="minimal", accel=None).boot_timeout == 600.0


def test_paths_and_subclasses_are_images_too() -> None:
    class Mine(Sandbox):
        """A subclass that presets its image, as users write them."""

        def __init__(self, **options: object) -> None:
            super().__init__(image="minimal", **options)  # type: ignore[arg-type]

    assert Mine(memory="1G").config.image == "minimal"
    assert Sandbox(image=Path("/images/minimal")).config.image == "/images/minimal"

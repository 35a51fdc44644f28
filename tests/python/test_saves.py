"""Saves, checkpoints and metrics, from Python and from the command line."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import os
import subprocess
import time
from pathlib import Path

import pytest
import quicksand
from quicksand import Checkpoint, Metrics, Sandbox, SaveManifest, SaveNotFoundError, sync


def small(image: str | os.PathLike[str] = "minimal", **options) -> Sandbox:
    return Sandbox(image=image, memory="256M", **options)


def test_children_and_saves_with_memory_go_on(tmp_path: Path) -> None:
    async def main() -> None:
        alive = "kill -0 $(cat /pid)"
        async with small(workspace=tmp_path) as sb:
            await sb.execute("sleep 1000 >/dev/null 2>&1 & echo $! > /pid")
            children = await sb.fork(2)
            assert [type(child) for child in children] == [Sandbox, Sandbox]
            for index, child in enumerate(children):
                async with child:
                    assert child.boot_timing is not None and child.boot_timing.warm
                    assert (await child.execute(f"{alive} && echo {index} > /own")).exit_code == 0
                assert not child.is_running
            assert (await sb.execute("cat /own")).exit_code == 1
            await sb.save("going", memory=True)
            with pytest.raises(quicksand.ConfigError, match="compress"):
                await sb.save("going", memory=True, compress=True)
            with pytest.raises(quicksand.ConfigError, match="`n`"):
                await sb.fork(0)
        async with small(tmp_path / "going") as sb:
            assert sb.boot_timing is not None and sb.boot_timing.cold_reason is None
            assert (await sb.execute(alive)).exit_code == 0
        async with Sandbox(image=tmp_path / "going", memory="192M") as sb:
            assert sb.boot_timing is not None and not sb.boot_timing.warm
            assert "another machine" in (sb.boot_timing.cold_reason or "")

    asyncio.run(main())


def test_children_of_a_fork_are_forks_where_there_are_any() -> None:
    async def main() -> None:
        async with small(warm="fork") as first, small(warm="fork") as sb:
            assert first.boot_timing is not None and sb.boot_timing is not None
            await sb.execute("echo before > /state")
            for child in await sb.fork(2):
                async with child:
                    assert child.boot_timing is not None and child.boot_timing.warm
                    assert child.boot_timing.forked == sb.boot_timing.forked
                    assert (await child.execute("cat /state")).stdout == "before\n"

    asyncio.run(main())


def digest_of_base() -> str:
    """The image's disk, wherever it was found."""
    command = small().qemu_command
    assert any("layer0" in word for word in command)
    root = Path(quicksand.__file__).parent.parent / "quicksand_minimal/images"
    (disk,) = root.glob("minimal-*.qcow2")
    return hashlib.sha256(disk.read_bytes()).hexdigest()


def test_the_start_modes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ephemeral, named, from a save, named and from a save: as the life cycle document has them."""
    monkeypatch.chdir(tmp_path)
    before = digest_of_base()

    async def main() -> None:
        async with small(save="my-env") as sb:
            await sb.execute("echo installed > /tool")
            manifest = await sb.save("early")
            assert isinstance(manifest, SaveManifest)
            assert (manifest.version, manifest.config["image"]) == (6, "minimal")
            await sb.execute("echo more >> /tool")
        async with small("my-env") as sb:
            assert (await sb.execute("cat /tool")).stdout == "installed\nmore\n"
            await sb.execute("rm /tool; sync")
        async with small("my-env", save="my-env-v2") as sb:
            assert (await sb.execute("cat /tool")).stdout == "installed\nmore\n"
            await sb.execute("echo v2 >> /tool")
            await sb.save("elsewhere", workspace=tmp_path / "saves", compress=True)
        async with small(tmp_path / "saves" / "elsewhere") as sb:
            assert (await sb.execute("cat /tool")).stdout == "installed\nmore\nv2\n"
        async with small("early") as sb:
            assert (await sb.execute("cat /tool")).stdout == "installed\n"

    asyncio.run(main())
    saves = tmp_path / ".quicksand/sandboxes"
    assert sorted(os.listdir(saves)) == ["early", "my-env", "my-env-v2"]
    assert sorted(os.listdir(saves / "my-env-v2/overlays")) == ["0.qcow2", "1.qcow2"]
    written = json.loads((saves / "my-env/manifest.json").read_text())
    assert (written["version"], written["arch"]) == (6, "x86_64")
    assert Sandbox.validate_save(saves / "my-env") == sync.Sandbox.validate_save("my-env")
    assert digest_of_base() == before


def test_what_validate_says(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with pytest.raises(FileNotFoundError, match="Save not found") as caught:
        Sandbox.validate_save(path)
    assert isinstance(caught.value, SaveNotFoundError)
    path.write_text("")
    with pytest.raises(ValueError, match="not a directory"):
        Sandbox.validate_save(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match="Missing manifest.json"):
        Sandbox.validate_save(path)
    (path / "manifest.json").write_text('{"version": 99, "config": {}, "arch": "x86_64"}')
    with pytest.raises(ValueError, match="newer than supported"):
        Sandbox.validate_save(str(path))
    (path / "manifest.json").write_text('{"version": 6, "config": {"image": "minimal"}}')
    with pytest.raises(ValueError, match="Missing overlays"):
        Sandbox.validate_save(path)
    (path / "overlays").mkdir()
    with pytest.raises(ValueError, match="No overlay files found"):
        Sandbox.validate_save(path)
    (path / "overlays/0.qcow2").write_bytes(b"no disk")
    with pytest.raises(ValueError, match="0.qcow2 is damaged"):
        Sandbox.validate_save(path)


MANIFEST = b'{"version": 6, "config": {"image": "minimal"}, "arch": "x86_64"}'


def link(to: str):
    return lambda path: path.symlink_to(to)


def hole(path: Path) -> None:
    with open(path, "wb") as file:
        file.truncate(1 << 40)


@pytest.mark.parametrize(
    ("where", "make", "expect"),
    [
        ("manifest.json", os.mkfifo, "manifest.json cannot be read"),
        ("manifest.json", os.mkdir, "manifest.json cannot be read"),
        ("manifest.json", link("/dev/zero"), "manifest.json cannot be read"),
        ("manifest.json", link("/etc/passwd"), "manifest.json cannot be read"),
        ("manifest.json", link("nowhere"), "manifest.json cannot be read"),
        ("manifest.json", hole, "manifest.json cannot be read"),
        (
            "manifest.json",
            lambda path: path.write_bytes(b"\xff\xfe{}"),
            "manifest.json cannot be read",
        ),
        ("manifest.json", lambda path: path.write_bytes(b"[" * 100_000), "manifest"),
        ("manifest.json", lambda path: path.write_bytes(b"[]"), "manifest"),
        (
            "manifest.json",
            lambda path: path.write_bytes(b'{"version": 1e99, "config": {}}'),
            "manifest",
        ),
        ("overlays", os.mkfifo, "overlays is not read, or no folder"),
        ("overlays", link("/"), "overlays is not read, or no folder"),
        ("overlays", link("../other/overlays"), "overlays is not read, or no folder"),
        ("overlays/0.qcow2", os.mkfifo, "0.qcow2 cannot be read"),
        ("overlays/0.qcow2", os.mkdir, "0.qcow2 cannot be read"),
        ("overlays/0.qcow2", link("/dev/zero"), "0.qcow2 cannot be read"),
        ("overlays/0.qcow2", link("/etc/passwd"), "0.qcow2 cannot be read"),
        ("overlays/0.qcow2", hole, "0.qcow2 is damaged"),
        (
            "overlays/0.qcow2",
            lambda path: path.write_bytes(b"QFI\xfb" + b"\xff" * 500),
            "0.qcow2 is damaged",
        ),
        ("overlays/1.qcow2", lambda path: path.write_bytes(b"x"), "0.qcow2 is missing"),
        ("overlays/007.qcow2", lambda path: path.write_bytes(b"x"), "No overlay files found"),
    ],
)
def test_hostile_saves_are_refused_at_once(tmp_path: Path, where: str, make, expect: str) -> None:
    path = tmp_path / "x"
    (path / "overlays").mkdir(parents=True)
    (tmp_path / "other/overlays").mkdir(parents=True)
    (path / "manifest.json").write_bytes(MANIFEST)
    place = path / where
    if place.is_dir():
        place.rmdir()
    elif place.exists():
        place.unlink()
    make(place)
    start = time.monotonic()
    with pytest.raises(ValueError, match=expect):
        Sandbox.validate_save(path)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "/", "~", os.path.expanduser("~")])
def test_names_that_lead_elsewhere(sb: Sandbox, name: str) -> None:
    with pytest.raises(ValueError, match="save"):
        small(save=name)
    with pytest.raises(ValueError, match="save"):
        asyncio.run(sb.save(name))


def test_a_folder_that_is_no_save_is_left_alone(sb: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    (tmp_path / "work/notes").write_text("keep")
    with pytest.raises(ValueError, match="not a save"):
        asyncio.run(sb.save(str(tmp_path / "work")))
    with pytest.raises(ValueError, match="not a save"):
        quicksand.remove_save(tmp_path / "work")
    assert (tmp_path / "work/notes").read_text() == "keep"
    with pytest.raises(RuntimeError, match="non-running"):
        asyncio.run(small().save("x"))


def test_checkpoints_and_metrics() -> None:
    with sync.Sandbox(image="minimal", memory="256M") as sb:
        sb.execute(
            "echo before > /state; (while :; do sleep 1; done) > /dev/null 2>&1 & echo $! > /pid"
        )
        made = sb.checkpoint("one")
        assert isinstance(made, Checkpoint)
        assert made.tag == "one" and made.state_bytes > 0
        assert abs(made.created - time.time()) < 60
        sb.execute("echo after > /state; kill -9 $(cat /pid)")
        sb.revert("one")
        assert sb.execute("cat /state").stdout == "before\n"
        assert sb.execute("kill -0 $(cat /pid)").exit_code == 0
        with pytest.raises(ValueError, match="no checkpoint `two`"):
            sb.revert("two")
        with pytest.raises(ValueError):
            sb.checkpoint("")
        assert [each.tag for each in sb.checkpoints()] == ["one"]
        sb.delete_checkpoint("one")
        assert sb.checkpoints() == []
        early = sb.metrics()
        sb.execute("dd if=/dev/zero of=/fill bs=1M count=8; sync; nc -w 1 10.0.2.2 9 </dev/null")
        late = sb.metrics()
        assert isinstance(late, Metrics)
        assert late.disk_written_bytes - early.disk_written_bytes >= 8 << 20
        assert late.cpu_seconds > early.cpu_seconds > 0
        assert late.memory_rss > 16 << 20
        assert late.network_sent_bytes > early.network_sent_bytes >= 0
        assert late.network_received_bytes > early.network_received_bytes >= 0
        assert late.uptime > early.uptime > 0
        assert late.overlay_bytes > early.overlay_bytes
        assert 0 < late.guest_memory_available < late.guest_memory_total <= 256 << 20
    with pytest.raises(RuntimeError, match="non-running"):
        sb.checkpoint("x")


def test_the_sync_methods_are_those_of_the_async_ones() -> None:
    for name in ("save", "checkpoint", "revert", "checkpoints", "delete_checkpoint", "metrics"):
        ours, theirs = (inspect.signature(getattr(kind, name)) for kind in (sync.Sandbox, Sandbox))
        assert ours.parameters == theirs.parameters, name


def test_the_command(command: str, tmp_path: Path) -> None:
    def call(*words: str, code: int = 0) -> str:
        done = subprocess.run(
            [command, *words], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, (words, done.stdout, done.stderr)
        return done.stdout if code == 0 else done.stderr

    run = ("run", "minimal", "-m", "256M")
    call(*run, "--disk-size", "3G", "-o", "env", "--", "sh", "-c", "echo kept > /kept")
    assert call("run", "env", "-m", "256M", "--", "cat", "/kept") == "kept\n"
    (listed,) = json.loads(call("save", "list", "--json"))
    assert (listed["name"], listed["base"], listed["problem"]) == ("env", "minimal", None)
    assert "minimal" in call("save", "show", "env")
    assert call("save", "validate", "env") == "env: whole\n"
    assert call("save", "export", "env") == "env.tar\n"
    call("save", "import", "env.tar", code=1)
    call("save", "import", "env.tar", "copy")
    assert quicksand.import_save(tmp_path / "env.tar", tmp_path / "third").arch == "x86_64"
    call("save", "remove", "env", "copy")
    assert "Save not found" in call("save", "remove", "env", code=1)
    assert [save.name for save in quicksand.list_saves(tmp_path)] == ["third"]
    assert call("run", str(tmp_path / "third"), "-m", "256M", "--", "cat", "/kept") == "kept\n"
    assert "hint:" in call(*run, "-o", "..", "--", "true", code=2)

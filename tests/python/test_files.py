"""Files of the guest, shares of the host and ports, from Python."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from pathlib import Path

import pytest
import quicksand.sync
from quicksand import (
    ConfigError,
    Forward,
    Guest,
    GuestFileError,
    GuestFileNotFoundError,
    Host,
    HostFileExistsError,
    Mount,
    MountError,
    MountHandle,
    MountType,
    NetworkMode,
    NotRunningError,
    PortForward,
    Sandbox,
    StartError,
    Transfer,
)


def test_files_are_written_and_read(sb: Sandbox) -> None:
    async def main() -> None:
        data = bytes(range(256)) * 5000
        await sb.write_file("/root/deep/er/data", data, mode=0o640)
        assert await sb.read_file("/root/deep/er/data") == data
        result = await sb.execute("stat -c %a /root/deep/er/data")
        assert result.stdout == "640\n"
        await sb.write_file(Path("/root/text"), "gr\u00fc\u00dfe\n")
        assert (await sb.execute("cat /root/text")).stdout == "gr\u00fc\u00dfe\n"
        with pytest.raises(GuestFileNotFoundError, match="no-such") as caught:
            await sb.read_file("/no-such")
        assert isinstance(caught.value, FileNotFoundError)
        assert isinstance(caught.value, RuntimeError)
        with pytest.raises(GuestFileError, match="larger"):
            await sb.read_file("/root/deep/er/data", max_bytes=10)
        with pytest.raises(ConfigError, match="relative"):
            await sb.read_file("relative")
        with pytest.raises(ConfigError, match="mode"):
            await sb.write_file("/root/x", b"", mode=0o77777)

    asyncio.run(main())


def test_trees_go_both_ways(sb: Sandbox, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "sub" / "\u00e4.txt").write_text("a")
    (tree / "run").write_text("#!/bin/sh\necho ran\n")
    (tree / "run").chmod(0o755)
    (tree / "link").symlink_to("sub")

    async def main() -> None:
        sent = await sb.upload(tree, "/root/uploaded")
        assert sent == Transfer(2, 1 + 19)
        assert (await sb.execute("/root/uploaded/run")).stdout == "ran\n"
        await sb.execute("ln -s /etc/passwd /root/uploaded/out")
        received = await sb.download("/root/uploaded", tmp_path / "back")
        assert received == Transfer(2, 1 + 19, ("out",))
        with pytest.raises(FileNotFoundError):
            await sb.upload(tmp_path / "absent", "/root/x")
        with pytest.raises(FileNotFoundError):
            await sb.download("/no/such", tmp_path / "x")

    asyncio.run(main())
    assert (tmp_path / "back" / "run").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "back" / "link" / "\u00e4.txt").read_text() == "a"
    assert not (tmp_path / "x").exists()


def test_the_guest_does_not_choose_what_a_download_is(sb: Sandbox, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".bashrc").write_text("mine")

    async def main() -> None:
        await sb.execute(
            "mkdir -p /root/r.txt; echo evil > /root/r.txt/.bashrc; echo 1 > /root/one"
        )
        with pytest.raises(GuestFileError, match="folder") as wrong:
            await sb.download("/root/r.txt", home)
        assert "tree=True" in str(wrong.value)
        with pytest.raises(GuestFileError):
            await sb.download("/root/r.txt", tmp_path / "new", tree=False)
        with pytest.raises(GuestFileError, match="a folder was asked for"):
            await sb.download("/root/one", tmp_path / "new", tree=True)
        with pytest.raises(HostFileExistsError) as there:
            await sb.download("/root/r.txt", home, tree=True)
        assert isinstance(there.value, FileExistsError)
        with pytest.raises(FileExistsError, match="overwrite=True"):
            await sb.download("/root/one", home / ".bashrc")
        assert (home / ".bashrc").read_text() == "mine"
        assert sorted(path.name for path in tmp_path.rglob("*")) == [".bashrc", "home"]

        await sb.download("/root/one", home)
        await sb.download("/root/one", home / ".bashrc", overwrite=True)
        assert (home / ".bashrc").read_text() == (home / "one").read_text() == "1\n"
        await sb.download("/root/r.txt", tmp_path / "t", tree=True)
        await sb.download("/root/r.txt", home, tree=True, overwrite=True)
        assert (home / ".bashrc").read_text() == "evil\n"

    asyncio.run(main())


def test_a_download_has_limits(sb: Sandbox, tmp_path: Path) -> None:
    async def main() -> None:
        await sb.execute("mkdir -p /root/l; cd /root/l; touch 1 2 3; truncate -s 1G hole")
        await sb.download("/root/l/hole", tmp_path)
        assert (tmp_path / "hole").stat().st_size == 1 << 30
        assert (tmp_path / "hole").stat().st_blocks < 2048
        for limit in ({"max_bytes": 1000}, {"max_entries": 3}):
            with pytest.raises(GuestFileError, match=next(iter(limit))):
                await sb.download("/root/l", tmp_path / "l", **limit)
        with pytest.raises(ConfigError, match="max_entries"):
            await sb.download("/root/l", tmp_path / "l", max_entries=-1)
        await sb.download("/root/l", tmp_path / "l", max_bytes=None, max_entries=None)

    asyncio.run(main())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hole", "l"]


def test_a_cancelled_download_leaves_nothing(sb: Sandbox, tmp_path: Path) -> None:
    async def main() -> None:
        await sb.execute(
            "mkdir -p /root/c; dd if=/dev/zero of=/root/c/x bs=1M count=150 2>/dev/null"
        )
        for wait in (0.01, 0.03, 0.06):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(sb.download("/root/c", tmp_path / "c"), wait)
            assert list(tmp_path.iterdir()) == []
        assert (await sb.execute("echo alive; rm -r /root/c")).stdout == "alive\n"

    asyncio.run(main())


def test_names_that_the_guest_gives_are_taken_back(sb: Sandbox, tmp_path: Path) -> None:
    async def main() -> None:
        await sb.execute("mkdir -p /root/e; cd /root/e; echo hi > $(printf 'a\\377'); mkfifo p")
        name = (await sb.execute("cd /root/e; echo a*")).stdout.rstrip("\n")
        assert name == "a\udcff"
        path = "/root/e/" + name
        assert await sb.read_file(path) == b"hi\n"
        assert await sb.read_file(os.fsencode(path)) == b"hi\n"
        await sb.write_file(path, "ho " + name)
        assert await sb.read_file(path) == b"ho a\xff"
        await sb.download(path, tmp_path)
        assert (tmp_path / name).read_bytes() == b"ho a\xff"
        await sb.download("/root/e", tmp_path / "e", tree=True)
        assert os.listdir(tmp_path / "e") == [name]
        await sb.upload(tmp_path / name, "/root/up" + name)
        await sb.upload(tmp_path / "e", "/root/e2")
        assert await sb.read_file("/root/e2/" + name) == await sb.read_file("/root/up" + name)
        with pytest.raises(ConfigError, match="PEP 383"):
            await sb.read_file("/root/\ud800")

    asyncio.run(main())


def test_write_file_refuses_what_is_no_file(sb: Sandbox) -> None:
    async def main() -> None:
        await sb.execute(
            "mkdir -p /tmp/w; cd /tmp/w; mkfifo in; ln -s /root/secret out; echo kept > /root/secret;"
            "chown -hR 1000 /tmp/w"
        )
        for path in ("/tmp/w/in", "/tmp/w/out", "/dev/null", "/tmp"):
            with pytest.raises(GuestFileError) as caught:
                await sb.write_file(path, "x")
            assert path in str(caught.value)
        assert (await sb.execute("cat /root/secret")).stdout == "kept\n"
        with pytest.raises(TypeError):
            await sb.write_file("/root/x", 5)  # type: ignore[arg-type]

    asyncio.run(main())


def test_shares_at_the_start_and_later(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)

    async def main() -> None:
        mounts = [Mount(str(tmp_path / "a"), "/mnt/a")]
        async with Sandbox(image="minimal", memory="192M", mounts=mounts) as sb:
            assert [handle.guest for handle in sb.active_mounts] == ["/mnt/a"]
            assert sb.active_mounts[0].type is MountType.FUSE
            assert (await sb.execute("cat /mnt/a/file; echo new > /mnt/a/new")).stdout == "a"
            assert (tmp_path / "a" / "new").read_text() == "new\n"
            handle = await sb.mount(tmp_path / "b", "/mnt/b", readonly=True)
            assert isinstance(handle, MountHandle)
            assert len(sb.active_mounts) == 2
            result = await sb.execute("cat /mnt/b/file; echo x > /mnt/b/file")
            assert (result.stdout, result.exit_code) != ("b", 0)
            assert (tmp_path / "b" / "file").read_text() == "b"
            await sb.unmount(handle)
            assert len(sb.active_mounts) == 1
            with pytest.raises(MountError, match="not mounted"):
                await sb.unmount(handle)
            with pytest.raises(MountError, match="Failed to mount shares"):
                await sb.mount("/no/such/folder", "/mnt/x")
            with pytest.raises(ConfigError):
                await sb.mount(tmp_path, "relative")
        with pytest.raises(NotRunningError):
            await sb.mount(tmp_path, "/mnt/x")

    asyncio.run(main())


def test_a_share_that_fails_fails_the_start() -> None:
    sb = Sandbox(image="minimal", mounts=[Mount("/no/such/folder", "/mnt/x")])
    with pytest.raises(RuntimeError, match="Failed to mount shares: `/no/such/folder`"):
        asyncio.run(sb.start())
    assert not sb.is_running


def test_ports_in_both_directions_and_the_allow_list() -> None:
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]

    def serve() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.sendall(b"from the host")
            connection.close()

    threading.Thread(target=serve, daemon=True).start()

    with quicksand.sync.Sandbox(
        image="minimal",
        network_mode=NetworkMode.FULL,
        port_forwards=[Forward(Guest(80), Host(port))],
        allow=[],
    ) as sb:

        def get(address: str, port: int) -> str:
            return sb.execute(f"nc -w 3 {address} {port} </dev/null").stdout

        assert get("10.0.2.101", 80) == "from the host"
        assert get("10.0.2.2", port) == ""
        sb.set_allow([f"10.0.2.2:{port}"])
        assert get("10.0.2.2", port) == "from the host"
        sb.set_allow(None)
        assert get("10.0.2.2", port) == ""
        with pytest.raises(ConfigError, match="allow"):
            sb.set_allow(["http://x"])
        taken = PortForward(port, 80)
        with pytest.raises(StartError, match=str(port)):
            sb.add_forward(taken)
        with pytest.raises(ConfigError):
            sb.remove_forward(taken)
        other = Forward(Guest(81), Host(port))
        sb.add_forward(other)
        assert get("10.0.2.101", 81) == "from the host"
        assert sb.port_forwards() == [Forward(Guest(80), Host(port)), other]
        sb.remove_forward(other)
        assert get("10.0.2.101", 81) == ""
        sb.write_file("/tmp/x", "sync")
        assert sb.read_file("/tmp/x") == b"sync"
    server.close()

"""The `quicksand` command, as a script calls it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import quicksand

RUN = ["run", "minimal", "--memory", "256M"]


@pytest.fixture
def cli(command: str):
    def call(*arguments: str, **options) -> subprocess.CompletedProcess[bytes]:
        options.setdefault("stdin", None if "input" in options else subprocess.DEVNULL)
        if options["stdin"] is None:
            del options["stdin"]
        return subprocess.run(
            [command, *arguments], capture_output=True, timeout=120, check=False, **options
        )

    return call


def test_streams_and_exit_code_pass_through(cli) -> None:
    done = cli(*RUN, "--", "sh", "-c", r"printf 'out\377'; printf 'err\376' >&2; exit 42")
    assert (done.stdout, done.stderr, done.returncode) == (b"out\xff", b"err\xfe", 42)


def test_stdin_passes_byte_for_byte(cli) -> None:
    data = bytes(range(256)) * 8192
    done = cli(*RUN, "--", "cat", input=data)
    assert done.stdout == data
    assert done.returncode == 0


def test_arguments_arrive_as_they_are(cli) -> None:
    words = ["a b", "$HOME", "it's", "", "*", 'q"q', "-x", "back\\slash", "new\nline"]
    done = cli(*RUN, "--", "printf", "[%s]\n", *words)
    assert done.stdout.decode() == "".join(f"[{word}]\n" for word in words)


def test_options_reach_the_command(cli) -> None:
    done = cli(*RUN, "--cwd", "/tmp", "-e", "A=b c", "--", "sh", "-c", "pwd; echo $A")
    assert done.stdout == b"/tmp\nb c\n"


def test_variables_pass_when_they_are_set(cli) -> None:
    environment = {name: value for name, value in os.environb.items() if name != b"FOO"}
    show = ["--", "sh", "-c", 'printf "[%s]" "${FOO-unset}"']
    for value, options, expect in [
        (None, ["-e", "FOO"], b"[unset]"),
        (None, ["-e", "FOO="], b"[]"),
        (b"", ["-e", "FOO"], b"[]"),
        (b"two\nlines", ["-e", "FOO"], b"[two\nlines]"),
        (b"a\xffb", ["-e", "FOO"], b"[a\xffb]"),
        (None, ["-e", b"FOO=a\xffb=c"], b"[a\xffb=c]"),
    ]:
        with_value = {**environment, **({b"FOO": value} if value is not None else {})}
        done = cli(*RUN, *options, *show, env=with_value)
        assert (done.stdout, done.returncode) == (expect, 0), done.stderr


@pytest.mark.parametrize("entry", ["", "=value", b"\xff=value"])
def test_a_variable_without_a_name_is_a_wrong_command_line(cli, entry) -> None:
    done = cli(*RUN, "-e", entry, "--", "true")
    assert done.returncode == 2 and b"--env" in done.stderr, done.stderr


def test_words_that_are_not_utf8_arrive(cli) -> None:
    done = cli(*RUN, "--", "printf", "%s", b"a\xff b\xfe")
    assert (done.stdout, done.returncode) == (b"a\xff b\xfe", 0)


@pytest.mark.parametrize(
    ("script", "input", "stdout", "code"),
    [
        ("exit 200", b"", b"", 200),
        ("kill -9 $$", b"", b"", 137),
        (r"printf 'a\000b\rc'", b"", b"a\0b\rc", 0),
        ("head -c 3000000 /dev/zero | tr '\\0' x", b"", b"x" * 3_000_000, 0),
        ("wc -c", b"", b"0\n", 0),
        ("wc -c", b"y" * 300_000, b"300000\n", 0),
        ('printf "[%s]" "${HOME-unset}"', b"", b"[/root]", 0),
    ],
    # pytest puts the name of a test into the environment, which has no room for the values.
    ids=["code", "signal", "bytes", "much-output", "no-input", "much-input", "home"],
)
def test_streams_and_codes_at_their_edges(cli, script, input, stdout, code) -> None:
    done = cli(*RUN, "--", "sh", "-c", script, input=input)
    assert (done.stdout, done.returncode) == (stdout, code), done.stderr


def test_a_missing_folder_is_named(cli) -> None:
    done = cli(*RUN, "--cwd", "/no/such", "--", "true")
    assert done.returncode == 125 and b"/no/such" in done.stderr, (done.returncode, done.stderr)


def test_the_screens_password_is_not_in_a_log(cli, tmp_path) -> None:
    file = tmp_path / "password"
    screen = [*RUN, "--enable-display"]
    done = cli(*screen, "--", "true")
    assert b"vnc://127.0.0.1:" in done.stderr and b"password is" not in done.stderr, done.stderr
    done = cli(*screen, "--password-file", str(file), "--", "true")
    assert str(file).encode() in done.stderr and not file.exists(), done.stderr


def test_a_script_on_stdin_runs_in_a_shell_without_a_terminal(cli) -> None:
    done = cli(*RUN, input=b"echo hello\ntest -t 0 || echo no terminal\nexit 5\n")
    assert done.stdout == b"hello\nno terminal\n"
    assert done.returncode == 5


@pytest.mark.parametrize(
    ("script", "code"), [("kill -9 $$", 137), ("no-such-command", 127), ("exit 255", 255)]
)
def test_exit_codes_of_commands(cli, script: str, code: int) -> None:
    assert cli(*RUN, "--", "sh", "-c", script).returncode == code


def test_a_timeout_is_124(cli) -> None:
    start = time.monotonic()
    done = cli(*RUN, "--timeout", "1", "--", "sh", "-c", "echo begun; sleep 60")
    assert done.returncode == 124
    assert done.stdout == b"begun\n"
    assert b"timed out" in done.stderr
    assert time.monotonic() - start < 30


@pytest.mark.parametrize(
    ("arguments", "expect"),
    [
        (["run", "minimal", "--memroy", "1G"], "--memory"),
        (["rnu", "minimal"], "run"),
        (["run"], "IMAGE"),
        (["run", "minimal", "--memory", "lots", "--", "true"], "lots"),
        (["run", "minimal", "--cpus", "0", "--", "true"], "cpus"),
        (["run", "minimal", "--accel", "warp", "--", "true"], "warp"),
        (["run", "minimal", "-p", "http", "--", "true"], "8080:80"),
        (["run", "minimal", "--network", "some", "--", "true"], "mounts-only"),
        (["run", "minimal", "--timeout", "-1", "--", "true"], "timeout"),
        (["run", "minimal", "--arch", "mips", "--", "true"], "arch"),
    ],
)
def test_a_wrong_command_line_is_2(cli, arguments: list[str], expect: str) -> None:
    done = cli(*arguments)
    assert done.returncode == 2
    assert expect in done.stderr.decode()
    assert done.stdout == b""


def test_an_unknown_image_is_125_and_names_the_nearest(cli) -> None:
    done = cli("run", "minimall", "--", "true")
    assert done.returncode == 125
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "error: Image not found: 'minimall'"
    assert lines[-1].startswith("hint: ") and "minimal" in lines[-1]


def test_ctrl_c_kills_the_command(command: str) -> None:
    process = subprocess.Popen(
        [command, *RUN, "--", "sh", "-c", "echo up; exec sleep 99"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130
    assert time.monotonic() - start < 10


def test_ctrl_c_kills_a_command_that_ignores_it(command: str) -> None:
    process = subprocess.Popen(
        [command, *RUN, "--", "sh", "-c", "trap '' INT; echo up; sleep 99"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 130


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_signal_leaves_anything_behind(command: str, number: int, tmp_path, is_gone) -> None:
    process = subprocess.Popen(
        [command, *RUN, "--", "sh", "-c", "echo up; sleep 99"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    listing = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,comm="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    machines = [int(row.split()[0]) for row in listing if "qemu-system" in row]
    assert machines
    ours = [pid for pid in machines if descends(pid, process.pid)]
    assert ours
    process.send_signal(number)
    code = process.wait(20)
    assert code in (128 + number, -number)
    time.sleep(2)
    assert all(is_gone(pid) for pid in ours)
    assert list(tmp_path.iterdir()) == []


# Mounts a file system that answers nothing on a folder, in namespaces of its own, and runs a command.
HANGS = """
import ctypes, os, subprocess, sys
folder, *command = sys.argv[1:]
try:
    fuse = os.open("/dev/fuse", os.O_RDWR)
except OSError as error:
    sys.exit(print(f"{error}", flush=True))
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0".encode()
libc = ctypes.CDLL(None, use_errno=True)
if libc.mount(b"hangs", folder.encode(), b"fuse", 0, options) != 0:
    raise OSError(ctypes.get_errno(), "mount")
process = subprocess.Popen(command)
print(process.pid, flush=True)
print(process.wait(), flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["save", "folder", "path"])
def test_a_signal_ends_a_search_that_hangs(command: str, number: int, where: str, tmp_path) -> None:
    held = tmp_path / ".quicksand" / "sandboxes"
    held = held / "held" if where == "save" else held
    held.mkdir(parents=True)
    environment = {**os.environ, **({"QUICKSAND_IMAGE_PATH": str(held)} if where == "path" else {})}
    process = subprocess.Popen(
        [
            "unshare",
            "-rm",
            sys.executable,
            "-c",
            HANGS,
            str(held),
            command,
            "run",
            "held",
            "--",
            "true",
        ],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    first_line = process.stdout.readline()
    if "/dev/fuse" in first_line:
        pytest.skip(f"this user may mount no file system: {first_line}")
    run = int(first_line)
    time.sleep(1)
    os.kill(run, number)
    output, _ = process.communicate(timeout=10)
    # The program waits for a file system; what it has to do ends all the same.
    assert int(output) in (128 + number, -number), output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_start(command: str, number: int, tmp_path) -> None:
    process = subprocess.Popen(
        [command, *RUN, "--warm", "off", "-o", str(tmp_path / "kept"), "--", "true"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    time.sleep(0.7)
    process.send_signal(number)
    assert process.wait(10) == 128 + number
    assert list(tmp_path.iterdir()) == []


def is_writing_in(pid: int, folder) -> bool:
    """Whether a process has a file of that folder open that has no name yet, or a hidden one."""
    for descriptor in os.scandir(f"/proc/{pid}/fd"):
        try:
            path = os.readlink(descriptor.path)
        except FileNotFoundError:
            continue
        if path.startswith((f"{folder}/#", f"{folder}/.quicksand-part-")):
            return True
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stands_still", [False, True])
def test_a_signal_ends_a_save(
    command: str, number: int, stands_still: bool, tmp_path, is_gone
) -> None:
    fill = "dd if=/dev/urandom of=/fill bs=1M count=200 2>/dev/null; sync"
    process = subprocess.Popen(
        [command, *RUN, "-o", str(tmp_path / "kept"), "--", "sh", "-c", fill],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    deadline = time.monotonic() + 120
    while not is_writing_in(process.pid, tmp_path):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    machines = list(machines_of(process.pid))
    if stands_still:
        os.kill(machines[0], signal.SIGSTOP)
    process.send_signal(number)
    code = process.wait(15)
    if (tmp_path / "kept").exists():
        # The save was quicker than the signal.
        assert not stands_still and code in (0, 128 + number)
    else:
        assert code == 128 + number
    assert list(tmp_path.glob(".quicksand-part-*")) == []
    deadline = time.monotonic() + 10
    while not all(is_gone(pid) for pid in machines):
        assert time.monotonic() < deadline, machines
        time.sleep(0.05)


def test_a_second_signal_does_not_wait(command: str, tmp_path) -> None:
    process = subprocess.Popen(
        [
            command,
            *RUN,
            "-o",
            str(tmp_path / "kept"),
            "--",
            "sh",
            "-c",
            "trap '' INT; echo up; sleep 99",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None and process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert list(tmp_path.iterdir()) == []


def machines_of(ancestor: int) -> list[int]:
    listing = subprocess.run(
        ["ps", "-eo", "pid=,comm="], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    machines = [int(row.split()[0]) for row in listing if "qemu-system" in row]
    return [pid for pid in machines if descends(pid, ancestor)]


def descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            pid = int(file.read().rsplit(")", 1)[1].split()[1])
    return False


def test_a_reader_that_leaves_ends_the_run(command: str) -> None:
    process = subprocess.Popen(
        [command, *RUN, "--", "sh", "-c", "yes"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stdout.read(4) == b"y\ny\n"
    process.stdout.close()
    assert process.wait(20) == 141


def test_qemu_says_which_where_and_why(cli) -> None:
    done = cli("qemu")
    assert done.returncode == 0
    text = done.stdout.decode()
    runtime = quicksand.get_runtime()
    assert str(runtime.qemu_binary) in text
    assert runtime.version in text
    data = json.loads(cli("qemu", "--json").stdout)
    assert data["qemu_binary"] == str(runtime.qemu_binary)
    assert data["version"] == runtime.version
    assert data["source"]
    assert isinstance(data["tried"], list)
    status = quicksand.detect_accelerator()
    assert data["accelerator"] == status.accelerator
    assert data["accelerator_reason"]


def test_qemu_that_is_missing(command: str, tmp_path) -> None:
    copy = tmp_path / "quicksand"
    copy.write_bytes(Path(command).read_bytes())
    copy.chmod(0o755)
    done = subprocess.run(
        [copy, "qemu"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/nonexistent", "HOME": str(tmp_path)},
        cwd=tmp_path,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "hint: " in done.stderr


def test_list_names_the_installed_images(cli) -> None:
    done = cli("list")
    assert done.returncode == 0
    first_words = [line.split()[0] for line in done.stdout.decode().splitlines() if line.strip()]
    assert {"debian", "minimal"} <= set(first_words)
    data = json.loads(cli("list", "--json").stdout)
    assert {"debian", "minimal"} <= {image["name"] for image in data}


def test_version_and_help(cli) -> None:
    assert cli("--version").stdout.decode().split() == ["quicksand", quicksand.__version__]
    text = cli("run", "--help").stdout.decode()
    for option in (
        "--arch",
        "--memory",
        "--cpus",
        "--network",
        "--boot-timeout",
        "--accel",
        "--extra-args",
        "--log-level",
        "125",
        "130",
    ):
        assert option in text


def test_the_log_tells_more_when_asked(cli) -> None:
    quiet = cli(*RUN, "--", "true").stderr
    loud = cli("--log-level", "debug", *RUN, "--", "true").stderr
    assert len(loud) > len(quiet)


def test_python_m_is_the_same_command(cli) -> None:
    line = [sys.executable, "-m", "quicksand"]
    version = subprocess.run([*line, "--version"], capture_output=True, check=False)
    assert version.stdout == cli("--version").stdout and version.returncode == 0
    wrong = subprocess.run([*line, "rnu"], capture_output=True, check=False)
    assert wrong.returncode == 2 and b"'run'" in wrong.stderr


def test_bash_completes_words(cli) -> None:
    script = cli("completion", "bash").stdout.decode()
    ask = script + (
        "\nCOMP_WORDS=(quicksand run minimal --mem); COMP_CWORD=3"
        '\n_quicksand quicksand --mem minimal; echo "${COMPREPLY[@]}"\n'
    )
    done = subprocess.run(["bash", "-c", ask], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["--memory"], done.stderr
    assert cli("completion", "tcsh").returncode == 2


def test_a_benchmark_tells_its_rounds(cli) -> None:
    done = cli("benchmark", "minimal", "-n", "1", "--json", "--memory", "256M")
    report = json.loads(done.stdout)
    assert (report["image"], report["rounds"], report["unit"]) == ("minimal", 1, "ms")
    for name in ("start", "first_execute", "later_execute", "stop"):
        assert report[name]["each"] == [report[name]["median"]] and report[name]["median"] > 0
    # A command takes milliseconds where a start takes seconds.
    assert report["later_execute"]["median"] < report["start"]["median"]
    assert cli("benchmark", "minimal", "-n", "0").returncode == 2

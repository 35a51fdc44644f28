//! The one table of options. A new option is a row here, its effect, and a test.
//!
//! After a change `QUICKSAND_BLESS=1 cargo test -p sandbox options_are_the_same_everywhere` writes
//! Python's fields and the reference page again.

use super::define::{Flag, OptionInfo, options};
use super::options::{
    DEFAULT_CPUS, accel_name, choice, read_accel, read_allow, read_arch, read_args,
    read_boot_timeout, read_cpus, read_disk_size, read_memory, read_text, read_toggle,
    read_workspace, to_json,
};
use super::{AccelChoice, SandboxConfigBuilder, Transport, VncAccess, WaitFor, Warm};
use crate::error::Result;
use crate::hardware::default_boot_timeout_s;
use crate::limits::Limits;
use crate::mount::Mount;
use crate::network::{Forward, NetworkMode};
use crate::size::Size;
use host_platform::Arch;
use package_layout::DEFAULT_MEMORY;
use serde_json::{Map, Value, json};
use std::convert::identity;
use std::path::{Path, PathBuf};
use std::time::Duration;

options! {
    /// The image's name or path.
    image: String {
        get: &str = String::as_str,
        read: |name, value| read_text(name, value, "a name or a path"),
        write: to_json,
        python: "str",
        docs: "name of an installed image, or the path of one.",
        page_default: "–",
        allowed: "an installed image, a save's name, a path",
        flag: Flag::Own,
    }

    /// The guest's architecture; the host's when it is `None`.
    arch: Option<Arch> {
        get: Option<Arch> = Clone::clone,
        set: Arch = |arch: Arch| arch.image_name(),
        read: read_arch,
        write: |arch: &Option<Arch>| json!(arch.map(Arch::image_name)),
        python: "str | None",
        python_takes: "str | Architecture | None",
        python_default: "None",
        docs: "``\"amd64\"`` or ``\"arm64\"`` (``None``: the host's). Another one than the host's is \
            emulated in software.",
        page_default: "the host's",
        allowed: "`\"amd64\"` or `\"arm64\"` in any usual spelling; the other one than the host's is \
            emulated",
        flag: Flag::Text,
        help: "The guest's architecture: amd64 or arm64 [default: the host's]",
    }

    /// The guest's memory; that of the image, or [`DEFAULT_MEMORY`], when it is `None`.
    memory: Option<Size> {
        get: Option<&Size> = Option::as_ref,
        set: &str = Value::from,
        read: read_memory,
        write: to_json,
        python: "Fallback[str | int]",
        python_takes: "str | int | None",
        default: || DEFAULT_MEMORY.to_owned(),
        python_default: "Fallback(\"{default}\")",
        docs: "``\"{default}\"``, ``\"2G\"``, ``\"1GiB\"``; a bare number is in MiB. An image that needs more \
            than the default has a default of its own, as desktops do; so with ``cpus``.",
        page_default: "`\"{default}\"`, or what the image names",
        allowed: "a number with K, M, G or T, also KiB, MB, …; a bare number is in MiB",
        flag: Flag::Text,
        short: Some('m'),
        value_name: "SIZE",
        help: "Memory, such as {default} or 2G; a bare number is in MiB [default: the image's, or {default}]",
    }

    /// The number of virtual CPUs; that of the image, or one, when it is `None`.
    cpus: Option<u16> {
        get: Option<u16> = Clone::clone,
        set: u16 = Value::from,
        read: read_cpus,
        write: to_json,
        python: "Fallback[int]",
        python_takes: "int | None",
        default: || DEFAULT_CPUS.to_string(),
        python_default: "Fallback({default})",
        docs: "number of virtual processors.",
        page_default: "{default}, or what the image names",
        allowed: "1 to 255",
        flag: Flag::Number,
        value_name: "N",
        help: "Number of virtual processors [default: the image's, or {default}]",
    }

    /// Folders of the host that are shared from the start.
    mounts: Vec<Mount> {
        get: &[Mount] = Vec::as_slice,
        read: |_, value| Mount::list_from_value(value),
        write: to_json,
        python: "Sequence[Mount]",
        python_default: "dataclasses.field(default_factory=_Items)",
        docs: "folders of the host to share.",
        page_default: "none",
        allowed: "a list of `Mount(host, guest, readonly=False, type=\"auto\")`; `type` is `\"auto\"`, \
            `\"fuse\"`, `\"cifs\"` or `\"9p\"`; by FUSE also `uid`, `gid`, `umask`, `cache`",
        flag: Flag::Own,
    }

    /// Ports that lead from the host into the guest.
    port_forwards: Vec<Forward> {
        get: &[Forward] = Vec::as_slice,
        read: |_, value| Forward::list_from_value(value),
        write: |forwards: &Vec<Forward>| forwards.iter().map(Forward::to_value).collect::<Value>(),
        python: "Sequence[PortForward | Forward]",
        python_default: "dataclasses.field(default_factory=_Items)",
        docs: "ports of the host that lead into the guest.",
        page_default: "none",
        allowed: "a list of `PortForward(host, guest)` or `Forward(src, dst)`",
        flag: Flag::Own,
    }

    /// What the guest can reach.
    network_mode: NetworkMode {
        get: NetworkMode = Clone::clone,
        set: NetworkMode = NetworkMode::name,
        read: choice,
        write: to_json,
        words: &["none", "mounts_only", "full"],
        python: "NetworkMode",
        python_takes: "NetworkMode | str",
        python_default: "NetworkMode.MOUNTS_ONLY",
        docs: "what the guest may reach.",
        page_default: "`\"{default}\"`",
        allowed: "`\"none\"`, `\"mounts_only\"`, `\"full\"`",
        flag: Flag::Own,
    }

    /// What the guest may reach with [`NetworkMode::Full`]; `None`: everything but the host itself.
    allow: Option<Vec<String>> {
        get: Option<&[String]> = Option::as_deref,
        read: read_allow,
        write: to_json,
        python: "Sequence[str] | None",
        python_default: "None",
        docs: "with ``network_mode=\"full\"``, the only things it may reach: domains \
            (``\"example.com\"``, ``\"*.example.com\"`` for all below), IPv4 addresses and networks \
            (``\"192.0.2.0/24\"``), or ``\"*\"``, each with ``\":port\"`` or without. The host itself \
            and the addresses at which clouds tell secrets are closed unless they are named \
            (``\"10.0.2.2:8000\"`` is port 8000 of the host's loopback). ``None``: everything else.",
        page_default: "`None`",
        allowed: "with `\"full\"`: a list of domains and addresses, each with `:port` or without",
        flag: Flag::Own,
    }

    /// Arguments that are appended to QEMU's command line.
    extra_qemu_args: Vec<String> {
        get: &[String] = Vec::as_slice,
        read: read_args,
        write: to_json,
        python: "Sequence[str]",
        python_default: "dataclasses.field(default_factory=_Items)",
        docs: "appended to QEMU's arguments as they are.",
        page_default: "none",
        allowed: "a list of words, appended last",
        flag: Flag::Own,
    }

    /// How long the guest may take to its first answer; `None` lets the accelerator decide.
    boot_timeout: Option<Duration> {
        get: Option<Duration> = Clone::clone,
        set: Duration = |timeout: Duration| timeout.as_secs_f64(),
        read: read_boot_timeout,
        write: |timeout: &Option<Duration>| json!(timeout.map(|timeout| timeout.as_secs_f64())),
        python: "Fallback[float]",
        python_takes: "float | None",
        default: || default_boot_timeout_s(None).to_string(),
        python_default: "Fallback({default}.0)",
        docs: "seconds until a start is given up. A default that was not touched becomes 600 under TCG \
            and 120 under WHPX.",
        page_default: "{default}.0",
        allowed: "seconds; untouched it is 600 under TCG and 120 under WHPX",
        flag: Flag::Seconds,
        value_name: "SECONDS",
        help: "Seconds until a start is given up [default: {default}; software emulation 600]",
    }

    /// The accelerator.
    accel: AccelChoice {
        get: AccelChoice = Clone::clone,
        set: AccelChoice = accel_name,
        read: read_accel,
        write: |accel: &AccelChoice| json!(accel_name(*accel)),
        python: "Accelerator | Literal[\"auto\"] | None",
        python_takes: "Accelerator | str | None",
        python_default: "\"{default}\"",
        docs: "``\"auto\"``, an ``Accelerator`` or its name; ``None`` means TCG.",
        page_default: "`\"{default}\"`",
        allowed: "`\"kvm\"`, `\"hvf\"`, `\"whpx\"`, `\"tcg\"`; `None` means TCG",
        flag: Flag::Text,
        help: "What executes the guest: auto, kvm, hvf, whpx or tcg [default: {default}]",
    }

    /// The size that the disk and its file system grow to; the image's own when it is `None`.
    disk_size: Option<Size> {
        get: Option<&Size> = Option::as_ref,
        set: &str = Value::from,
        read: read_disk_size,
        write: to_json,
        python: "str | int | None",
        python_default: "None",
        docs: "grow the disk to this size; forms as for ``memory``.",
        page_default: "the image's",
        allowed: "forms as for `memory`; never smaller than the image",
        flag: Flag::Text,
        value_name: "SIZE",
        help: "Grow the disk and its file system to this size [default: the image's]",
    }

    /// Whether the machine has a screen, a keyboard and a pointer.
    enable_display: bool {
        get: bool = Clone::clone,
        set: bool = Value::from,
        read: read_toggle,
        write: to_json,
        python: "bool",
        python_default: "False",
        docs: "give the machine a screen, a keyboard and a mouse.",
        page_default: "`False`",
        allowed: "",
        flag: Flag::Switch,
        help: "Give the machine a screen, and serve it by VNC on a loopback port, with a password",
    }

    /// Who may watch the display through VNC.
    vnc: VncAccess {
        get: VncAccess = Clone::clone,
        set: VncAccess = to_json,
        read: choice,
        write: to_json,
        words: &["auto", "port", "off"],
        python_default: "\"{default}\"",
        docs: "who may watch the display: ``\"port\"`` serves VNC on 127.0.0.1, ports 5900 to 5999, with \
            a password that ``Sandbox.vnc_password`` tells; ``\"off\"`` opens no port. ``\"auto\"`` is \
            ``\"port\"``.",
        page_default: "`\"{default}\"`",
        allowed: "with a display: `\"port\"` serves it on 127.0.0.1 behind a password, `\"off\"` opens no \
            port; auto is `\"port\"`",
    }

    /// The control transport.
    transport: Transport {
        get: Transport = Clone::clone,
        set: Transport = to_json,
        read: choice,
        write: to_json,
        words: &["auto", "socket", "tcp"],
        python_default: "\"{default}\"",
        docs: "how the agent is reached: ``\"socket\"``, ``\"tcp\"`` or ``\"auto\"``.",
        page_default: "`\"{default}\"`",
        allowed: "`\"socket\"`, `\"tcp\"`",
        flag: Flag::Text,
        help: "How the agent is reached: auto, socket or tcp [default: {default}]",
    }

    /// What `start` waits for.
    wait_for: WaitFor {
        get: WaitFor = Clone::clone,
        set: WaitFor = to_json,
        read: choice,
        write: to_json,
        words: &["agent", "boot"],
        python_default: "\"{default}\"",
        docs: "a start is over when the ``\"agent\"`` answers, or when the guest's ``\"boot\"`` is.",
        page_default: "`\"{default}\"`",
        allowed: "`\"agent\"` or `\"boot\"`",
        flag: Flag::Text,
        value_name: "EVENT",
        help: "What a start waits for: the agent's first answer, or the end of the guest's boot \
            [default: {default}]",
    }

    /// Whether a start may copy a machine that has booted before.
    warm: Warm {
        get: Warm = Clone::clone,
        set: Warm = to_json,
        read: choice,
        write: to_json,
        words: &["auto", "make", "fork", "off"],
        python_default: "\"{default}\"",
        docs: "with ``\"auto\"`` a start copies a machine of the same kind that has booted before, \
            where that is possible; the second start of a configuration makes that template, in the \
            user's cache folder. With ``\"make\"`` the first one makes it already; with ``\"fork\"`` \
            later ones of the process are forks of a copy that waits in memory; with ``\"off\"`` every \
            machine boots.",
        page_default: "`\"{default}\"`",
        allowed: "a start copies a machine of the same kind that has booted before, which the second \
            start of a kind makes (`\"make\"`: the first one); `\"fork\"`: later starts of the process \
            are forks; `\"off\"`: every machine boots; see \
            [Starts from a template](../guide/lifecycle.md#starts-from-a-template)",
        flag: Flag::Text,
        help: "Copy a machine of the same kind that has booted before, where that is possible: auto (the \
            second start makes what is copied), make (the first one does), fork (later ones of this \
            process are forks) or off [default: {default}]",
    }

    /// What the guest can make the host hold.
    limits: Limits {
        get: &Limits = identity,
        read: |_, value| Limits::from_value(value),
        write: Limits::to_value,
        python: "Limits",
        python_takes: "Limits | Mapping[str, Any]",
        python_default: "Limits()",
        docs: "what the guest can make the host hold, as ``Limits`` or a mapping of its fields.",
        page_default: "see [below](#limits)",
        allowed: "`Limits(...)`, or a mapping of its fields",
        flag: Flag::Own,
    }

    /// The name or absolute path that a stop saves the disk under.
    save: Option<String> {
        get: Option<&str> = Option::as_deref,
        set: &str = Value::from,
        read: |name, value| read_text(name, value, "the name of a save").map(Some),
        write: to_json,
    }

    /// The folder of saves, instead of `.quicksand/sandboxes` in the working folder.
    workspace: Option<PathBuf> {
        get: Option<&Path> = Option::as_deref,
        read: read_workspace,
        write: to_json,
    }
}

#[cfg(test)]
mod tests;

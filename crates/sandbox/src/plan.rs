//! The plan of one machine: everything that QEMU's command line says, as data.
//!
//! Sits between the configuration (what a user wants) and the command line (what QEMU reads).
//! Descriptors appear as numbers and files as paths; nothing here opens them.

use crate::hardware::MachineType;
use crate::network::{Forward, NetworkMode};
use host_platform::Arch;
use runtime_locator::Accelerator;
use std::path::PathBuf;

/// QEMU's name of the guest's disk.
pub(crate) const DRIVE: &str = "drive0";
/// What takes the place of a secret where a command line is shown.
pub(crate) const REDACTED: &str = "<redacted>";

/// A machine that can be turned into arguments without further decisions.
#[derive(Clone, Debug, PartialEq)]
pub struct MachinePlan {
    /// The guest's architecture.
    pub arch: Arch,
    /// The machine type.
    pub machine: MachineType,
    /// The value of `-m`.
    pub memory: String,
    /// The number of virtual CPUs.
    pub cpus: u16,
    /// QEMU's folder of firmware for `-L`; its own default when it is `None`.
    pub firmware: Option<PathBuf>,
    /// The accelerator.
    pub accelerator: Accelerator,
    /// Whether the host is itself a Hyper-V guest.
    pub nested_hyperv: bool,
    /// The kernel to boot.
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: PathBuf,
    /// The copy-on-write disk.
    pub disk: DiskPlan,
    /// How host and guest talk.
    pub control: ControlPlan,
    /// Where QMP is served.
    pub qmp: QmpPlan,
    /// What the guest can reach.
    pub network_mode: NetworkMode,
    /// Ports from the host into the guest.
    pub forwards: Vec<Forward>,
    /// QEMU's end of the guest's network link, when this process is its network; QEMU's own user network
    /// when it is `None`.
    pub link_fd: Option<i32>,
    /// Folders that are shared by 9p.
    pub plan9: Vec<Plan9Share>,
    /// The command that serves shares through `guestfwd`, when there are any.
    pub smb_server: Option<String>,
    /// The screen, when there is one.
    pub display: Option<DisplayPlan>,
    /// How fast the guest's time-stamp counter counts, where it would have to measure that.
    pub tsc_khz: Option<u32>,
    /// Whether the machine is to be copied later, or is a copy.
    pub template: Option<TemplatePlan>,
    /// Descriptors handed to QEMU as sets, in the order of their numbers.
    pub fd_sets: Vec<FdSet>,
    /// Whether QEMU confines itself with seccomp, which only Linux has.
    pub seccomp: bool,
    /// The user's own arguments, last.
    pub extra_args: Vec<String>,
}

/// What a machine begins with, or becomes, other than one that boots.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePlan {
    /// It is frozen once it has booted; its memory is in the file of this path.
    Make {
        /// The path.
        memory: String,
    },
    /// It begins with the memory in the file of this path, which it never writes to, and waits for the
    /// state of its devices.
    Copy {
        /// The path.
        memory: String,
        /// Whether its process is forked later, once for each machine.
        forks: bool,
    },
    /// It waits for its memory and the state of its devices.
    Resume,
}

/// A folder of the host on a 9p device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan9Share {
    /// The folder.
    pub path: PathBuf,
    /// The name by which the guest mounts it.
    pub tag: String,
    /// Whether QEMU refuses writes.
    pub readonly: bool,
    /// Whether modes, owners, links and devices of the guest are kept in extended attributes. Not
    /// every file system of a host has them: they are kept in hidden files there. To the host they
    /// mean nothing either way.
    pub mapped: bool,
}

/// Who sees the screen besides QMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DisplayPlan {
    /// Nobody.
    Hidden,
    /// Whoever knows the password, at `127.0.0.1:5900 + first`, or the next port that is free.
    Vnc {
        /// The first display number that is tried.
        first: u16,
    },
}

/// The copy-on-write disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPlan {
    /// A path, or `/dev/fdset/N` for a descriptor that was handed over.
    pub file: String,
    /// The layers below it, the base first, in the same form. What the files' own headers say of
    /// what is below them is not followed. Empty in the documents' form, where the header says it.
    pub layers: Vec<String>,
    /// How writes are cached.
    pub cache: DiskCache,
}

/// How the host caches the guest's writes (QEMU's `cache=`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskCache {
    /// A completed write is on the host's disk: for disks that are kept.
    Writethrough,
    /// Nothing is ever flushed: for disks that nobody sees after the machine's end.
    Unsafe,
}

impl DiskCache {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Writethrough => "writethrough",
            Self::Unsafe => "unsafe",
        }
    }
}

/// The control transport with its ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlPlan {
    /// HTTP through a forwarded loopback port; the kernel's command line carries the secret.
    Tcp {
        /// The host's loopback port.
        host_port: u16,
        /// The agent's port in the guest.
        guest_port: u16,
        /// Where the kernel's command line comes from.
        append: AppendPlan,
    },
    /// HTTP/2 on a virtio-serial port; fw_cfg carries the secret.
    Socket {
        /// QEMU's end of the agent's socket.
        agent_fd: i32,
        /// QEMU's end of the socket for shares, where the image has a use for it.
        shares_fd: Option<i32>,
        /// QEMU's end of the socket that gives it the shares' window, where it has such a device.
        window_fd: Option<i32>,
        /// A file that holds the token, readable by QEMU alone.
        token_file: String,
    },
}

/// Where QEMU reads the kernel's command line of the `tcp` transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AppendPlan {
    /// From `-append`, with this token. Every process of the host can read it there.
    Argument {
        /// The agent's token.
        token: String,
    },
    /// From a configuration file that only QEMU can read.
    File {
        /// Its path, for `-readconfig`.
        path: String,
    },
}

/// Where QMP is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QmpPlan {
    /// On a loopback port: the only way where sockets cannot be inherited.
    Tcp {
        /// The port on the loopback interface.
        port: u16,
    },
    /// On an inherited, connected socket: no other process can ever speak on it.
    Fd {
        /// QEMU's end.
        fd: i32,
    },
}

/// An open file that QEMU reaches as `/dev/fdset/SET`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FdSet {
    /// The descriptor.
    pub fd: i32,
    /// The set's number.
    pub set: u32,
}

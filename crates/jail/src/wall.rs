//! The walls, one by one, and their names in reports.

use serde::Serialize;

/// One wall around QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Wall {
    /// An environment of a few fixed variables, a session of its own, no descriptors but those that
    /// are needed, no new privileges, no capabilities, no core dumps.
    Process,
    /// Limits of memory, file size, descriptors and threads.
    Limits,
    /// A user namespace: no right over anything of the host but by its files' modes.
    UserNamespace,
    /// A mount namespace with a root of its own, in which there is next to nothing.
    MountNamespace,
    /// A process namespace: no other process can be named.
    PidNamespace,
    /// A network namespace without any network, abstract sockets included.
    NetworkNamespace,
    /// Namespaces of System V IPC and of the host's name.
    IpcNamespace,
    /// Landlock's rules for files (ABI 1).
    LandlockFiles,
    /// Landlock's rules for TCP ports (ABI 4).
    LandlockTcp,
    /// Landlock's scopes: no abstract socket and no signal leaves (ABI 6).
    LandlockScopes,
    /// A list of the system calls that QEMU needs; all others fail.
    SystemCalls,
}

impl Wall {
    /// All of them.
    pub const ALL: [Wall; 11] = [
        Wall::Process,
        Wall::Limits,
        Wall::UserNamespace,
        Wall::MountNamespace,
        Wall::PidNamespace,
        Wall::NetworkNamespace,
        Wall::IpcNamespace,
        Wall::LandlockFiles,
        Wall::LandlockTcp,
        Wall::LandlockScopes,
        Wall::SystemCalls,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Wall::Process => "process",
            Wall::Limits => "limits",
            Wall::UserNamespace => "user-namespace",
            Wall::MountNamespace => "mount-namespace",
            Wall::PidNamespace => "pid-namespace",
            Wall::NetworkNamespace => "network-namespace",
            Wall::IpcNamespace => "ipc-namespace",
            Wall::LandlockFiles => "landlock-files",
            Wall::LandlockTcp => "landlock-tcp",
            Wall::LandlockScopes => "landlock-scopes",
            Wall::SystemCalls => "system-calls",
        }
    }
}

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
    pub const ALL: [Self; 11] = [
        Self::Process,
        Self::Limits,
        Self::UserNamespace,
        Self::MountNamespace,
        Self::PidNamespace,
        Self::NetworkNamespace,
        Self::IpcNamespace,
        Self::LandlockFiles,
        Self::LandlockTcp,
        Self::LandlockScopes,
        Self::SystemCalls,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Limits => "limits",
            Self::UserNamespace => "user-namespace",
            Self::MountNamespace => "mount-namespace",
            Self::PidNamespace => "pid-namespace",
            Self::NetworkNamespace => "network-namespace",
            Self::IpcNamespace => "ipc-namespace",
            Self::LandlockFiles => "landlock-files",
            Self::LandlockTcp => "landlock-tcp",
            Self::LandlockScopes => "landlock-scopes",
            Self::SystemCalls => "system-calls",
        }
    }
}

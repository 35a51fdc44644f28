//! Launches virtual machines for untrusted work, and talks to the agent inside them.
//!
//! From a configuration to a machine: `config` (what the user wants, checked) → `located` (what this host
//! has) → `plan` (one machine as data) → `qemu_args` (QEMU's command line, pure) → `launch` (the one wrapper
//! of processes). `start` chooses the shortest of all ways (`warm`: templates and forks), `boot` does it and
//! waits for the first answer, `lifecycle` says who may start and stop when, `agent_client` and `qmp` speak
//! to the two ends.
//!
//! Modules are layers: what a machine is (`qemu_process`, `fork_source`, `templates`, `save`, `shares`,
//! `checkpoint`, `machine`) knows nothing of what is done with it (`frozen`, `boot`, `warm`, `start`,
//! `saving`, `checkpointing`, `mounting`, `children`), nor that of the façade (`sandbox`, `pool`). No module
//! is in a circle with another (`cargo xtask check layering`).
//!
//! Must not know how images or QEMU are made, nor who calls: Python and the command line are
//! built on this crate's public names.
//!
//! Invariant: the guest is hostile. Whatever it sends is bounded, and nothing that it sends chooses
//! what the host opens, runs or writes.

// This crate's public names are the Rust interface, with documentation of their own.
#![warn(missing_docs)]
// What a program of ours prints is that program's affair.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod agent_client;
mod blocking;
mod boot;
mod budget;
mod checkpoint;
mod checkpointing;
mod children;
mod config;
mod console;
mod deadline;
#[cfg(unix)]
mod descriptor;
mod desktop;
mod error;
mod execute;
mod files;
#[doc(hidden)]
pub mod fork;
#[cfg(target_os = "linux")]
mod fork_source;
mod forwards;
#[cfg(target_os = "linux")]
mod frozen;
#[cfg(test)]
mod fuzz;
#[cfg(target_os = "linux")]
mod guest_memory;
mod hardware;
mod host_process;
mod kernel_cmdline;
mod launch;
mod lifecycle;
mod limits;
mod located;
mod machine;
mod metrics;
mod mount;
mod mounting;
mod network;
mod new_file;
mod overlay;
mod plan;
mod pool;
mod positioned;
mod qemu_args;
mod qemu_process;
mod qmp;
mod quota;
mod remover;
mod sandbox;
pub mod save;
mod save_name;
mod saving;
mod screen;
mod secret;
mod share_port;
mod shares;
mod size;
mod start;
pub mod templates;
mod time_stamp;
mod timing;
mod usernet;
mod users;
#[cfg(target_os = "linux")]
mod vmstate;
#[cfg(target_os = "linux")]
mod warm;

/// The examples of the guide are tests too.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/src/guide/sync-and-rust.md")]
struct Guide;

pub use agent_client::SessionInput;
pub use agent_protocol::GuestText;
pub use checkpoint::Checkpoint;
pub use config::{
    AccelChoice, Flag, OPTIONS, OptionInfo, SandboxConfig, SandboxConfigBuilder, Transport,
    VncAccess, WaitFor, Warm,
};
pub use desktop::{Key, MouseButton, POINTER_MAX, PointerUnit, Region, ScreenshotOptions};
pub use error::{Error, ErrorKind, Result};
pub use execute::{
    DEFAULT_MAX_OUTPUT, ExecuteRequest, ExecuteResult, OutputSink, OutputStream, Pty, SessionEvent,
};
pub use files::{
    DEFAULT_MAX_BYTES, DEFAULT_MAX_ENTRIES, DEFAULT_MAX_FILE, DownloadOptions, Transfer,
};
pub use hardware::{
    MachineType, accel_flag, cpu_flag, cpu_properties, default_boot_timeout_s, native_accelerator,
};
pub use host_platform::Arch;
pub use jail::{Plan as Walls, Wall, standing as standing_walls};
pub use limits::Limits;
pub use metrics::Metrics;
pub use mount::{Mount, MountCache, MountHandle, MountType};
pub use network::{Direction, Forward, NetworkMode};
pub use plan::{
    AppendPlan, ControlPlan, DiskCache, DiskPlan, DisplayPlan, FdSet, MachinePlan, Plan9Share,
    QmpPlan, TemplatePlan,
};
pub use pool::Pool;
pub use qemu_args::qemu_args;
pub use runtime_locator::{Accelerator, Search};
pub use sandbox::{Sandbox, Session as SessionOutput};
pub use size::Size;
pub use spelling::printable;
pub use timing::{BootTiming, DONE, STAGES};
pub use users::User;

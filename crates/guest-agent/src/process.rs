//! Commands: how they are started, followed, bounded and killed.
//!
//! ```text
//!  plan     request + accounts -> what to execute, as whom, where, with which environment
//!  spawn    plan -> child: memory shared until execve, born inside its control group
//!  reaper   the one place that waits for children, ours and orphans
//!  group    control groups, used again and again; kill everything that a command left behind
//!  source   output of a command, in chunks as they arrive
//!  sink     input of a command, with a bounded queue
//!  running  all of it as one stream of events, with the timeout
//! ```

pub mod group;
pub mod plan;
pub mod pty;
pub mod reaper;
pub mod running;
pub mod sink;
pub mod source;
pub mod spawn;

pub use running::{Event, Process, Running, Stream};

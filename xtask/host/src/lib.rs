//! What a task needs of this host and how it gets it: the preflight, packages and Python tools, and
//! packages that are unpacked instead of installed. It knows no task.

pub mod preflight;
pub mod setup;
pub mod unpacked;

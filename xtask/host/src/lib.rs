//! What a task needs of this host and how it gets it: the preflight, packages and Python tools,
//! packages that are unpacked instead of installed, and what runs programs of another architecture. It knows no task.

pub mod bake_step;
pub mod emulator;
mod needs;
pub mod preflight;
pub mod setup;
pub mod unpacked;

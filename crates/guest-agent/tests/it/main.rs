//! The agent's binary from outside, over both protocols. What boots is tested in `tests/vm`.

mod commands;
mod files;
mod harness;
mod http;
mod killing;
mod sessions;

//! Our own programs, compiled from this workspace: the runtime's wheel, with the native module and the command in
//! it, and the guest agent for images.
//!
//! `wheel` makes the wheel with the call of `compile`, `agent` the agent; `crates` says what is linked into
//! either, `compiled_paths` keeps this machine's folders out of both, `cross_compiler` compiles for targets that
//! the toolchain lacks. Each is an entry of the build cache. It must not know the images that the agent is put
//! into, nor the release that the wheel is a part of.

pub mod agent;
mod compile;
mod compiled_paths;
mod crates;
mod cross_compiler;
mod wheel;

pub use cross_compiler::{CrossCompiler, is_target_installed};
pub use wheel::{Profile, build, build_for, check_target, extras, machines, needs, this_host};

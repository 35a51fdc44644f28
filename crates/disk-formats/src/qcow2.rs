//! qcow2, QEMU's disk format: one typed header for all who read or write it, a writer of compressed images, a
//! reader of whole disks, a check of a layer that QEMU is given, and a copy of what an overlay holds now.
//! <https://www.qemu.org/docs/master/interop/qcow2.html>
//!
//! What a file says of the file below it is never followed: the caller knows the chain.

mod active;
mod header;
mod layer;
mod read;
mod write;

pub use active::copy_active;
pub use layer::{Fault, Layer, empty_overlay, inspect};
pub use read::{read, read_disk};
pub use write::{Settings, write};

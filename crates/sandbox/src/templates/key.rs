//! What a template depends on. Two starts with the same key could have the same memory.

use crate::located::Located;
use runtime_locator::Accelerator;
use serde_json::json;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

/// The form of templates; others are not read.
pub(crate) const FORMAT: u32 = 1;

/// The key of a machine with this command line, whose numbers of descriptors mean nothing, and with these
/// disks.
pub(crate) fn compute(
    command: &[String],
    located: &Located,
    disks: &[Arc<File>],
) -> io::Result<String> {
    let qemu = fs_err::File::open(&located.qemu.system)?.into_file();
    let files = &located.image.files;
    let mut identities = vec![identity(&qemu)?, identity(&files.kernel)?, identity(&files.initrd)?];
    for disk in disks {
        identities.push(identity(disk)?);
    }
    // The guest has measured its clock against this processor, and under an accelerator it knows it
    // by name.
    let processor = fs_err::read_to_string("/proc/cpuinfo")?;
    let lines = |start: &str| {
        processor.lines().find(|line| line.starts_with(start)).unwrap_or_default().to_owned()
    };
    let kernel = fs_err::read_to_string("/proc/sys/kernel/osrelease")?;
    let flags =
        if located.accelerator == Accelerator::Tcg { String::new() } else { lines("flags") };
    let all = json!({
        "format": FORMAT,
        "release": env!("CARGO_PKG_VERSION"),
        "accelerator": located.accelerator.name(),
        "command": command,
        "files": identities,
        "disk_size": located.disk_size,
        "processor": [lines("model name"), flags],
        "kernel": kernel.trim_end(),
    });
    Ok(checksum::sha256(all.to_string().as_bytes()))
}

/// What tells a file from what it was before: every write changes the last of these, and no program
/// can set it back. See `inode(7)`.
pub(super) fn identity(file: &File) -> io::Result<[i64; 5]> {
    let found = file.metadata()?;
    let changed = found.ctime().wrapping_mul(1_000_000_000).wrapping_add(found.ctime_nsec());
    let written = found.mtime().wrapping_mul(1_000_000_000).wrapping_add(found.mtime_nsec());
    Ok([found.dev() as i64, found.ino() as i64, found.size() as i64, written, changed])
}

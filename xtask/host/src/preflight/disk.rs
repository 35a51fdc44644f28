//! Where a task writes, and how much room is there. What is too little, `plan` decides.

use crate::needs::Room;
use std::path::{Path, PathBuf};
use xtask_base::context::Context;

/// What the build cache is called.
pub const CACHE: &str = "the build cache";

/// A folder that is written to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it is, in words.
    pub what: &'static str,
    /// The folder.
    pub path: PathBuf,
    /// How it is put elsewhere.
    pub elsewhere: &'static str,
    /// The file system that it lies on.
    pub device: u64,
    /// What is free there, in MiB.
    pub free: u64,
    /// What the task writes there, in MiB.
    pub needed: u64,
    /// Whether a file could be written; else what was said.
    pub writable: Result<(), String>,
    /// Whether programs may be started from there.
    pub runs_programs: bool,
}

/// The folders that a task writes to; none when it writes nothing.
pub fn places(context: &Context, room: Room) -> Vec<Place> {
    if room == Room::default() {
        return vec![];
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| context.root.join("target"), PathBuf::from);
    [
        (CACHE, context.cache.root().to_owned(), "QUICKSAND_CACHE=DIR", room.cache),
        ("target/", target, "CARGO_TARGET_DIR=DIR", room.target),
        ("temporary files", std::env::temp_dir(), "TMPDIR=DIR", room.temporary),
    ]
    .into_iter()
    .filter(|(_, _, _, needed)| *needed > 0)
    .filter_map(|(what, path, elsewhere, needed)| place(what, path, elsewhere, needed))
    .collect()
}

#[cfg(unix)]
fn place(what: &'static str, path: PathBuf, elsewhere: &'static str, needed: u64) -> Option<Place> {
    use std::os::unix::fs::MetadataExt as _;
    let there = path.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    let device = fs_err::metadata(there).ok()?.dev();
    let system = rustix::fs::statvfs(there).ok()?;
    let writable = tempfile::tempfile_in(there);
    Some(Place {
        what,
        free: (system.f_bavail * system.f_frsize) >> 20,
        runs_programs: runs_programs(system.f_flag),
        writable: writable.map(drop).map_err(|error| error.to_string()),
        path,
        elsewhere,
        device,
        needed,
    })
}

/// Whether the file system lets programs run. Only Linux tells it with the rest.
#[cfg(target_os = "linux")]
const fn runs_programs(flags: rustix::fs::StatVfsMountFlags) -> bool {
    !flags.contains(rustix::fs::StatVfsMountFlags::NOEXEC)
}

#[cfg(all(unix, not(target_os = "linux")))]
const fn runs_programs(_: rustix::fs::StatVfsMountFlags) -> bool {
    true
}

#[cfg(not(unix))]
fn place(_: &'static str, _: PathBuf, _: &'static str, _: u64) -> Option<Place> {
    None
}

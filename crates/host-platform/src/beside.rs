//! Folders for what is not whole yet, which are renamed when it is. One that a process left because it
//! was killed is taken away by the next that makes one there.

use fs_err as fs;
use std::{io, path::Path};
use tempfile::TempDir;

/// A folder in `parent` for what is not whole yet. What a process that was killed left of its own is
/// taken away first.
pub fn beside(parent: &Path) -> io::Result<TempDir> {
    let space = process_space();
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if maker(&name, &space).is_some_and(|process| !is_running(process)) {
            // Another run may be taking it away as well.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    let prefix = format!("{PART}{space}-{}-", std::process::id());
    tempfile::Builder::new().prefix(&prefix).tempdir_in(parent)
}

/// How the names of folders that are not whole begin.
const PART: &str = ".part-";

/// Where process numbers are from: a cache may be shared by containers, each with numbers of its own.
/// Nothing where that is not known, and then nothing is taken away.
fn process_space() -> String {
    let link = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    link.to_string_lossy().chars().filter(char::is_ascii_digit).collect()
}

/// The process of this space that made a folder that is not whole.
fn maker(name: &str, space: &str) -> Option<u32> {
    let mut fields = name.strip_prefix(PART)?.split('-');
    let is_of_space = !space.is_empty() && fields.next()? == space;
    let process = fields.next()?.parse().ok()?;
    is_of_space.then_some(process)
}

fn is_running(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let child = duct::cmd!("true").start().unwrap();
        let gone = child.pids()[0];
        child.wait().unwrap();
        let space = process_space();
        let left = folder.path().join(format!("{PART}{space}-{gone}-abc"));
        // Of a process that runs, of another container, and of nobody known.
        let kept =
            [format!("{PART}{space}-1-abc"), format!("{PART}7-{gone}-abc"), format!("{PART}x")];
        fs::create_dir_all(left.join("half")).unwrap();
        for name in &kept {
            fs::create_dir(folder.path().join(name)).unwrap();
        }
        let new = beside(folder.path()).unwrap();
        assert!(!left.exists() && new.path().is_dir());
        assert!(kept.iter().all(|name| folder.path().join(name).is_dir()));
    }
}

//! What the newest index of a repository was that this host has used. An index of Alpine's has a
//! signature and no date of its own, so that a mirror could answer with an old one for ever, whose
//! packages have known flaws. Its packages have the times at which they were built.

use super::index::Record;
use crate::{Error, PackageError};
use fs_err as fs;
use std::{io::Write as _, path::Path};

/// When the newest package of an index was built, in seconds since the epoch.
pub fn newest(records: &[Record]) -> i64 {
    records.iter().map(|record| record.built).max().unwrap_or(0)
}

/// Refuses an index that is older than the newest one seen, and remembers it otherwise. `memory` is a
/// folder that outlasts bakes, `repository` where the index lies below a mirror's root.
pub fn check(memory: &Path, repository: &str, newest: i64, index: &Path) -> Result<(), Error> {
    fs::create_dir_all(memory)?;
    // Two bakes that read and write at once would leave the older time, and that would be the one to beat.
    let turn = fs::File::open(memory);
    let _ = turn.as_ref().map(|turn| turn.file().lock());
    let place = memory.join(repository.replace('/', "_"));
    let seen = fs::read_to_string(&place).ok().and_then(|text| text.trim().parse().ok());
    match seen {
        Some(seen) if newest < seen => {
            Err(Error::Package(PackageError::OldIndex { path: index.to_owned(), newest, seen }))
        }
        Some(seen) if newest == seen => Ok(()),
        _ => {
            // An empty one would let an old index pass.
            Ok(host_platform::write_whole(&place, |part| writeln!(part, "{newest}"))?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_index_is_refused_and_a_newer_one_remembered() {
        let memory = tempfile::tempdir().unwrap();
        let ask = |repository: &str, newest| {
            check(memory.path(), repository, newest, Path::new("APKINDEX.tar.gz"))
        };
        for newest in [100, 100, 200] {
            ask("v3.22/main/x86_64", newest).unwrap();
        }
        let error = ask("v3.22/main/x86_64", 199).unwrap_err();
        assert!(error.to_string().contains("APKINDEX.tar.gz"), "{error}");
        assert!(error.hint().unwrap().contains("QUICKSAND_MIRROR_ALPINE"), "{error}");
        ask("v3.22/community/x86_64", 50).unwrap();
        ask("v3.22/main/x86_64", 200).unwrap();
    }
}

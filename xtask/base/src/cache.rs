//! The build cache: `$QUICKSAND_CACHE`, else `$XDG_CACHE_HOME/quicksand-build`, else
//! `~/.cache/quicksand-build`. An entry is a folder named by the hash of all of its inputs; it is
//! filled beside its place and renamed, so that it is whole or absent. Of each kind the entries that
//! were used last are kept: a cache that only grew would fill the disk.

use crate::ui::hinted;
use anyhow::{Context as _, Result};
pub use cache_key::Key;
use fs_err as fs;
use host_platform::{beside, rename_whole_folder};
use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// How many entries of a kind are kept: some checkouts' worth.
const KEPT: usize = 16;

/// An entry that was used within this time may be in use still: no run takes longer.
const IN_USE: Duration = Duration::from_secs(2 * 60 * 60);

/// The build cache's root.
pub struct Cache {
    root: PathBuf,
    /// Entries that are absent are made.
    makes: bool,
}

/// An entry is absent, in a cache that makes none.
#[derive(Debug, thiserror::Error)]
#[error("The cache holds no such entry of {0}")]
struct Absent(String);

impl Cache {
    /// Opens (and makes) the cache folder.
    pub fn open() -> Result<Self> {
        let root = match (std::env::var_os("QUICKSAND_CACHE"), std::env::var_os("XDG_CACHE_HOME")) {
            (Some(path), _) => PathBuf::from(path),
            (None, Some(path)) => PathBuf::from(path).join("quicksand-build"),
            (None, None) => std::env::home_dir()
                .context("No home folder is known; set QUICKSAND_CACHE to a folder")?
                .join(".cache/quicksand-build"),
        };
        Self::at(&root)
    }

    /// Opens (and makes) a cache in this folder.
    pub fn at(root: &Path) -> Result<Self> {
        fs::create_dir_all(root.join("logs")).map_err(|error| {
            let hint = "name a folder that this user may write to: QUICKSAND_CACHE=DIR";
            hinted(format!("The build cache cannot be made: {error}"), hint)
        })?;
        Ok(Self { root: root.to_owned(), makes: true })
    }

    /// The same cache for a look at what is in it: an entry that is absent is an error.
    pub fn looked_at(&self) -> Self {
        Self { root: self.root.clone(), makes: false }
    }

    /// Whether an entry that is absent is made.
    pub fn makes_entries(&self) -> bool {
        self.makes
    }

    /// The folder that all of it is in.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder of the cache that lives on between builds (downloads, tools, target folders).
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir_all(&path)?;
        Ok(path)
    }

    /// The folder that cargo compiles `what` of one checkout in. Cargo takes what another checkout's sources of
    /// the same name have made for fresh by the files' times alone, so no two share it.
    pub fn target(&self, what: &str, root: &Path) -> Result<PathBuf> {
        let mut key = Key::new("checkout");
        key.add("root", root.as_os_str().as_encoded_bytes());
        self.folder(&format!("target-{what}/{}", &key.digest()[..12]))
    }

    /// A turn at what can be made by one run at a time, such as an environment that holds its own path;
    /// waits for the others, and ends with the file that it gives.
    pub fn turn(&self, name: &str) -> Result<fs::File> {
        let path = self.folder("turns")?.join(name);
        let file = fs::OpenOptions::new().create(true).append(true).open(path)?;
        // A file system without locks has no turns.
        let _ = file.file().lock();
        Ok(file)
    }

    /// Where the logs of steps are kept.
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The entry `kind/key`, made by `fill` in a folder beside it when it is absent.
    pub fn entry(
        &self,
        kind: &str,
        key: &Key,
        fill: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let parent = self.folder(kind)?;
        if let Some(place) = self.find(kind, key) {
            return Ok(place);
        }
        if !self.makes {
            return Err(Absent(kind.to_owned()).into());
        }
        let place = parent.join(key.digest());
        let beside = beside(&parent)?;
        fill(beside.path())?;
        let beside = beside.keep();
        // tempfile makes the folder private; entries are as readable as anything else of ours.
        make_listable(&beside)?;
        match rename_whole_folder(&beside, &place) {
            Ok(()) => {
                prune(&parent, SystemTime::now());
                Ok(place)
            }
            // Another run finished the same entry first: what it made is as good as ours.
            Err(_) if place.is_dir() => {
                fs::remove_dir_all(&beside)?;
                Ok(place)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Takes the entry `kind/key` away, so that it is made again.
    pub fn forget(&self, kind: &str, key: &Key) -> Result<()> {
        match self.find(kind, key).filter(|_| self.makes) {
            Some(entry) => Ok(fs::remove_dir_all(entry)?),
            None => Ok(()),
        }
    }

    /// The entry `kind/key` if it is there already.
    pub fn find(&self, kind: &str, key: &Key) -> Option<PathBuf> {
        let place = Some(self.root.join(kind).join(key.digest())).filter(|place| place.is_dir())?;
        // The folder's time is that of its last use. Where it cannot be set, it is that of its making.
        if let Ok(folder) = fs::File::open(&place) {
            let _ = folder.file().set_modified(SystemTime::now());
        }
        Some(place)
    }
}

/// Takes away what was not used for long, but for the [`KEPT`] entries that were used last. A cache
/// that cannot be tidied still serves.
fn prune(kind: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(kind) else { return };
    let mut used: Vec<(SystemTime, PathBuf)> = entries
        .flatten()
        .filter(|entry| !entry.file_name().to_string_lossy().starts_with('.'))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    used.sort_by(|a, b| b.cmp(a));
    for (last_use, path) in used.into_iter().skip(KEPT) {
        if now.duration_since(last_use).is_ok_and(|unused| unused > IN_USE) {
            // Renamed first: so that no other run finds it half gone.
            if let Ok(beside) = beside(kind) {
                let _ = fs::rename(&path, beside.path().join("old"));
            }
        }
    }
}

#[cfg(unix)]
fn make_listable(path: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    Ok(())
}

#[cfg(not(unix))]
fn make_listable(_path: &Path) -> Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_is_only_looked_at_makes_no_entry() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let key = Key::new("test");
        let look = cache.looked_at();
        assert!(look.entry("kind", &key, |_| panic!("it was made")).is_err());
        cache.entry("kind", &key, |_| Ok(())).unwrap();
        look.forget("kind", &key).unwrap();
        look.entry("kind", &key, |_| panic!("it was made")).unwrap();
    }

    #[test]
    fn no_two_checkouts_are_compiled_in_one_folder() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let of = |what, root| cache.target(what, Path::new(root)).unwrap();
        assert_eq!(of("agent", "/one"), of("agent", "/one"));
        assert_ne!(of("agent", "/one"), of("agent", "/two"));
        assert_ne!(of("agent", "/one"), of("runtime", "/one"));
    }

    #[test]
    fn the_entries_used_last_are_kept_and_none_that_may_be_in_use() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path()).unwrap();
        let key = |number: usize| {
            let mut key = Key::new("test");
            key.add("number", &number.to_le_bytes());
            key
        };
        let made: Vec<PathBuf> =
            (0..KEPT + 3).map(|n| cache.entry("kind", &key(n), |_| Ok(())).unwrap()).collect();
        assert!(made.iter().all(|entry| entry.is_dir()), "all were used just now");
        let long_ago = SystemTime::now() - 2 * IN_USE;
        for (age, entry) in made.iter().rev().enumerate() {
            let time = long_ago - Duration::from_secs(age as u64);
            fs::File::open(entry).unwrap().file().set_modified(time).unwrap();
        }
        // The oldest of all is used once more.
        assert!(cache.find("kind", &key(0)).is_some());
        cache.entry("kind", &key(99), |_| Ok(())).unwrap();
        let kept = made.iter().map(|entry| entry.is_dir()).collect::<Vec<_>>();
        assert_eq!(kept.iter().filter(|kept| **kept).count(), KEPT - 1);
        assert!(kept[0] && !kept[1] && !kept[4] && kept[5]);
        let left = fs::read_dir(folder.path().join("kind")).unwrap().count();
        assert_eq!(left, KEPT, "nothing is half gone");
    }
}

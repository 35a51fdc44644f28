//! A root folder: where `/` is for the system whose files are read.

use crate::error::Error;
use std::path::{Component, Path, PathBuf};

/// The folder that stands for `/` of a system; `/` itself for this host.
#[derive(Clone, Debug)]
pub struct Root(PathBuf);

/// More links than this in one path are a loop (Linux's own bound).
const MAX_LINKS: usize = 40;

impl Root {
    /// This host's own root.
    pub fn host() -> Self {
        Self(PathBuf::from("/"))
    }

    /// A system's tree at `path`.
    ///
    /// # Errors
    /// When the folder is not there.
    pub fn at(path: &Path) -> Result<Self, Error> {
        Ok(Self(fs_err::canonicalize(path)?))
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path of the system as a path of this host; links are left as they are.
    pub fn join(&self, path: &Path) -> PathBuf {
        if path.starts_with(&self.0) {
            return path.to_path_buf();
        }
        self.0.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The real file behind a path, with every link resolved as the system itself would: an absolute
    /// target starts at the root folder, and `..` does not leave it.
    ///
    /// # Errors
    /// When nothing is there, or the links turn in a circle.
    pub fn real(&self, path: &Path) -> Result<PathBuf, Error> {
        let mut done = self.0.clone();
        let inside = self.join(path);
        let inside = inside.strip_prefix(&self.0).unwrap_or(&inside).to_path_buf();
        let mut todo: Vec<std::ffi::OsString> = parts(&inside);
        let mut n_links = 0;
        while let Some(part) = todo.pop() {
            if part == ".." {
                if done != self.0 {
                    done.pop();
                }
                continue;
            }
            let next = done.join(&part);
            if !fs_err::symlink_metadata(&next)?.is_symlink() {
                done = next;
                continue;
            }
            n_links += 1;
            if n_links > MAX_LINKS {
                return Err(Error::LinkLoop { path: path.to_path_buf() });
            }
            let target = fs_err::read_link(&next)?;
            if target.is_absolute() {
                done = self.0.clone();
            }
            todo.extend(parts(&target));
        }
        Ok(done)
    }

    /// The real file behind a path, if it is a file.
    pub(crate) fn file(&self, path: &Path) -> Option<PathBuf> {
        self.real(path).ok().filter(|real| real.is_file())
    }
}

/// The names of a path, last first, to be popped.
fn parts(path: &Path) -> Vec<std::ffi::OsString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use fs_err::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside_the_root() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path()).unwrap();
        fs_err::create_dir_all(root.path().join("usr/lib")).unwrap();
        fs_err::write(root.path().join("usr/lib/libz.so.1.2"), "").unwrap();
        symlink("/usr/lib", root.path().join("lib")).unwrap();
        symlink("../../../lib/libz.so.1.2", root.path().join("usr/lib/libz.so.1")).unwrap();
        let real = root.real(Path::new("/lib/libz.so.1")).unwrap();
        assert_eq!(real, root.path().join("usr/lib/libz.so.1.2"));
    }

    #[test]
    fn a_circle_ends() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path()).unwrap();
        symlink("b", root.path().join("a")).unwrap();
        symlink("a", root.path().join("b")).unwrap();
        let error = root.real(Path::new("/a")).unwrap_err();
        assert_eq!(error.to_string(), "The links of `/a` turn in a circle");
    }
}

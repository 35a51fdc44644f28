//! A folder that was opened once, and the files in it.
//!
//! Images and saves come from anywhere, so that what lies in their folders is not trusted: a link
//! could lead to any file of this host, and a pipe or a device in a file's place could block for
//! ever. Everything is opened relative to a folder that is open already, by a single name, without
//! following links, and only regular files are read. Links in the part of a path that the caller
//! gave are followed: they are the caller's. Knows nothing of what the files mean.

use cap_fs_ext::{DirExt, FollowSymlinks, OpenOptionsFollowExt};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The most entries of a folder that are looked at. Folders of packages are the largest, with some
/// thousands.
const MAX_ENTRIES: usize = 100_000;

/// An open folder.
#[derive(Debug)]
pub struct Folder {
    dir: Dir,
    path: PathBuf,
}

impl Folder {
    /// Opens the folder at a path of the caller's, whose links are followed.
    ///
    /// # Errors
    /// What the system says; there is no such folder, or it is something else.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { dir: Dir::open_ambient_dir(path, ambient_authority())?, path: path.to_owned() })
    }

    /// Opens a folder in this one.
    ///
    /// # Errors
    /// What the system says, also for a link and for a name that is more than one name.
    pub fn below(&self, name: &str) -> io::Result<Self> {
        let dir = self.dir.open_dir_nofollow(single(name)?)?;
        Ok(Self { dir, path: self.path.join(name) })
    }

    /// Opens a folder several names below this one.
    ///
    /// # Errors
    /// As [`Folder::below`].
    pub fn beneath(&self, names: &str) -> io::Result<Self> {
        let mut names = names.split('/');
        let mut folder = self.below(names.next().unwrap_or_default())?;
        for name in names {
            folder = folder.below(name)?;
        }
        Ok(folder)
    }

    /// The path by which it was opened, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The names in it, in no order. Names that are not UTF-8 are left out, as none of ours is.
    ///
    /// # Errors
    /// What the system says, and a folder with more than 100,000 entries.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for (index, entry) in self.dir.entries()?.enumerate() {
            if index == MAX_ENTRIES {
                return Err(io::Error::other(format!("it has more than {MAX_ENTRIES} entries")));
            }
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    /// Whether there is anything of that name, a link included.
    pub fn has(&self, name: &str) -> bool {
        single(name).is_ok_and(|name| self.dir.symlink_metadata(name).is_ok())
    }

    /// Opens a regular file for reading. Never waits: a pipe without a writer is refused like
    /// everything else that is not a file.
    ///
    /// # Errors
    /// What the system says; [`io::ErrorKind::InvalidInput`] for what is not a regular file, with
    /// words that follow the name of the file.
    pub fn file(&self, name: &str) -> io::Result<File> {
        let name = single(name)?;
        // A device may do something when it is opened, so that its kind is looked at before, and
        // again afterwards: it may have been exchanged meanwhile.
        check_regular(self.dir.symlink_metadata(name)?.file_type())?;
        let mut options = OpenOptions::new();
        options.read(true).follow(FollowSymlinks::No);
        #[cfg(unix)]
        cap_std::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
        let file = self.dir.open_with(name, &options)?;
        check_regular(file.metadata()?.file_type())?;
        Ok(file.into_std())
    }

    /// Reads a regular file of at most that many bytes.
    ///
    /// # Errors
    /// As [`Folder::file`]; [`io::ErrorKind::InvalidData`] for text that is not UTF-8, and
    /// [`io::ErrorKind::FileTooLarge`].
    pub fn text(&self, name: &str, max_bytes: u64) -> io::Result<String> {
        let mut text = String::new();
        self.file(name)?.take(max_bytes + 1).read_to_string(&mut text)?;
        if text.len() as u64 > max_bytes {
            let reason = format!("it has more than {max_bytes} bytes");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
        }
        Ok(text)
    }
}

/// Refuses what would be more than one step.
fn single(name: &str) -> io::Result<&str> {
    match name {
        "" | "." | ".." => Err(io::ErrorKind::InvalidInput.into()),
        name if name.contains(['/', '\\', '\0']) => Err(io::ErrorKind::InvalidInput.into()),
        name => Ok(name),
    }
}

fn check_regular(kind: cap_std::fs::FileType) -> io::Result<()> {
    let reason = if kind.is_symlink() {
        "it is a link, and links in the folder of an image or save are not followed"
    } else if kind.is_file() {
        return Ok(());
    } else {
        "it is no regular file"
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, reason))
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use fs_err::os::unix::fs::symlink;

    #[test]
    fn files_are_opened_and_everything_else_is_refused_at_once() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs_err::write(at("file"), "text").unwrap();
        fs_err::create_dir(at("folder")).unwrap();
        symlink("file", at("link")).unwrap();
        symlink("/dev/zero", at("zero")).unwrap();
        symlink("folder", at("linked")).unwrap();
        let pipe = std::ffi::CString::new(at("pipe").to_str().unwrap()).unwrap();
        // SAFETY: the path is a string with its end.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        let folder = Folder::open(root.path()).unwrap();
        assert_eq!(folder.text("file", 4).unwrap(), "text");
        let too_large = folder.text("file", 3).unwrap_err();
        assert_eq!(too_large.kind(), io::ErrorKind::FileTooLarge);
        for (name, expect) in [
            ("link", "it is a link"),
            ("zero", "it is a link"),
            ("linked", "it is a link"),
            ("folder", "no regular file"),
            ("pipe", "no regular file"),
            ("socket", "no regular file"),
        ] {
            let error = folder.file(name).unwrap_err().to_string();
            assert!(error.contains(expect), "{name}: {error}");
        }
        for name in ["", ".", "..", "folder/../file", "/etc/passwd", "a\0b"] {
            assert!(folder.file(name).is_err(), "{name:?}");
            assert!(folder.below(name).is_err(), "{name:?}");
        }
        assert!(folder.below("linked").is_err() && folder.below("file").is_err());
        folder.below("folder").unwrap();
        // The caller's own links lead on.
        Folder::open(&at("linked")).unwrap();
    }
}

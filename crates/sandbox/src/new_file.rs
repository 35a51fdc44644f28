//! A file that has no name until it is whole, so that a process that is killed leaves nothing.
//!
//! On Linux it is made without a name (`O_TMPFILE`, <https://man7.org/linux/man-pages/man2/open.2.html>)
//! and linked into its place. Where the system or the file system cannot do that, it has a hidden name
//! beside its place; for a moment it also has one when it replaces another file, which only a rename
//! does. What has such a name, a file or a folder, is removed by another process should this one be
//! killed (`remover.rs`). Whoever writes it holds its lock, and [`sweep`] removes what nobody holds, which
//! is left where both processes end at once. Knows nothing of what is written.

use crate::remover::Remover;
use cap_std::fs::{Dir, DirBuilder, OpenOptions};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;

/// A file for this user alone, for reading and writing. It goes when this value does, unless it was
/// put into a place.
pub(crate) struct NewFile {
    file: File,
    prefix: &'static str,
    /// Where it has a name of its own.
    beside: Option<(Dir, HiddenName)>,
}

impl NewFile {
    /// Makes an empty file on the file system of a folder. `prefix` is what a hidden name starts with.
    pub(crate) fn create(folder: &Dir, prefix: &'static str) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        if let Some(file) = unnamed(folder, 0o600) {
            lock(&file);
            return Ok(Self { file, prefix, beside: None });
        }
        Self::create_named(folder, prefix)
    }

    fn create_named(folder: &Dir, prefix: &'static str) -> io::Result<Self> {
        sweep(folder, prefix);
        let name = HiddenName::new(folder, prefix)?;
        let file = make_file(folder, &name)?;
        lock(&file);
        Ok(Self { file, prefix, beside: Some((folder.try_clone()?, name)) })
    }

    /// The open file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The name that it has beside its place, where it needs one.
    #[cfg(not(unix))]
    pub(crate) fn name(&self) -> Option<&OsStr> {
        self.beside.as_ref().map(|(_, name)| &**name)
    }

    /// The same file, opened another time for reading alone.
    #[cfg(unix)]
    pub(crate) fn reopened(&self) -> io::Result<File> {
        match &self.beside {
            Some((folder, name)) => Ok(folder.open(&**name)?.into_std()),
            None => reopened(&self.file),
        }
    }

    /// The same file, opened another time for writing alone.
    #[cfg(target_os = "linux")]
    pub(crate) fn reopened_for_writing(&self) -> io::Result<File> {
        reopened_for_writing(&self.file)
    }

    /// Gives it its name, unless something has that name. Then it stays as it is, to be tried again.
    pub(crate) fn place(&mut self, folder: &Dir, name: &OsStr) -> io::Result<()> {
        match &self.beside {
            Some((from, beside)) => rename_new((from, beside), (folder, name))?,
            None => link(&self.file, folder, name)?,
        }
        self.beside = None;
        Ok(())
    }

    /// Gives it its name in place of the file that has it.
    pub(crate) fn replace(&mut self, folder: &Dir, name: &OsStr) -> io::Result<()> {
        if self.beside.is_none() {
            sweep(folder, self.prefix);
            let beside = HiddenName::new(folder, self.prefix)?;
            link(&self.file, folder, &beside)?;
            self.beside = Some((folder.try_clone()?, beside));
        }
        if let Some((from, beside)) = &self.beside {
            from.rename(&**beside, folder, name)?;
        }
        self.beside = None;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some((folder, name)) = &self.beside {
            let _ = folder.remove_file(&**name);
        }
    }
}

/// A file without a name; `None` where there are none, or none that can get one later.
#[cfg(target_os = "linux")]
pub(crate) fn unnamed(folder: &Dir, mode: u32) -> Option<File> {
    use rustix::fs::{Mode, OFlags, openat};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let file = File::from(openat(folder, ".", flags, Mode::from_raw_mode(mode)).ok()?);
    fs_err::metadata(own_path(&file)).is_ok().then_some(file)
}

/// Gives an open file, which may have none, a name.
#[cfg(target_os = "linux")]
pub(crate) fn link(file: &File, folder: &Dir, name: &OsStr) -> io::Result<()> {
    use rustix::fs::{AtFlags, CWD, linkat};
    Ok(linkat(CWD, own_path(file), folder, name, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn link(_: &File, _: &Dir, _: &OsStr) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// The path of an open file that has no other.
#[cfg(unix)]
fn own_path(file: &File) -> String {
    crate::descriptor::descriptor_path(std::os::fd::AsRawFd::as_raw_fd(file))
}

/// A file of this process, opened another time for reading alone.
#[cfg(unix)]
pub(crate) fn reopened(file: &File) -> io::Result<File> {
    Ok(fs_err::File::open(own_path(file))?.into_file())
}

/// A file of this process, opened another time for writing alone.
#[cfg(target_os = "linux")]
pub(crate) fn reopened_for_writing(file: &File) -> io::Result<File> {
    Ok(fs_err::OpenOptions::new().write(true).open(own_path(file))?.into_file())
}

/// A name in a folder that nothing else has. What has it when this process is killed is removed.
pub(crate) struct HiddenName {
    name: OsString,
    _remover: Option<Remover>,
}

impl HiddenName {
    pub(crate) fn new(folder: &Dir, prefix: &str) -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random)?;
        let name = OsString::from(format!("{prefix}{:016x}", u64::from_le_bytes(random)));
        let _remover = Remover::for_folder(folder, &name);
        Ok(Self { name, _remover })
    }
}

impl std::ops::Deref for HiddenName {
    type Target = OsStr;

    fn deref(&self) -> &OsStr {
        &self.name
    }
}

/// Makes a file for this user alone.
pub(crate) fn make_file(folder: &Dir, name: &OsStr) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    cap_std::fs::OpenOptionsExt::mode(&mut options, 0o600);
    Ok(folder.open_with(name, &options)?.into_std())
}

/// Makes a folder for this user alone.
pub(crate) fn make_folder(folder: &Dir, name: &OsStr) -> io::Result<()> {
    #[allow(unused_mut, reason = "Windows has no modes")]
    let mut builder = DirBuilder::new();
    #[cfg(unix)]
    cap_std::fs::DirBuilderExt::mode(&mut builder, 0o700);
    folder.create_dir_with(name, &builder)
}

/// A new folder for this user alone with a hidden name, locked as long as the second value is there.
/// Between its making and its locking another may sweep it: then there is one more try.
pub(crate) fn make_hidden_folder(
    parent: &Dir,
    prefix: &str,
) -> io::Result<(HiddenName, Option<File>)> {
    const TRIES: usize = 100;
    for _ in 0..TRIES {
        let name = HiddenName::new(parent, prefix)?;
        make_folder(parent, &name)?;
        match held(parent, &name) {
            Held::Ours(lock) => return Ok((name, lock)),
            Held::Others => {}
        }
        let _ = parent.remove_dir(&*name);
    }
    Err(io::Error::other("others remove what is written there"))
}

/// Whether something of a hidden name is locked by this call.
enum Held {
    Ours(Option<File>),
    #[cfg_attr(not(unix), allow(dead_code, reason = "there are no locks"))]
    Others,
}

/// Takes the lock of what has a hidden name, if that is this user's own file or folder.
#[cfg(unix)]
fn held(parent: &Dir, name: &OsStr) -> Held {
    use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, openat, statat};
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    // What is neither file nor folder is not ours: to open a pipe could wake whoever reads it.
    let is_ours = |of: &rustix::fs::Stat| {
        let kind = FileType::from_raw_mode(of.st_mode);
        let is_own = of.st_uid == rustix::process::geteuid().as_raw();
        is_own && matches!(kind, FileType::RegularFile | FileType::Directory)
    };
    let named = || statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).ok().filter(is_ours);
    let Some(before) = named() else { return Held::Others };
    let Ok(file) = openat(parent, name, flags, Mode::empty()) else { return Held::Others };
    let file = File::from(file);
    let is_the_same = |one: &rustix::fs::Stat| {
        fstat(&file).is_ok_and(|it| (it.st_dev, it.st_ino) == (one.st_dev, one.st_ino))
    };
    // Another may have removed it, and a third made one of that name, until the lock was there.
    if is_the_same(&before) && lock(&file) && named().is_some_and(|now| is_the_same(&now)) {
        return Held::Ours(Some(file));
    }
    Held::Others
}

/// Windows does not remove what is open.
#[cfg(not(unix))]
fn held(_: &Dir, _: &OsStr) -> Held {
    Held::Ours(None)
}

/// Takes the lock that keeps others from sweeping, and says whether it was free.
#[cfg(unix)]
pub(crate) fn lock(file: &File) -> bool {
    use rustix::fs::{FlockOperation, flock};
    flock(file, FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[cfg(not(unix))]
fn lock(_: &File) -> bool {
    true
}

/// Removes what killed writers have left in a folder under hidden names. What cannot be removed is left
/// for the next one.
#[cfg(unix)]
pub(crate) fn sweep(folder: &Dir, prefix: &str) {
    use std::os::unix::ffi::OsStrExt as _;
    let is_hidden = |name: &OsStr| {
        let rest = name.as_bytes().strip_prefix(prefix.as_bytes());
        rest.is_some_and(|rest| rest.len() == 16 && rest.iter().all(u8::is_ascii_hexdigit))
    };
    for entry in folder.entries().into_iter().flatten().flatten() {
        let name = entry.file_name();
        if is_hidden(&name)
            && let Held::Ours(Some(held)) = held(folder, &name)
        {
            let is_folder = held.metadata().is_ok_and(|it| it.is_dir());
            let _ = if is_folder { remove_tree(folder, &name) } else { folder.remove_file(&name) };
        }
    }
}

/// Nobody can say there who is at work.
#[cfg(not(unix))]
pub(crate) fn sweep(_: &Dir, _: &str) {}

/// Renames, unless there is something of that name.
pub(crate) fn rename_new(from: (&Dir, &OsStr), to: (&Dir, &OsStr)) -> io::Result<()> {
    #[cfg(any(target_os = "linux", target_os = "macos"))]
    {
        use rustix::fs::{RenameFlags, renameat_with};
        use rustix::io::Errno;
        match renameat_with(from.0, from.1, to.0, to.1, RenameFlags::NOREPLACE) {
            // A file system or kernel that cannot.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            result => return result.map_err(io::Error::from),
        }
    }
    claim_and_rename(from, to)
}

/// The same in two steps: an empty file or folder takes the name first, which fails when there is
/// one, and is then replaced.
fn claim_and_rename(from: (&Dir, &OsStr), to: (&Dir, &OsStr)) -> io::Result<()> {
    let is_folder = from.0.symlink_metadata(from.1)?.is_dir();
    match is_folder {
        // Windows replaces no folder by one.
        true if cfg!(windows) => {}
        true => make_folder(to.0, to.1)?,
        false => drop(make_file(to.0, to.1)?),
    }
    from.0.rename(from.1, to.0, to.1).inspect_err(|_| {
        let _ = if is_folder { to.0.remove_dir(to.1) } else { to.0.remove_file(to.1) };
    })
}

/// Removes a tree, however deep it is: with two open folders, and without recursion.
pub(crate) fn remove_tree(folder: &Dir, name: &OsStr) -> io::Result<()> {
    set_mode((folder, name), 0o700)?;
    let mut here = folder.open_dir(name)?;
    let mut path = vec![name.to_owned()];
    while let Some((last, above)) = path.split_last() {
        let mut below = None;
        for item in here.entries()? {
            let item = item?;
            if item.file_type()?.is_dir() {
                below = Some(item.file_name());
                break;
            }
            here.remove_file(item.file_name())?;
        }
        if let Some(name) = below {
            set_mode((&here, &name), 0o700)?;
            here = here.open_dir(&name)?;
            path.push(name);
        } else {
            here = parent(here, folder, above)?;
            here.remove_dir(last)?;
            path.pop();
        }
    }
    Ok(())
}

/// The folder above one of ours, which nobody else can have moved; `above` are the names that lead
/// to it from `root`.
#[cfg(unix)]
pub(crate) fn parent(folder: Dir, _root: &Dir, _above: &[OsString]) -> io::Result<Dir> {
    use rustix::fs::{Mode, OFlags, openat};
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
    let above = openat(&folder, "..", flags, Mode::empty())?;
    Ok(Dir::from_std_file(File::from(above)))
}

#[cfg(not(unix))]
pub(crate) fn parent(_folder: Dir, root: &Dir, above: &[OsString]) -> io::Result<Dir> {
    let mut folder = root.try_clone()?;
    for name in above {
        folder = folder.open_dir(name)?;
    }
    Ok(folder)
}

/// Changes the mode of what has a name.
#[cfg(unix)]
pub(crate) fn set_mode((folder, name): (&Dir, &OsStr), mode: u32) -> io::Result<()> {
    use cap_std::fs::{Permissions, PermissionsExt};
    folder.set_permissions(name, Permissions::from_mode(mode))
}

#[cfg(not(unix))]
pub(crate) fn set_mode(_: (&Dir, &OsStr), _: u32) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
pub(crate) mod tests;

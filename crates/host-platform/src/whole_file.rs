//! Files and folders that get their name when they are whole: written beside it, flushed to the disk, renamed.
//! After a loss of power a name leads to what was written or to what was there before, never to a file
//! that is empty or half of itself.

use fs_err as fs;
use std::{io, path::Path};

/// Lets `fill` write a file beside `place`, flushes it and gives it the name when that succeeded. It is readable
/// by its owner alone unless `fill` says otherwise.
///
/// # Errors
/// What `fill` gives; or the file cannot be made, flushed or renamed.
pub fn write_whole<E: From<io::Error>>(
    place: &Path,
    fill: impl FnOnce(&mut std::fs::File) -> Result<(), E>,
) -> Result<(), E> {
    let mut part = tempfile::Builder::new().prefix(".part-").tempfile_in(folder_of(place))?;
    fill(part.as_file_mut())?;
    part.as_file().sync_all()?;
    part.persist(place).map_err(|error| error.error)?;
    Ok(flush_folder(folder_of(place))?)
}

/// Copies a file to `place` with its permissions. A copy and no link: what happens to one of them, its mode among
/// it, must not happen to the other.
///
/// # Errors
/// A file cannot be read or written.
pub fn copy_whole(from: &Path, place: &Path) -> io::Result<()> {
    let mut source = fs::File::open(from)?;
    write_whole(place, |part| {
        io::copy(&mut source, part)?;
        part.set_permissions(source.metadata()?.permissions())
    })
}

/// Flushes a file that is whole, and gives it the name `place` on the same file system.
///
/// # Errors
/// It cannot be flushed or renamed.
pub fn rename_whole(part: &Path, place: &Path) -> io::Result<()> {
    flush(part)?;
    fs::rename(part, place)?;
    flush_folder(folder_of(place))
}

/// The same of a folder with all that is in it.
///
/// # Errors
/// Something of it cannot be read or flushed, or it cannot be renamed.
pub fn rename_whole_folder(part: &Path, place: &Path) -> io::Result<()> {
    flush_tree(part)?;
    fs::rename(part, place)?;
    flush_folder(folder_of(place))
}

/// One call for its whole file system: one for each of thousands of files would take minutes.
#[cfg(target_os = "linux")]
fn flush_tree(folder: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fs::File::open(folder)?)?)
}

#[cfg(not(target_os = "linux"))]
fn flush_tree(folder: &Path) -> io::Result<()> {
    all_below(folder)?.iter().try_for_each(|path| flush(path))
}

/// The files of a folder, and each folder after what is in it; links have nothing to flush.
#[cfg(any(test, not(target_os = "linux")))]
fn all_below(folder: &Path) -> io::Result<Vec<std::path::PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            found.extend(all_below(&entry.path())?);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
    found.push(folder.to_owned());
    Ok(found)
}

fn folder_of(place: &Path) -> &Path {
    place.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn flush(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return flush_folder(path);
    }
    // Windows flushes only what may be written.
    match cfg!(windows) {
        true => fs::OpenOptions::new().write(true).open(path)?.sync_all(),
        false => fs::File::open(path)?.sync_all(),
    }
}

/// Flushes the names of a folder, where the system lets folders be flushed.
fn flush_folder(folder: &Path) -> io::Result<()> {
    match cfg!(unix) {
        true => fs::File::open(folder)?.sync_all(),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_could_not_be_filled_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("wheel");
        fs::write(&place, "old").unwrap();
        let failing = |file: &mut std::fs::File| {
            io::Write::write_all(file, b"ne")?;
            Err(io::Error::other("the disk is full"))
        };
        assert_eq!(write_whole(&place, failing).unwrap_err().to_string(), "the disk is full");
        assert_eq!(fs::read_to_string(&place).unwrap(), "old");
        assert_eq!(names(folder.path()), ["wheel"]);
        write_whole(&place, |file| io::Write::write_all(file, b"new")).unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "new");
        assert_eq!(names(folder.path()), ["wheel"]);
    }

    #[test]
    fn a_copy_shares_nothing_but_its_bytes_with_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let [from, place] = ["from", "place"].map(|name| folder.path().join(name));
        fs::write(&from, "bytes").unwrap();
        copy_whole(&from, &place).unwrap();
        assert_eq!(fs::read_to_string(&place).unwrap(), "bytes");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions();
        assert_eq!(mode(&from), mode(&place));
        let before = mode(&from);
        let mut read_only = before.clone();
        read_only.set_readonly(true);
        fs::set_permissions(&place, read_only).unwrap();
        assert_eq!(mode(&from), before);
    }

    #[test]
    fn whole_files_and_folders_are_renamed_with_what_is_in_them() {
        let folder = tempfile::tempdir().unwrap();
        let [part, file, tree] = ["part", "file", "tree"].map(|name| folder.path().join(name));
        fs::write(&part, "bytes").unwrap();
        rename_whole(&part, &file).unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "bytes");
        fs::create_dir_all(part.join("a/b")).unwrap();
        fs::write(part.join("a/b/c"), "deep").unwrap();
        let found = all_below(&part).unwrap();
        assert_eq!(
            found,
            ["a/b/c", "a/b", "a", ""]
                .map(|it| part.join(it))
                .map(|it| it.components().collect::<std::path::PathBuf>())
        );
        rename_whole_folder(&part, &tree).unwrap();
        assert_eq!(fs::read_to_string(tree.join("a/b/c")).unwrap(), "deep");
        assert!(rename_whole(&part, &file).is_err(), "nothing is there any more");
    }
}

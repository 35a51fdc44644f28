//! Writes what a transfer brings, below one path of the guest.

use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use agent_protocol::{EntryKind, FileEntry, WriteFilesRequest, WriteFilesResponse};

use super::failed;
use crate::{Error, Result};

/// A transfer from the host.
pub struct Writer {
    root: PathBuf,
    file: Option<fs_err::File>,
    /// Modes of folders, given at the end: one without the right to write takes no files.
    folders: Vec<(PathBuf, u32)>,
    written: WriteFilesResponse,
}

impl Writer {
    /// Finds the root and makes the folders above it.
    ///
    /// # Errors
    /// Folders that cannot be made.
    pub fn new(request: &WriteFilesRequest) -> Result<Writer> {
        let mut root = PathBuf::from(&request.path);
        if let Some(name) = &request.name
            && fs_err::metadata(&root).is_ok_and(|metadata| metadata.is_dir())
        {
            root.push(name);
        }
        if let Some(parent) = root.parent() {
            fs_err::create_dir_all(parent).map_err(failed("create", parent))?;
        }
        let written = WriteFilesResponse::default();
        Ok(Writer { root, file: None, folders: Vec::new(), written })
    }

    /// Begins a file, or makes a folder or link.
    ///
    /// # Errors
    /// A path out of the tree; what the kernel refuses.
    pub fn entry(&mut self, entry: &FileEntry) -> Result<()> {
        self.file = None;
        let mut path = self.root.clone();
        path.extend(entry.components()?);
        let mode = entry.mode.map(|mode| mode & 0o7777);
        match entry.kind {
            EntryKind::File => {
                // In place, as every program writes: owner, links to the file and special files stay.
                let file = fs_err::File::create(&path).map_err(failed("write", &path))?;
                if let Some(mode) = mode {
                    file.set_permissions(PermissionsExt::from_mode(mode))
                        .map_err(failed("set the mode of", &path))?;
                }
                self.file = Some(file);
                self.written.n_files += 1;
            }
            EntryKind::Folder => {
                fs_err::create_dir_all(&path).map_err(failed("create", &path))?;
                self.folders.extend(mode.map(|mode| (path, mode)));
            }
            EntryKind::Link => link(entry.target.as_deref().unwrap_or_default(), &path)?,
            EntryKind::Other => {}
        }
        Ok(())
    }

    /// Appends to the file whose entry came last.
    ///
    /// # Errors
    /// No file is open, or the kernel refuses.
    pub fn data(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(file) = &mut self.file else {
            let words = "Frame out of place: data follows the entry of a file";
            return Err(Error::Protocol(agent_protocol::Error::value(words, None)));
        };
        if let Err(error) = file.write_all(bytes) {
            let path = file.path().to_owned();
            return Err(failed("write", &path)(error));
        }
        self.written.n_bytes += bytes.len() as u64;
        Ok(())
    }

    /// Gives folders their modes and tells what was written.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn finish(mut self) -> Result<WriteFilesResponse> {
        self.file = None;
        for (path, mode) in self.folders.iter().rev() {
            fs_err::set_permissions(path, PermissionsExt::from_mode(*mode))
                .map_err(failed("set the mode of", path))?;
        }
        Ok(self.written)
    }
}

/// Makes a link, in the place of a file or link that is there.
fn link(target: &str, path: &Path) -> Result<()> {
    match fs_err::os::unix::fs::symlink(target, path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            fs_err::remove_file(path).map_err(failed("replace", path))?;
            fs_err::os::unix::fs::symlink(target, path).map_err(failed("link", path))
        }
        result => result.map_err(failed("link", path)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str, kind: EntryKind, mode: u32) -> FileEntry {
        FileEntry { path: path.into(), kind, mode: Some(mode), target: Some("x".into()) }
    }

    #[test]
    fn a_tree_is_written_with_its_modes() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("new/tree");
        let path = root.to_str().unwrap().to_owned();
        let mut writer = Writer::new(&WriteFilesRequest { path, name: None }).unwrap();
        writer.entry(&entry("", EntryKind::Folder, 0o500)).unwrap();
        writer.entry(&entry("a", EntryKind::File, 0o750)).unwrap();
        writer.data(b"one ").unwrap();
        writer.data(b"two").unwrap();
        writer.entry(&entry("l", EntryKind::Link, 0o777)).unwrap();
        writer.entry(&entry("l", EntryKind::Link, 0o777)).unwrap();
        assert!(writer.data(b"stray").is_err());
        let written = writer.finish().unwrap();
        assert_eq!(written, WriteFilesResponse { n_files: 1, n_bytes: 7 });
        assert_eq!(fs_err::read(root.join("a")).unwrap(), b"one two");
        let mode = |path: &Path| fs_err::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&root.join("a")), mode(&root)), (0o750, 0o500));
        assert_eq!(fs_err::read_link(root.join("l")).unwrap(), Path::new("x"));
        fs_err::set_permissions(&root, PermissionsExt::from_mode(0o700)).unwrap();
    }

    #[test]
    fn a_file_goes_into_a_folder_under_its_own_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let request = WriteFilesRequest { path, name: Some("f".into()) };
        let mut writer = Writer::new(&request).unwrap();
        writer.entry(&FileEntry { mode: None, ..entry("", EntryKind::File, 0) }).unwrap();
        writer.data(b"x").unwrap();
        writer.finish().unwrap();
        assert_eq!(fs_err::read(folder.path().join("f")).unwrap(), b"x");
    }

    #[test]
    fn a_path_out_of_the_tree_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t").to_str().unwrap().to_owned();
        let mut writer = Writer::new(&WriteFilesRequest { path, name: None }).unwrap();
        for path in ["../out", "/out", "a/../../out"] {
            assert!(writer.entry(&entry(path, EntryKind::File, 0o600)).is_err(), "{path}");
        }
        assert!(!folder.path().join("out").exists());
    }
}

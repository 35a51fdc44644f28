//! A file or a tree, as the frames of a transfer, one for each call.

use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use agent_protocol::{EntryKind, FileEntry, FrameKind, ReadFilesRequest, frame, limits};
use bytes::Bytes;
use fs_err::os::unix::fs::OpenOptionsExt as _;

use super::failed;
use crate::Result;
use crate::body::json;

/// A transfer to the host.
pub struct Reader {
    root: PathBuf,
    /// Paths below the root that are still to come, the next one last.
    waiting: Vec<String>,
    file: Option<fs_err::File>,
    chunk: Vec<u8>,
    is_done: bool,
}

impl Reader {
    /// Looks at the path and begins.
    ///
    /// # Errors
    /// Nothing there, a folder where a file is wanted, or something that is neither.
    pub fn new(request: &ReadFilesRequest) -> Result<Reader> {
        let root = PathBuf::from(&request.path);
        let metadata = fs_err::metadata(&root).map_err(failed("read", &root))?;
        if metadata.is_dir() && !request.tree {
            return Err(failed("read", &root)(ErrorKind::IsADirectory.into()));
        }
        if !metadata.is_dir() && !metadata.is_file() {
            let words = std::io::Error::new(ErrorKind::InvalidInput, "neither file nor folder");
            return Err(failed("read", &root)(words));
        }
        let waiting = vec![String::new()];
        Ok(Reader { root, waiting, file: None, chunk: Vec::new(), is_done: false })
    }

    /// The next frame; `None` after the last.
    pub fn next_frame(&mut self) -> Option<Bytes> {
        if self.is_done {
            return None;
        }
        Some(self.step().unwrap_or_else(|error| {
            self.is_done = true;
            frame::encode(FrameKind::Error, &json(&error.response()))
        }))
    }

    fn step(&mut self) -> Result<Bytes> {
        if let Some(bytes) = self.read_chunk()? {
            return Ok(frame::encode(FrameKind::Data, bytes));
        }
        while let Some(path) = self.waiting.pop() {
            if let Some(entry) = self.begin(path)? {
                return Ok(frame::encode(FrameKind::Entry, &json(&entry)));
            }
        }
        self.is_done = true;
        Ok(frame::encode(FrameKind::Done, &[]))
    }

    /// Bytes of the file that is open; `None` when there is none or it has ended.
    fn read_chunk(&mut self) -> Result<Option<&[u8]>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        self.chunk.resize(limits::FILE_CHUNK, 0);
        loop {
            match file.read(&mut self.chunk) {
                // Files of /proc that would wait for more have nothing more to say.
                Ok(0) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(length) => return Ok(Some(&self.chunk[..length])),
                Err(error) => {
                    let path = file.path().to_owned();
                    return Err(failed("read", &path)(error));
                }
            }
        }
        self.file = None;
        Ok(None)
    }

    /// Opens what a path leads to and tells what it is; `None` when it has gone meanwhile.
    fn begin(&mut self, relative: String) -> Result<Option<FileEntry>> {
        let is_root = relative.is_empty();
        let path = if is_root { self.root.clone() } else { self.root.join(&relative) };
        // The root is what the host asked for; a link below it is sent as a link.
        let looked =
            if is_root { fs_err::metadata(&path) } else { fs_err::symlink_metadata(&path) };
        let metadata = match looked {
            Err(error) if !is_root && error.kind() == ErrorKind::NotFound => return Ok(None),
            looked => looked.map_err(failed("read", &path))?,
        };
        let mut entry = FileEntry {
            path: relative,
            kind: EntryKind::Other,
            mode: Some(metadata.mode() & 0o7777),
            target: None,
        };
        if metadata.is_symlink() {
            let target = fs_err::read_link(&path).map_err(failed("read", &path))?;
            entry.target = target.into_os_string().into_string().ok();
            if entry.target.is_some() {
                entry.kind = EntryKind::Link;
            }
        } else if metadata.is_dir() {
            entry.kind = EntryKind::Folder;
            self.list(&path, &entry.path)?;
        } else if metadata.is_file() && !is_unnamable(&entry.path) {
            let extra = if is_root { 0 } else { libc::O_NOFOLLOW };
            let file = fs_err::OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | extra)
                .open(&path)
                .map_err(failed("read", &path))?;
            // Between the look and the open the name may have come to mean something else.
            if file.metadata().map_err(failed("read", &path))?.is_file() {
                entry.kind = EntryKind::File;
                self.file = Some(file);
            }
        }
        Ok(Some(entry))
    }

    fn list(&mut self, folder: &Path, relative: &str) -> Result<()> {
        let first = self.waiting.len();
        for item in fs_err::read_dir(folder).map_err(failed("read", folder))? {
            let item = item.map_err(failed("read", folder))?;
            let name = item.file_name().to_string_lossy().into_owned();
            let separator = if relative.is_empty() { "" } else { "/" };
            self.waiting.push(format!("{relative}{separator}{name}"));
        }
        // The order of names, so that the same tree gives the same bytes.
        self.waiting[first..].sort_unstable_by(|a, b| b.cmp(a));
        Ok(())
    }
}

/// Whether a name was not UTF-8: the replacement character leads to another file or to none.
fn is_unnamable(path: &str) -> bool {
    path.contains(char::REPLACEMENT_CHARACTER)
}

impl From<Reader> for crate::body::Body {
    fn from(reader: Reader) -> crate::body::Body {
        crate::body::Body::Files(Box::new(reader))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;
    use agent_protocol::FrameDecoder;

    fn all(mut reader: Reader) -> Vec<agent_protocol::Frame> {
        let mut frames = Vec::new();
        while let Some(bytes) = reader.next_frame() {
            let mut decoder = FrameDecoder::new();
            decoder.feed(bytes);
            frames.push(decoder.next_frame().unwrap().unwrap());
        }
        frames
    }

    #[test]
    fn a_tree_comes_with_folders_first_and_links_as_links() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir(folder.path().join("b")).unwrap();
        fs_err::write(folder.path().join("b/two"), b"22").unwrap();
        fs_err::write(folder.path().join("a"), vec![7; limits::FILE_CHUNK + 1]).unwrap();
        fs_err::os::unix::fs::symlink("/etc/passwd", folder.path().join("c")).unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let frames =
            all(Reader::new(&ReadFilesRequest { path: path.clone(), tree: true }).unwrap());
        let shown: Vec<String> = frames
            .iter()
            .map(|frame| match frame.kind {
                FrameKind::Entry => {
                    let entry = FileEntry::from_json(&frame.payload).unwrap();
                    format!("{:?} {}", entry.kind, entry.path)
                }
                kind => format!("{kind:?} {}", frame.payload.len()),
            })
            .collect();
        let expect = [
            "Folder ",
            "File a",
            "Data 262144",
            "Data 1",
            "Folder b",
            "File b/two",
            "Data 2",
            "Link c",
            "Done 0",
        ];
        assert_eq!(shown, expect);
        let refused = Reader::new(&ReadFilesRequest { path, tree: false }).err().unwrap();
        assert!(refused.to_string().contains("directory"), "{refused}");
    }

    #[test]
    fn a_pipe_is_named_and_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = std::ffi::CString::new(folder.path().join("p").to_str().unwrap()).unwrap();
        // SAFETY: the path is a terminated string.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        let path = folder.path().to_str().unwrap().to_owned();
        let frames =
            all(Reader::new(&ReadFilesRequest { path: path.clone(), tree: true }).unwrap());
        let entry = FileEntry::from_json(&frames[1].payload).unwrap();
        assert_eq!((entry.kind, &*entry.path), (EntryKind::Other, "p"));
        let pipe = ReadFilesRequest { path: format!("{path}/p"), tree: true };
        assert!(matches!(Reader::new(&pipe), Err(Error::Path { .. })));
    }

    #[test]
    fn files_without_a_size_are_read_to_their_end() {
        let request = ReadFilesRequest { path: "/proc/self/status".into(), tree: false };
        let frames = all(Reader::new(&request).unwrap());
        assert_eq!(frames[1].kind, FrameKind::Data);
        assert!(frames[1].payload.starts_with(b"Name:"));
    }
}

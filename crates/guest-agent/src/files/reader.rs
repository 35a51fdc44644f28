//! A file or a tree, as the frames of a transfer, one for each call.

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use agent_protocol::{EntryKind, FileEntry, FrameKind, ReadFilesRequest, frame, hole_payload};
use bytes::Bytes;
use fs_err::os::unix::fs::OpenOptionsExt as _;
use rustix::fs::FileType;

use super::extents::{Extent, Extents};
use super::{failed, part, path_of, wrong_kind};
use crate::body::json;
use crate::{Error, Result};

/// Memory for names that are still to come. A folder of more files than fit into it cannot be sent,
/// and does not take the guest's memory.
const MAX_LISTING: usize = 64 << 20;
/// What a name costs beside its bytes.
const NAME_COST: usize = 48;

/// A transfer to the host.
pub struct Reader {
    root: PathBuf,
    has_begun: bool,
    /// The folders that are being listed, each below the one before.
    levels: Vec<Level>,
    /// The memory that their names take.
    listing: usize,
    file: Option<Extents>,
    is_done: bool,
}

/// A folder and what is in it.
struct Level {
    /// Its path below the root.
    path: PathBuf,
    /// Names that are still to come, the next one last.
    names: Vec<Box<[u8]>>,
}

impl Reader {
    /// Looks at the path and begins.
    ///
    /// # Errors
    /// Nothing there, a folder where a file is wanted, or something that is neither.
    pub fn new(request: &ReadFilesRequest) -> Result<Self> {
        let root = path_of(&request.path);
        let metadata = fs_err::metadata(&root).map_err(failed("read", &root))?;
        let is_wanted = metadata.is_file() || (metadata.is_dir() && request.tree);
        if !is_wanted {
            return Err(wrong_kind("read", &root, FileType::from_raw_mode(metadata.mode())));
        }
        Ok(Self {
            root,
            has_begun: false,
            levels: Vec::new(),
            listing: 0,
            file: None,
            is_done: false,
        })
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
        if let Some(bytes) = self.read_on()? {
            return Ok(bytes);
        }
        while let Some(path) = self.next_path() {
            if let Some(entry) = self.begin(path)? {
                return Ok(frame::encode(FrameKind::Entry, &json(&entry)));
            }
        }
        self.is_done = true;
        Ok(frame::encode(FrameKind::Done, &[]))
    }

    /// What comes next of the file that is open; `None` when there is none or it has ended.
    fn read_on(&mut self) -> Result<Option<Bytes>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        let path = file.file().path().to_owned();
        match file.next_extent().map_err(failed("read", &path))? {
            Some(Extent::Data(bytes)) => Ok(Some(frame::encode(FrameKind::Data, bytes))),
            Some(Extent::Hole(length)) => {
                Ok(Some(frame::encode(FrameKind::Hole, &hole_payload(length))))
            }
            None => {
                self.file = None;
                Ok(None)
            }
        }
    }

    /// The next path below the root.
    fn next_path(&mut self) -> Option<PathBuf> {
        if !std::mem::replace(&mut self.has_begun, true) {
            return Some(PathBuf::new());
        }
        loop {
            let level = self.levels.last_mut()?;
            match level.names.pop() {
                Some(name) => {
                    self.listing -= name.len() + NAME_COST;
                    return Some(level.path.join(OsStr::from_bytes(&name)));
                }
                None => self.levels.pop(),
            };
        }
    }

    /// Opens what a path leads to and says what it is; `None` when it has gone meanwhile.
    fn begin(&mut self, relative: PathBuf) -> Result<Option<FileEntry>> {
        let is_root = relative.as_os_str().is_empty();
        let path = if is_root { self.root.clone() } else { self.root.join(&relative) };
        // The root is what the host asked for; a link below it is sent as a link.
        let looked =
            if is_root { fs_err::metadata(&path) } else { fs_err::symlink_metadata(&path) };
        let metadata = match looked {
            Err(error) if !is_root && error.kind() == ErrorKind::NotFound => return Ok(None),
            looked => looked.map_err(failed("read", &path))?,
        };
        let mut entry = FileEntry {
            mode: Some(metadata.mode() & 0o7777),
            mtime_ns: part::mtime_ns(&metadata),
            ..FileEntry::new(relative.as_os_str().as_bytes(), EntryKind::Other)
        };
        if metadata.is_symlink() {
            let target = fs_err::read_link(&path).map_err(failed("read", &path))?;
            entry.target = Some(target.into_os_string().into_vec().into());
            entry.kind = EntryKind::Link;
        } else if metadata.is_dir() {
            entry.kind = EntryKind::Folder;
            self.list(&path, relative)?;
        } else if metadata.is_file() {
            let extra = if is_root { 0 } else { libc::O_NOFOLLOW };
            let file = fs_err::OpenOptions::new()
                .read(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC | extra)
                .open(&path)
                .map_err(failed("read", &path))?;
            // Between the look and the open the name may have come to mean something else.
            let metadata = file.metadata().map_err(failed("read", &path))?;
            if metadata.is_file() {
                entry.kind = EntryKind::File;
                self.file = Some(Extents::new(file, &metadata));
            }
        }
        Ok(Some(entry))
    }

    fn list(&mut self, folder: &Path, relative: PathBuf) -> Result<()> {
        let mut names = Vec::new();
        for item in fs_err::read_dir(folder).map_err(failed("read", folder))? {
            let item = item.map_err(failed("read", folder))?;
            let name: OsString = item.file_name();
            self.listing += name.len() + NAME_COST;
            if self.listing > MAX_LISTING {
                return Err(Error::LongListing { path: folder.to_owned() });
            }
            names.push(name.into_vec().into_boxed_slice());
        }
        // The order of names, so that the same tree gives the same bytes.
        names.sort_unstable_by(|a, b| b.cmp(a));
        self.levels.push(Level { path: relative, names });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_protocol::{FrameDecoder, limits};

    fn all(mut reader: Reader) -> Vec<agent_protocol::Frame> {
        let mut frames = Vec::new();
        while let Some(bytes) = reader.next_frame() {
            let mut decoder = FrameDecoder::new();
            decoder.feed(bytes);
            frames.push(decoder.next_frame().unwrap().unwrap());
        }
        frames
    }

    fn open(path: &Path, tree: bool) -> Result<Reader> {
        Reader::new(&ReadFilesRequest { path: path.as_os_str().as_bytes().into(), tree })
    }

    #[test]
    fn a_tree_comes_with_folders_first_and_links_as_links() {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir(folder.path().join("b")).unwrap();
        fs_err::write(folder.path().join("b/two"), b"22").unwrap();
        fs_err::write(folder.path().join("a"), vec![7; limits::FILE_CHUNK + 1]).unwrap();
        fs_err::os::unix::fs::symlink("/etc/passwd", folder.path().join("c")).unwrap();
        let frames = all(open(folder.path(), true).unwrap());
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
        let refused = open(folder.path(), false).err().unwrap();
        assert!(refused.to_string().contains("directory"), "{refused}");
    }

    #[test]
    fn a_pipe_is_named_and_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = std::ffi::CString::new(folder.path().join("p").to_str().unwrap()).unwrap();
        // SAFETY: the path is a terminated string.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        let frames = all(open(folder.path(), true).unwrap());
        let entry = FileEntry::from_json(&frames[1].payload).unwrap();
        assert_eq!((entry.kind, entry.path), (EntryKind::Other, "p".into()));
        let error = open(&folder.path().join("p"), true).err().unwrap();
        assert!(error.to_string().contains("pipe"), "{error}");
    }

    #[test]
    fn files_without_a_size_are_read_to_their_end() {
        let frames = all(open(Path::new("/proc/self/status"), false).unwrap());
        assert_eq!(frames[1].kind, FrameKind::Data);
        assert!(frames[1].payload.starts_with(b"Name:"));
    }

    #[test]
    fn every_name_of_linux_is_sent() {
        let folder = tempfile::tempdir().unwrap();
        let names: [&[u8]; 4] = [b"a\x1b[2J", "a\u{fffd}b".as_bytes(), b"a\xff", b"d\xff/x"];
        fs_err::create_dir(folder.path().join(OsStr::from_bytes(b"d\xff"))).unwrap();
        for name in names {
            fs_err::write(folder.path().join(OsStr::from_bytes(name)), "x").unwrap();
        }
        let frames = all(open(folder.path(), true).unwrap());
        let entries = frames.iter().filter(|frame| frame.kind == FrameKind::Entry);
        let entries = entries.map(|frame| FileEntry::from_json(&frame.payload).unwrap());
        let files: Vec<Vec<u8>> = entries
            .filter(|entry| entry.kind == EntryKind::File)
            .map(|entry| entry.path.into_bytes())
            .collect();
        assert_eq!(files, names);
    }

    #[test]
    fn a_hole_is_sent_as_a_hole_and_a_time_as_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f");
        let file = fs_err::File::create(&path).unwrap();
        file.set_len(1 << 40).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
        file.file().set_modified(time).unwrap();
        let frames = all(open(&path, false).unwrap());
        let entry = FileEntry::from_json(&frames[0].payload).unwrap();
        assert_eq!(entry.mtime_ns, Some(1_000_000_000_123_456_789));
        assert_eq!(frames[1].kind, FrameKind::Hole);
        assert_eq!(agent_protocol::hole_length(&frames[1].payload).unwrap(), 1 << 40);
        assert_eq!((frames.len(), frames[2].kind), (3, FrameKind::Done));
    }
}

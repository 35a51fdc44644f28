//! Writes a wheel that is the same bit for bit whatever the host, umask, clock, user or order of
//! input.
//!
//! Differences from Python's `wheel pack`: entries are sorted, with `dist-info` last and RECORD
//! the very last; all time stamps are 1980-01-01 (the earliest that the format knows) instead of
//! the files' own; modes are 0644 or 0755 and never those of the host's files; the archive says
//! "made on Unix" everywhere, because installers read modes only then; the compression level and
//! the compressor are fixed.

use crate::{
    Compression, Error, RecordRow, Source, WheelFileName, WheelSpec,
    archive::SIZE_LIMIT,
    check_entry_path, collision_key, escape_distribution, format_record,
    metadata::{entry_points_text, metadata_text, wheel_text},
    normalize_version,
};
use fs_err as fs;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeMap,
    io::{self, Read, Seek, Write},
    path::{Path, PathBuf},
};
use zip::{CompressionMethod, DateTime, System, ZipArchive, ZipWriter, write::SimpleFileOptions};

/// The highest level: wheels are written once and downloaded often.
const DEFLATE_LEVEL: i64 = 9;

/// The name of the entry in an archive that [`pack`] writes.
const PACKED: &str = "packed";

/// The bits of a mode that mean a regular file.
pub(crate) const S_IFREG: u32 = 0o100_000;

impl WheelSpec {
    pub fn file_name(&self) -> Result<WheelFileName, Error> {
        self.tag.check()?;
        Ok(WheelFileName {
            distribution: escape_distribution(&self.name)?,
            version: normalize_version(&self.version)?,
            build: self.build.clone(),
            tag: self.tag.clone(),
        })
    }

    /// The folder for files outside of the packages, like `quicksand_runtime-0.1.0.data`; its
    /// `scripts` folder ends up beside the interpreter.
    pub fn data_dir(&self) -> Result<String, Error> {
        Ok(self.file_name()?.data_dir())
    }
}

/// Writes the wheel into `out_dir` (which is made) and returns its path. The file appears under
/// its name only when it is whole; an older one of that name is replaced.
pub fn write(spec: &WheelSpec, out_dir: &Path) -> Result<PathBuf, Error> {
    let name = spec.file_name()?;
    let entries = plan(spec, &name)?;
    let path = out_dir.join(name.to_string());
    fs::create_dir_all(out_dir).map_err(Error::io("make the folder", out_dir))?;
    publish(&path, |file| write_archive(&entries, &name, &path, file))?;
    Ok(path)
}

/// Compresses a file into an archive of its own, for wheels that hold it as a [`Source::Packed`]: the
/// highest level takes long, and a file that goes into many wheels need be compressed only once. The
/// wheels are the same bytes as without.
pub fn pack(file: &Path, archive: &Path) -> Result<(), Error> {
    let entry = Entry {
        path: PACKED.to_owned(),
        source: EntrySource::Path(file),
        executable: false,
        compression: Compression::Deflate,
    };
    publish(archive, |out| {
        let mut writer = ZipWriter::new(io::BufWriter::with_capacity(1 << 20, out));
        write_entry(&mut writer, &entry, archive)?;
        let mut buffer = writer.finish().map_err(Error::zip("finish", archive))?;
        buffer.flush().map_err(Error::io("write", archive))
    })
}

/// Lets `fill` write a file beside `path` and renames it into place when that succeeded.
pub(crate) fn publish(
    path: &Path,
    fill: impl FnOnce(&mut std::fs::File) -> Result<(), Error>,
) -> Result<(), Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut temporary = tempfile::Builder::new()
        .prefix(".quicksand-")
        .suffix(".whl.part")
        .tempfile_in(folder)
        .map_err(Error::io("make a temporary file in", folder))?;
    fill(temporary.as_file_mut())?;
    readable_by_all(temporary.path())?;
    // After a loss of power a name must not lead to an empty file.
    temporary.as_file().sync_all().map_err(Error::io("flush", path))?;
    temporary.persist(path).map_err(|error| Error::io("replace", path)(error.error))?;
    sync_folder(folder)
}

/// Flushes a rename in a folder, where the system lets folders be flushed.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), Error> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if cfg!(unix) {
        let file = fs::File::open(folder).map_err(Error::io("open", folder))?;
        file.sync_all().map_err(Error::io("flush", folder))?;
    }
    Ok(())
}

/// The folder of a file, and a temporary one in it.
pub(crate) fn beside(path: &Path) -> Result<(&Path, tempfile::TempDir), Error> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let beside = tempfile::Builder::new()
        .prefix(".quicksand-")
        .tempdir_in(folder)
        .map_err(Error::io("make a temporary folder in", folder))?;
    Ok((folder, beside))
}

/// Lets `fill` write a file of this name beside `path`, verifies it, and renames it into place: what is
/// unsound never has the name.
pub(crate) fn publish_verified(
    path: &Path,
    fill: impl FnOnce(&mut std::fs::File, &Path) -> Result<(), Error>,
) -> Result<(), Error> {
    let (folder, beside) = beside(path)?;
    // Under its own name, because that is part of what is verified.
    let part = beside.path().join(path.file_name().unwrap_or_default());
    let file = fs::File::create_new(&part).map_err(Error::io("make", &part))?;
    let (mut file, _) = file.into_parts();
    fill(&mut file, &part)?;
    readable_by_all(&part)?;
    file.sync_all().map_err(Error::io("flush", &part))?;
    drop(file);
    if let Some(finding) = crate::verify(&part)?.first() {
        let reason = format!("the result is unsound: {finding}");
        return Err(Error::NotAWheel { path: path.to_owned(), reason });
    }
    // What others made of the same name may be in use already, and is not ours to replace.
    if path.exists() && !has_same_bytes(path, &part)? {
        return Err(Error::Taken { path: path.to_owned() });
    }
    fs::rename(&part, path).map_err(Error::io("replace", path))?;
    sync_folder(folder)
}

fn has_same_bytes(one: &Path, other: &Path) -> Result<bool, Error> {
    let open = |path: &Path| -> Result<_, Error> {
        let file = fs::File::open(path).map_err(Error::io("open", path))?;
        let length = file.metadata().map_err(Error::io("read", path))?.len();
        Ok((io::BufReader::with_capacity(1 << 16, file), length))
    };
    let ((mut a, a_length), (mut b, b_length)) = (open(one)?, open(other)?);
    if a_length != b_length {
        return Ok(false);
    }
    use io::BufRead as _;
    loop {
        let left = a.fill_buf().map_err(Error::io("read", one))?;
        let right = b.fill_buf().map_err(Error::io("read", other))?;
        let n = left.len().min(right.len());
        if n == 0 {
            return Ok(left.is_empty() && right.is_empty());
        }
        if left[..n] != right[..n] {
            return Ok(false);
        }
        a.consume(n);
        b.consume(n);
    }
}

/// Temporary files are private; a wheel in a folder that others serve is not.
#[cfg(unix)]
fn readable_by_all(path: &Path) -> Result<(), Error> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
        .map_err(Error::io("set the mode of", path))
}

#[cfg(not(unix))]
fn readable_by_all(_path: &Path) -> Result<(), Error> {
    Ok(())
}

/// One entry of the archive, in its final order.
struct Entry<'a> {
    path: String,
    source: EntrySource<'a>,
    executable: bool,
    compression: Compression,
}

enum EntrySource<'a> {
    Bytes(&'a [u8]),
    Text(String),
    Path(&'a Path),
    Packed(&'a Path),
}

/// The pure part: every entry but RECORD, checked and in order.
fn plan<'a>(spec: &'a WheelSpec, name: &WheelFileName) -> Result<Vec<Entry<'a>>, Error> {
    let (info, data) = (name.dist_info(), name.data_dir());
    let mut entries = Vec::new();
    for file in &spec.files {
        let refuse = |reason: &str| {
            Err(Error::EntryPath { entry: file.path.clone(), reason: reason.to_owned() })
        };
        let top = file.path.split('/').next().unwrap_or_default();
        if top.ends_with(".dist-info") {
            return refuse("the dist-info folder is written from the other fields");
        }
        if top.ends_with(".data") && top != data {
            return refuse(&format!("the data folder of this wheel is `{data}`"));
        }
        let source = match &file.source {
            Source::Bytes(bytes) => EntrySource::Bytes(bytes),
            Source::Path(path) => EntrySource::Path(path),
            Source::Packed(_) if file.executable || file.compression == Compression::Store => {
                return refuse("a file that is packed already is compressed and not executable");
            }
            Source::Packed(path) => EntrySource::Packed(path),
        };
        entries.push(Entry {
            path: file.path.clone(),
            source,
            executable: file.executable,
            compression: file.compression,
        });
    }
    let mut add_info = |path: String, source: EntrySource<'a>| {
        let compression = Compression::Deflate;
        entries.push(Entry {
            path: format!("{info}/{path}"),
            source,
            executable: false,
            compression,
        });
    };
    for (license, bytes) in &spec.licenses {
        add_info(format!("licenses/{license}"), EntrySource::Bytes(bytes));
    }
    for (sbom, bytes) in &spec.sboms {
        add_info(format!("sboms/{sbom}"), EntrySource::Bytes(bytes));
    }
    let mut licenses: Vec<&str> = spec.licenses.iter().map(|(name, _)| name.as_str()).collect();
    licenses.sort_unstable();
    let metadata = metadata_text(spec.name.trim(), &name.version, &spec.metadata, &licenses)?;
    add_info("METADATA".to_owned(), EntrySource::Text(metadata));
    let wheel = wheel_text(&spec.tag, spec.build.as_deref(), spec.root_is_purelib);
    add_info("WHEEL".to_owned(), EntrySource::Text(wheel));
    if let Some(text) = entry_points_text(&spec.metadata.entry_points)? {
        add_info("entry_points.txt".to_owned(), EntrySource::Text(text));
    }
    check_paths(&entries)?;
    let in_info = |entry: &Entry| entry.path.starts_with(&format!("{info}/"));
    entries.sort_by(|a, b| (in_info(a), &a.path).cmp(&(in_info(b), &b.path)));
    Ok(entries)
}

/// Refuses unsafe paths, paths that are the same where case is ignored, and a file that would
/// have to be a folder too.
fn check_paths(entries: &[Entry]) -> Result<(), Error> {
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    for entry in entries {
        let refuse = |reason: String| Err(Error::EntryPath { entry: entry.path.clone(), reason });
        if let Err(problem) = check_entry_path(&entry.path) {
            return refuse(problem.to_string());
        }
        // The format keeps the length of a name in 16 bits.
        if entry.path.len() > usize::from(u16::MAX) {
            return refuse("it is longer than 65,535 bytes".to_owned());
        }
        if let Some(first) = taken.insert(collision_key(&entry.path), &entry.path) {
            return refuse(if first == entry.path {
                "it is there twice".to_owned()
            } else {
                format!("it is the same file as `{first}` where case is ignored")
            });
        }
    }
    for entry in entries {
        let key = collision_key(&entry.path);
        for (end, _) in key.match_indices('/') {
            if let Some(file) = taken.get(&key[..end]) {
                let reason = format!("`{file}` is a file, so nothing can be inside it");
                return Err(Error::EntryPath { entry: entry.path.clone(), reason });
            }
        }
    }
    Ok(())
}

fn write_archive(
    entries: &[Entry],
    name: &WheelFileName,
    wheel: &Path,
    file: &mut std::fs::File,
) -> Result<(), Error> {
    let mut archive = ZipWriter::new(io::BufWriter::with_capacity(1 << 20, file));
    let mut rows = Vec::with_capacity(entries.len() + 1);
    for entry in entries {
        rows.push(write_entry(&mut archive, entry, wheel)?);
    }
    let record = format!("{}/RECORD", name.dist_info());
    rows.push(RecordRow::own(&record));
    let text = EntrySource::Text(format_record(&rows));
    let compression = Compression::Deflate;
    let entry = Entry { path: record, source: text, executable: false, compression };
    write_entry(&mut archive, &entry, wheel)?;
    let mut buffer = archive.finish().map_err(Error::zip("finish", wheel))?;
    let size = buffer.stream_position().map_err(Error::io("write", wheel))?;
    if size > SIZE_LIMIT {
        return Err(Error::TooLarge { path: wheel.to_owned(), size });
    }
    buffer.flush().map_err(Error::io("write", wheel))
}

/// The time stamp of every entry: the earliest that the format knows.
pub(crate) fn fixed_time() -> DateTime {
    DateTime::default()
}

/// The options of an entry that is compressed by us, with these external attributes.
pub(crate) fn deflated(external_attributes: u32) -> SimpleFileOptions {
    SimpleFileOptions::default()
        .last_modified_time(fixed_time())
        .system(System::Unix)
        .external_attributes(external_attributes)
        .compression_method(CompressionMethod::Deflated)
        .compression_level(Some(DEFLATE_LEVEL))
}

/// The options of every entry that is written here.
fn entry_options(executable: bool, compression: Compression) -> SimpleFileOptions {
    let mode = S_IFREG | if executable { 0o755 } else { 0o644 };
    let options = deflated(mode << 16);
    match compression {
        Compression::Deflate => options,
        Compression::Store => {
            options.compression_method(CompressionMethod::Stored).compression_level(None)
        }
    }
}

fn write_entry<W: Write + Seek>(
    archive: &mut ZipWriter<W>,
    entry: &Entry,
    wheel: &Path,
) -> Result<RecordRow, Error> {
    if !matches!(entry.source, EntrySource::Packed(_)) {
        archive
            .start_file(entry.path.as_str(), entry_options(entry.executable, entry.compression))
            .map_err(Error::zip("write", wheel))?;
    }
    let (digest, size) = match &entry.source {
        EntrySource::Bytes(bytes) => copy(&mut &bytes[..], archive, Path::new(&entry.path), wheel)?,
        EntrySource::Text(text) => {
            copy(&mut text.as_bytes(), archive, Path::new(&entry.path), wheel)?
        }
        EntrySource::Path(path) => {
            let mut file = fs::File::open(*path).map_err(Error::io("open", *path))?;
            let size = file.metadata().map_err(Error::io("read", *path))?.len();
            if size > SIZE_LIMIT {
                return Err(Error::TooLarge { path: path.to_path_buf(), size });
            }
            copy(&mut file, archive, path, wheel)?
        }
        EntrySource::Packed(path) => {
            let file = fs::File::open(*path).map_err(Error::io("open", *path))?;
            let mut packed =
                ZipArchive::new(io::BufReader::new(file)).map_err(Error::zip("read", *path))?;
            let mut unpacked = packed.by_name(PACKED).map_err(Error::zip("read", *path))?;
            let found = copy(&mut unpacked, &mut io::sink(), path, wheel)?;
            drop(unpacked);
            let raw = packed.by_index_raw(0).map_err(Error::zip("read", *path))?;
            archive
                .raw_copy_file_rename(raw, entry.path.as_str())
                .map_err(Error::zip("write", wheel))?;
            found
        }
    };
    Ok(RecordRow::new(&entry.path, &digest, size))
}

/// Copies in pieces of a fixed size, so that short reads cannot show in the compressed bytes, and
/// hashes on the way, so that what is recorded is what was written.
fn copy(
    from: &mut dyn Read,
    to: &mut dyn Write,
    from_path: &Path,
    wheel: &Path,
) -> Result<(Vec<u8>, u64), Error> {
    const PIECE: u64 = 1 << 18;
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut piece = Vec::with_capacity(PIECE as usize);
    loop {
        piece.clear();
        from.take(PIECE).read_to_end(&mut piece).map_err(Error::io("read", from_path))?;
        if piece.is_empty() {
            return Ok((hash.finalize().to_vec(), size));
        }
        hash.update(&piece);
        size += piece.len() as u64;
        // The file may have grown since its size was asked for.
        if size > SIZE_LIMIT {
            return Err(Error::TooLarge { path: from_path.to_owned(), size });
        }
        to.write_all(&piece).map_err(Error::io("write", wheel))?;
    }
}

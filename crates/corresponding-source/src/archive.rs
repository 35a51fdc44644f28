//! The archive: one tar, compressed, that is the same for the same files. What lies in it twice is there once,
//! and a hard link to it.

use crate::Error;
use duct::cmd;
use fs_err as fs;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, BufWriter, Read},
    path::{Path, PathBuf},
};
use tar::{EntryType, Header};

/// The list of hashes, in the form that `sha256sum --check` reads.
const SUMS: &str = "SHA256SUMS";

/// What lies in the archive is compressed already, nearly all of it.
const LEVEL: i32 = 3;

/// A file of the archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its path below the archive's one folder.
    pub path: String,
    pub content: Content,
    /// Whether it is a program.
    pub is_executable: bool,
    /// The hash that it has to have, where one is known.
    pub sha256: Option<String>,
}

/// What is in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    File(PathBuf),
    Bytes(Vec<u8>),
    /// It is a symbolic link.
    Link(String),
}

impl Item {
    pub fn text(path: &str, text: String) -> Self {
        let content = Content::Bytes(text.into_bytes());
        Self { path: path.to_owned(), content, is_executable: false, sha256: None }
    }

    /// A file of this hash.
    pub fn file(path: String, file: PathBuf, sha256: String) -> Self {
        Self { path, content: Content::File(file), is_executable: false, sha256: Some(sha256) }
    }

    /// Its hash and size; none of a link.
    fn measure(&self) -> Result<Option<(String, u64)>, Error> {
        let (found, size) = match &self.content {
            Content::Link(_) => return Ok(None),
            Content::Bytes(bytes) => (checksum::sha256(bytes), bytes.len() as u64),
            Content::File(path) => {
                let file = fs::File::open(path)?;
                let size = file.metadata()?.len();
                (checksum::sha256_of(file)?, size)
            }
        };
        match (&self.sha256, &self.content) {
            (Some(expected), Content::File(path)) if *expected != found => {
                Err(Error::WrongHash { path: path.clone(), found, expected: expected.clone() })
            }
            _ => Ok(Some((found, size))),
        }
    }
}

/// Writes the archive of these files, all below one folder, with the list of their hashes. It has its name when
/// it is whole.
///
/// # Errors
/// A file is not what it has to be, or cannot be read; or the archive cannot be written.
pub fn write(folder: &str, mut items: Vec<Item>, to: &Path) -> Result<(), Error> {
    items.sort_by(|a, b| a.path.cmp(&b.path));
    items.dedup_by(|a, b| a.path == b.path);
    let measured: Vec<_> = items.iter().map(Item::measure).collect::<Result<_, _>>()?;
    let mut sums = String::new();
    for (item, measured) in items.iter().zip(&measured) {
        if let Some((sum, _)) = measured {
            sums += &format!("{sum}  {}\n", item.path);
        }
    }
    host_platform::write_whole(to, |part| {
        let packer = zstd::Encoder::new(BufWriter::new(&*part), LEVEL)?;
        let mut tar = tar::Builder::new(packer);
        let sums = Item::text(SUMS, sums);
        add(&mut tar, folder, &sums, sums.measure()?, None)?;
        let mut there: BTreeMap<&str, &str> = BTreeMap::new();
        for (item, measured) in items.iter().zip(&measured) {
            let twin = measured.as_ref().and_then(|(sum, _)| there.get(sum.as_str()).copied());
            add(&mut tar, folder, item, measured.clone(), twin)?;
            if let (Some((sum, size)), Content::File(_)) = (measured, &item.content)
                && *size > 0
            {
                there.entry(sum).or_insert(&item.path);
            }
        }
        let written = tar.into_inner()?.finish()?.into_inner();
        written.map_err(io::IntoInnerError::into_error)?;
        Ok(host_readable(part)?)
    })
}

fn add<W: io::Write>(
    tar: &mut tar::Builder<W>,
    folder: &str,
    item: &Item,
    measured: Option<(String, u64)>,
    twin: Option<&str>,
) -> Result<(), Error> {
    let mut header = Header::new_gnu();
    header.set_mode(if item.is_executable { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(0);
    let path = format!("{folder}/{}", item.path);
    let size = measured.map_or(0, |(_, size)| size);
    match (&item.content, twin) {
        (Content::Link(target), _) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            tar.append_link(&mut header, path, target)?;
        }
        (_, Some(twin)) => {
            header.set_entry_type(EntryType::Link);
            tar.append_link(&mut header, path, format!("{folder}/{twin}"))?;
        }
        (Content::Bytes(bytes), None) => {
            header.set_size(size);
            tar.append_data(&mut header, path, bytes.as_slice())?;
        }
        (Content::File(file), None) => {
            header.set_size(size);
            // A file that grows meanwhile would take the place of the next one.
            tar.append_data(&mut header, path, fs::File::open(file)?.take(size))?;
        }
    }
    Ok(())
}

/// tempfile makes files private; this one is given away.
#[cfg(unix)]
fn host_readable(file: &std::fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn host_readable(_file: &std::fs::File) -> io::Result<()> {
    Ok(())
}

/// The files of this repository that git knows, as they are now, below `folder` in the archive: the source of
/// what is ours, our patches, and the scripts by which the rest was built.
///
/// # Errors
/// git cannot be asked, or a file cannot be read.
pub fn own_tree(root: &Path, folder: &str) -> Result<Vec<Item>, Error> {
    let listed = cmd!("git", "ls-files", "--cached", "-z").dir(root).stderr_capture().read();
    let listed = listed.map_err(|source| Error::Tree { root: root.to_owned(), source })?;
    let mut items = Vec::new();
    for name in listed.split('\0').filter(|name| !name.is_empty()).collect::<BTreeSet<_>>() {
        let file = root.join(name);
        // What was removed and not yet committed is no source of what was built.
        let Ok(found) = fs::symlink_metadata(&file) else { continue };
        let content = match found.is_symlink() {
            true => Content::Link(fs::read_link(&file)?.to_string_lossy().into_owned()),
            false => Content::File(file),
        };
        items.push(Item {
            path: format!("{folder}/{name}"),
            content,
            is_executable: is_executable(&found),
            sha256: None,
        });
    }
    Ok(items)
}

#[cfg(unix)]
fn is_executable(found: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    found.permissions().mode() & 0o100 != 0
}

#[cfg(not(unix))]
fn is_executable(_found: &std::fs::Metadata) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(archive: &Path) -> Vec<(String, EntryType, String)> {
        let unpacked = zstd::decode_all(fs::File::open(archive).unwrap()).unwrap();
        let mut tar = tar::Archive::new(unpacked.as_slice());
        let entries = tar.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut text = String::new();
            entry.read_to_string(&mut text).unwrap();
            assert_eq!((entry.header().mtime().unwrap(), entry.header().uid().unwrap()), (0, 0));
            let path = entry.path().unwrap().to_string_lossy().into_owned();
            (path, entry.header().entry_type(), text)
        });
        entries.collect()
    }

    #[test]
    fn the_same_files_give_the_same_archive_and_each_is_there_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("big"), "orig").unwrap();
        let sum = checksum::sha256(b"orig");
        let long = "x".repeat(150);
        let items = || {
            vec![
                Item::file(format!("b/{long}"), at("big"), sum.clone()),
                Item::file("a/orig.tar".to_owned(), at("big"), sum.clone()),
                Item::text("README", "read\n".to_owned()),
                Item {
                    path: "c".to_owned(),
                    content: Content::Link("README".to_owned()),
                    is_executable: false,
                    sha256: None,
                },
            ]
        };
        write("q", items(), &at("one.tar.zst")).unwrap();
        let mut other = items();
        other.reverse();
        write("q", other, &at("two.tar.zst")).unwrap();
        assert!(fs::read(at("one.tar.zst")).unwrap() == fs::read(at("two.tar.zst")).unwrap());
        let entries = read(&at("one.tar.zst"));
        let kinds: Vec<_> = entries.iter().map(|(path, kind, _)| (path.as_str(), *kind)).collect();
        assert_eq!(
            kinds,
            [
                ("q/SHA256SUMS", EntryType::Regular),
                ("q/README", EntryType::Regular),
                ("q/a/orig.tar", EntryType::Regular),
                (&*format!("q/b/{long}"), EntryType::Link),
                ("q/c", EntryType::Symlink),
            ]
        );
        assert_eq!(entries[2].2, "orig");
        let sums = &entries[0].2;
        assert_eq!(sums.lines().count(), 3, "{sums}");
        assert!(sums.contains(&format!("{sum}  a/orig.tar\n")), "{sums}");

        fs::write(at("big"), "other").unwrap();
        let error = write("q", items(), &at("three.tar.zst")).unwrap_err();
        assert!(error.to_string().contains(&sum) && error.hint().is_some(), "{error}");
        assert!(!at("three.tar.zst").exists(), "what is not whole has no name");
    }

    #[test]
    fn this_repository_is_among_its_own_sources() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        if !root.join(".git").exists() {
            eprintln!("skipped: this is no checkout");
            return;
        }
        let items = own_tree(&root, "own").unwrap();
        let has = |name: &str| items.iter().any(|item| item.path == format!("own/{name}"));
        assert!(has("Cargo.toml") && has("qemu/pins.toml") && !has("target"));
    }
}

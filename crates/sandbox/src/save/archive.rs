//! A save as one file: a plain tar archive with the manifest and the layers.
//!
//! What comes from elsewhere is hostile: an archive holds a manifest and numbered layers and nothing
//! else, no links, no other names, no extensions of the format; what it unpacks to is no larger than
//! itself.

use super::store::Staging;
use super::{
    MAX_MANIFEST, Save, SaveManifest, check_disk, check_numbers, parse, portable, read, validate,
};
use crate::error::{Error, Result};
use crate::new_file::NewFile;
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use package_layout::save::{
    MANIFEST_FILE, MAX_OVERLAYS, OVERLAYS_DIR, PART_PREFIX, overlay_file, overlay_name,
    overlay_number,
};
use std::io::{self, Read};
use std::path::Path;
use tar::{EntryType, Header};

/// The bytes of a tar block: headers are one, content is padded to a whole number of them.
const BLOCK: usize = 512;

/// Writes a save to one file, beside its place first. Its manifest holds no more than what says how
/// the machine was: no folders, ports, lists or arguments of this host.
///
/// # Errors
/// As [`validate`]; a file that cannot be written, or one that is there and no archive of a save.
pub fn export(save: &Path, file: &Path) -> Result<SaveManifest> {
    validate(save)?;
    let Save { manifest, layers } = read(save)?;
    let manifest = portable::exported(&manifest);
    let failed = |source| Error::File { action: "write", path: file.into(), source };
    if let Ok(metadata) = fs_err::metadata(file)
        && !metadata.is_file()
    {
        let reason = "it is not a file".into();
        return Err(Error::SaveInTheWay { path: file.into(), reason });
    }
    let parent = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let opened = Dir::open_ambient_dir(parent, ambient_authority()).map_err(failed)?;
    let mut new = NewFile::create(&opened, PART_PREFIX).map_err(failed)?;
    let mut archive = tar::Builder::new(new.file());
    let text = manifest.to_json();
    append(&mut archive, MANIFEST_FILE, text.len() as u64, text.as_bytes()).map_err(failed)?;
    for (number, (_, mut file)) in layers.into_iter().enumerate() {
        let length = io::Seek::seek(&mut file, io::SeekFrom::End(0)).map_err(failed)?;
        io::Seek::rewind(&mut file).map_err(failed)?;
        append(&mut archive, &overlay_file(number), length, &file).map_err(failed)?;
    }
    archive.finish().map_err(failed)?;
    drop(archive);
    new.file().sync_all().map_err(failed)?;
    let Some(name) = file.file_name() else {
        return Err(failed(io::ErrorKind::InvalidFilename.into()));
    };
    match new.place(&opened, name) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => new.replace(&opened, name),
        placed => placed,
    }
    .map_err(failed)?;
    Ok(manifest)
}

/// One entry, the same for the same content everywhere.
fn append(
    archive: &mut tar::Builder<&std::fs::File>,
    name: &str,
    length: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_entry_type(EntryType::Regular);
    header.set_size(length);
    header.set_mode(0o600);
    header.set_mtime(0);
    archive.append_data(&mut header, name, content.take(length))
}

/// Reads an exported save and puts it into its place. Of its options the image's name alone is
/// taken. `data_dir` is our folder below the user's data folder: the import is the user's own act, so
/// that the save counts as the user's own.
///
/// # Errors
/// [`Error::BadArchive`] for anything that [`export`] would not have written,
/// [`Error::SaveInTheWay`] when something is there and `replace` is not set.
pub fn import(
    file: &Path,
    target: &Path,
    replace: bool,
    data_dir: Option<&Path>,
) -> Result<SaveManifest> {
    if !replace && fs_err::symlink_metadata(target).is_ok() {
        let reason = "there is a save already".into();
        return Err(Error::SaveInTheWay { path: target.into(), reason });
    }
    let bad = |reason: String| Error::BadArchive { path: file.into(), reason };
    let failed = |source| Error::File { action: "read", path: file.into(), source };
    // The caller named the file, and may name a link; what never ends or begins is refused.
    if !fs_err::metadata(file).map_err(failed)?.is_file() {
        return Err(bad("it is no regular file".into()));
    }
    let mut archive = fs_err::File::open(file).map_err(failed)?;
    let mut staging = Staging::create(target)?;
    let text = match unpack(&mut archive, &mut staging) {
        Ok(text) => text,
        Err(Fault::Bad(reason)) => return Err(bad(reason)),
        Err(Fault::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(bad("it ends too early".into()));
        }
        Err(Fault::Io(source)) => return Err(failed(source)),
    };
    let text = text.ok_or_else(|| bad(format!("Missing {MANIFEST_FILE}")))?;
    let manifest = parse(&text).map_err(bad)?;
    let numbers: Vec<usize> = staging.layers().map(|(number, _)| number).collect();
    check_numbers(&numbers).map_err(bad)?;
    for (number, layer) in staging.layers() {
        check_disk(layer, &overlay_name(number))?.map_err(bad)?;
    }
    // A path would choose which files of this host the guest sees.
    let base = manifest.base_image().unwrap_or_default();
    if base.is_empty() || base.contains(['/', '\\', '\0']) || matches!(base, "." | "..") {
        return Err(bad(format!("it lies on `{base}`, which is no name of an image")));
    }
    let mut manifest = portable::imported(&manifest);
    staging.seal(&mut manifest, data_dir);
    staging.commit(&manifest.to_json(), &mut |_| {})?;
    Ok(manifest)
}

enum Fault {
    Bad(String),
    Io(io::Error),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Takes the layers into the save, and gives the manifest's text.
fn unpack(
    archive: &mut impl Read,
    staging: &mut Staging,
) -> std::result::Result<Option<String>, Fault> {
    let mut manifest = None;
    let mut block = [0; BLOCK];
    loop {
        archive.read_exact(&mut block)?;
        if block.iter().all(|byte| *byte == 0) {
            return Ok(manifest);
        }
        let header = Header::from_byte_slice(&block);
        check_sum(&block, header)?;
        let length = header.entry_size()?;
        let name = name_of(header)?;
        match header.entry_type() {
            // What `tar` writes for the folder itself.
            EntryType::Directory
                if length == 0 && matches!(name.trim_end_matches('/'), "." | OVERLAYS_DIR) =>
            {
                continue;
            }
            EntryType::Regular => {}
            kind => return Err(Fault::Bad(format!("`{name}` is of kind {kind:?}, no plain file"))),
        }
        let number = name.strip_prefix(OVERLAYS_DIR).and_then(|it| it.strip_prefix('/'));
        let number = number.and_then(overlay_number).filter(|number| *number < MAX_OVERLAYS);
        let twice = || Fault::Bad(format!("`{name}` is there twice"));
        let mut content = archive.by_ref().take(length);
        let n_bytes = match number {
            Some(number) => match staging.layer(number) {
                Ok(layer) => io::copy(&mut content, &mut layer.file())?,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(twice()),
                Err(error) => return Err(error.into()),
            },
            None if name == MANIFEST_FILE && length <= MAX_MANIFEST => {
                let mut text = String::new();
                let n_bytes = content.read_to_string(&mut text)?;
                if manifest.replace(text).is_some() {
                    return Err(twice());
                }
                n_bytes as u64
            }
            None => return Err(Fault::Bad(format!("`{name}` does not belong into a save"))),
        };
        if n_bytes != length {
            return Err(Fault::Bad("it ends too early".into()));
        }
        let padding = (BLOCK - (length % BLOCK as u64) as usize) % BLOCK;
        archive.read_exact(&mut block[..padding])?;
    }
}

fn name_of(header: &Header) -> std::result::Result<String, Fault> {
    let name = String::from_utf8(header.path_bytes().into_owned())
        .map_err(|_| Fault::Bad("a name in it is no text".into()))?;
    let plain = name.strip_prefix("./").filter(|rest| !rest.is_empty()).unwrap_or(&name);
    // Names in messages must not steer a terminal.
    Ok(plain.chars().filter(|c| !c.is_control()).take(200).collect())
}

/// See <https://www.gnu.org/software/tar/manual/html_node/Standard.html>.
fn check_sum(block: &[u8; BLOCK], header: &Header) -> std::result::Result<(), Fault> {
    let blank = u32::from(b' ') * 8;
    let bytes = block.iter().enumerate().filter(|(index, _)| !(148..156).contains(index));
    let sum: u32 = blank + bytes.map(|(_, byte)| u32::from(*byte)).sum::<u32>();
    match header.cksum() {
        Ok(expected) if expected == sum => Ok(()),
        _ => Err(Fault::Bad("it is no tar archive, or damaged".into())),
    }
}

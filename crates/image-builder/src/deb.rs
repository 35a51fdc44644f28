//! Reads Debian binary packages: an `ar` archive with a control and a data tar inside, see deb(5).
//! It owns that container and its compressions; what is done with the files is the tree's matter.

use crate::{Error, PackageError, tree::Tree};
use fs_err as fs;
use std::{
    io::{Cursor, Read},
    path::Path,
};

const AR_MAGIC: &[u8] = b"!<arch>\n";
const AR_HEADER: usize = 60;

/// The files that a package installs.
pub fn data(path: &Path) -> Result<Tree, Error> {
    let bytes = fs::read(path)?;
    let mut tree = Tree::new(0);
    tree.add_tar_stream(member(&bytes, "data.tar", path)?)?;
    Ok(tree)
}

/// The package's control file: `Package: …` and so on.
pub fn control(path: &Path) -> Result<String, Error> {
    Ok(control_and_time(path)?.0)
}

/// The same with its time stamp, in seconds since the epoch: that of the package's last change.
pub fn control_and_time(path: &Path) -> Result<(String, i64), Error> {
    let bytes = fs::read(path)?;
    let mut tree = Tree::new(0);
    tree.add_tar_stream(member(&bytes, "control.tar", path)?)?;
    let control = tree.read("control")?.ok_or_else(|| bad(path, "it has no control file"))?;
    let time = tree.get(b"control").map_or(0, |node| node.mtime);
    Ok((String::from_utf8_lossy(&control).into_owned(), time))
}

/// The value of a field in a control file; continuation lines are left out.
pub fn field<'a>(control: &'a str, name: &str) -> Option<&'a str> {
    control.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

fn member<'a>(bytes: &'a [u8], stem: &str, path: &Path) -> Result<Box<dyn Read + 'a>, Error> {
    let mut rest =
        bytes.strip_prefix(AR_MAGIC).ok_or_else(|| bad(path, "it is not an ar archive"))?;
    while rest.len() >= AR_HEADER {
        let (header, body) = rest.split_at(AR_HEADER);
        let name = String::from_utf8_lossy(&header[..16]);
        let name = name.trim_end().trim_end_matches('/');
        let size: usize = std::str::from_utf8(&header[48..58])
            .ok()
            .and_then(|size| size.trim().parse().ok())
            .filter(|size| *size <= body.len())
            .ok_or_else(|| bad(path, "a member's size is wrong"))?;
        if let Some(suffix) = name.strip_prefix(stem) {
            return decompress(&body[..size], suffix)
                .ok_or_else(|| bad(path, "its compression is unknown"));
        }
        // Members start on even offsets.
        rest = &body[(size + size % 2).min(body.len())..];
    }
    Err(bad(path, "a member is missing"))
}

/// A reader of what was compressed, by the suffix of its name.
pub fn decompress<'a>(bytes: &'a [u8], suffix: &str) -> Option<Box<dyn Read + 'a>> {
    Some(match suffix {
        "" => Box::new(bytes),
        ".gz" => Box::new(flate2::read::MultiGzDecoder::new(bytes)),
        ".xz" => Box::new(lzma_rust2::XzReader::new(Cursor::new(bytes), true)),
        ".zst" => Box::new(zstd::Decoder::new(bytes).ok()?),
        _ => return None,
    })
}

fn bad(path: &Path, detail: &'static str) -> Error {
    Error::Package(PackageError::BadPackage { path: path.to_owned(), detail })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A package with these files, for tests.
    pub(crate) fn make(control: &str, files: &[(&str, &[u8])]) -> Vec<u8> {
        let tar = |files: &[(&str, &[u8])]| {
            let mut builder = tar::Builder::new(Vec::new());
            for (name, content) in files {
                let mut header = tar::Header::new_ustar();
                header.set_size(content.len() as u64);
                header.set_mode(0o644);
                header.set_uid(0);
                header.set_gid(0);
                header.set_mtime(0);
                builder.append_data(&mut header, format!("./{name}"), *content).unwrap();
            }
            builder.into_inner().unwrap()
        };
        let mut out = AR_MAGIC.to_vec();
        let data = zstd::encode_all(tar(files).as_slice(), 1).unwrap();
        for (name, body) in [
            ("debian-binary", b"2.0\n".to_vec()),
            ("control.tar", tar(&[("control", control.as_bytes())])),
            ("data.tar.zst", data),
        ] {
            out.extend(
                format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, 100_644, body.len())
                    .bytes(),
            );
            out.extend(&body);
            if body.len() % 2 == 1 {
                out.push(b'\n');
            }
        }
        out
    }

    #[test]
    fn a_package_gives_its_control_and_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.deb");
        fs::write(&path, make("Package: x\nVersion: 1:2-3\n", &[("usr/bin/x", b"run")])).unwrap();
        let control = control(&path).unwrap();
        assert_eq!(field(&control, "version"), Some("1:2-3"));
        assert_eq!(data(&path).unwrap().read("usr/bin/x").unwrap().unwrap().as_ref(), b"run");
    }

    #[test]
    fn a_torn_package_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("torn.deb");
        let mut bytes = make("Package: x\n", &[("a", b"b")]);
        bytes.truncate(100);
        fs::write(&path, bytes).unwrap();
        let error = data(&path).unwrap_err().to_string();
        assert!(error.contains("torn.deb"), "{error}");
    }
}

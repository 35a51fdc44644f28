//! Reads Alpine's package files: gzip streams one behind the other, with the signature, the control
//! files and the package's own, see the wiki's "Apk spec". The index vouches for the control
//! stream, and the control stream for the data.

use crate::{Error, PackageError, tree::Tree};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use flate2::bufread::{GzDecoder, MultiGzDecoder};
use fs_err as fs;
use ring::digest;
use std::{collections::BTreeMap, io::Read as _, path::Path};

/// Control files are scripts and lists; more than this is no package.
const MAX_CONTROL: u64 = 64 << 20;

/// The parts of a package file, still compressed.
struct Streams<'a> {
    control: &'a [u8],
    data: &'a [u8],
}

/// A package as it is installed.
pub struct Package {
    /// `.PKGINFO`, by key, in its order.
    info: Vec<(String, String)>,
    /// Scripts by their kind, such as `post-install`.
    pub scripts: BTreeMap<String, Vec<u8>>,
    pub files: Tree,
    /// Who owns them, where that is not root, by name: `(path, user, group)`.
    pub owners: Vec<(String, String, String)>,
    /// `Q1` and the sha1 of the control stream in base64.
    pub checksum: String,
}

impl Package {
    /// Reads a package file and checks its data against what its control stream says.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let bytes = fs::read(path)?;
        let streams = streams(&bytes, path)?;
        let mut package = Self {
            info: Vec::new(),
            scripts: BTreeMap::new(),
            files: Tree::new(0),
            owners: Vec::new(),
            checksum: checksum(streams.control),
        };
        for (name, content) in members(streams.control, path)? {
            match name.strip_prefix('.') {
                Some("PKGINFO") => package.info = pairs(&String::from_utf8_lossy(&content)),
                Some(kind) => {
                    package.scripts.insert(kind.to_owned(), content);
                }
                None => {}
            }
        }
        let hash = package.first("datahash").unwrap_or_default();
        if crate::sha256(streams.data) != hash {
            return Err(bad(path, "its data is not what its control file says"));
        }
        let mut tar = Vec::new();
        MultiGzDecoder::new(streams.data).read_to_end(&mut tar)?;
        package.files.add_tar_stream(tar.as_slice())?;
        package.owners = owners(&tar)?;
        Ok(package)
    }

    /// The first value of a key of `.PKGINFO`.
    pub fn first(&self, key: &str) -> Option<&str> {
        self.all(key).next()
    }

    /// All values of a key.
    pub fn all<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let key = key.to_owned();
        self.info.iter().filter(move |(known, _)| *known == key).map(|(_, value)| value.as_str())
    }
}

/// The files of an index, checked by its signature: `APKINDEX` and `DESCRIPTION`.
pub fn index(path: &Path, keys: &super::signature::Keys) -> Result<String, Error> {
    let bytes = fs::read(path)?;
    let (first, signed) = split(&bytes, path)?;
    keys.check(&members(first, path)?, signed, path)?;
    let files = members(signed, path)?;
    let index = files.into_iter().find(|(name, _)| name == "APKINDEX");
    let (_, content) = index.ok_or_else(|| bad(path, "it holds no index"))?;
    Ok(String::from_utf8_lossy(&content).into_owned())
}

/// Checks a fetched file against the checksum that the signed index has for it, and its data
/// against its control stream.
pub fn check(path: &Path, expected: &str) -> Result<(), Error> {
    let package = Package::read(path)?;
    match package.checksum == expected {
        true => Ok(()),
        false => Err(bad(path, "it is not the file that the signed index names")),
    }
}

/// `Q1` and the sha1 of these bytes in base64, the form of index and database.
pub fn checksum(bytes: &[u8]) -> String {
    let sha1 = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
    format!("Q1{}", STANDARD.encode(sha1.as_ref()))
}

/// A checksum (`Q1…`) as the names of scripts in the database have it: in base64 it may hold slashes,
/// which are no part of a name. Both apk 2 and apk 3 read this form, and apk 3 writes it.
pub fn in_hex(checksum: &str) -> String {
    let digest = checksum.strip_prefix("Q1").and_then(|text| STANDARD.decode(text).ok());
    digest.map_or_else(|| checksum.to_owned(), |digest| format!("X1{}", hex::encode(digest)))
}

fn streams<'a>(bytes: &'a [u8], path: &Path) -> Result<Streams<'a>, Error> {
    let (first, rest) = split(bytes, path)?;
    // A package that nobody signed begins with its control stream.
    let is_signature = members(first, path)?.iter().any(|(name, _)| name.starts_with(".SIGN."));
    let (control, data) = if is_signature { split(rest, path)? } else { (first, rest) };
    Ok(Streams { control, data })
}

/// The first bytes of what is in apk's third format, for each of its ways to be compressed.
const THIRD_FORMAT: [&[u8]; 3] = [b"ADB.", b"ADBd", b"ADBc"];

/// The first gzip stream and what follows it.
fn split<'a>(bytes: &'a [u8], path: &Path) -> Result<(&'a [u8], &'a [u8]), Error> {
    if THIRD_FORMAT.iter().any(|magic| bytes.starts_with(magic)) {
        let detail = "it is in apk's third format (ADB), and this tool reads the second, which Alpine's \
                      repositories have up to v3.23";
        return Err(bad(path, detail));
    }
    let mut decoder = GzDecoder::new(bytes);
    std::io::copy(&mut decoder.by_ref().take(MAX_CONTROL), &mut std::io::sink())
        .map_err(|_| bad(path, "it is not made of gzip streams"))?;
    let rest = decoder.into_inner();
    Ok(bytes.split_at(bytes.len() - rest.len()))
}

/// The files of a tar whose end marks may be missing, as they are where another stream follows.
fn members(stream: &[u8], path: &Path) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut tar = Vec::new();
    GzDecoder::new(stream)
        .take(MAX_CONTROL)
        .read_to_end(&mut tar)
        .map_err(|_| bad(path, "one of its streams is broken"))?;
    let mut files = Vec::new();
    for entry in tar::Archive::new(tar.as_slice()).entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        files.push((name.trim_start_matches("./").to_owned(), content));
    }
    Ok(files)
}

/// The owners by name: numbers are those of the machine that built the package.
fn owners(tar: &[u8]) -> Result<Vec<(String, String, String)>, Error> {
    let mut owners = Vec::new();
    for entry in tar::Archive::new(tar).entries()? {
        let entry = entry?;
        let name = |bytes: Option<&[u8]>, number: u64| match bytes {
            Some(name) if !name.is_empty() => String::from_utf8_lossy(name).into_owned(),
            _ => number.to_string(),
        };
        let header = entry.header();
        let user = name(header.username_bytes(), header.uid()?);
        let group = name(header.groupname_bytes(), header.gid()?);
        let is_root = |name: &str| matches!(name, "root" | "0");
        if !(is_root(&user) && is_root(&group)) {
            owners.push((String::from_utf8_lossy(&entry.path_bytes()).into_owned(), user, group));
        }
    }
    Ok(owners)
}

/// `key = value` lines.
fn pairs(text: &str) -> Vec<(String, String)> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned()))
        .collect()
}

fn bad(path: &Path, detail: &'static str) -> Error {
    Error::Package(PackageError::BadPackage { path: path.to_owned(), detail })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_with_slashes_becomes_part_of_a_name() {
        let digest = [0xff; 20];
        let checksum = format!("Q1{}", STANDARD.encode(digest));
        assert!(checksum.contains("//"), "{checksum}");
        assert_eq!(in_hex(&checksum), format!("X1{}", "ff".repeat(20)));
        assert_eq!(in_hex("no checksum"), "no checksum");
    }

    #[test]
    fn what_is_in_the_third_format_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("x.apk");
        for start in [b"ADB.pckg", b"ADBdabcd", b"ADBc\x01\0\0\0"] {
            fs::write(&place, [start.as_slice(), &[0; 64]].concat()).unwrap();
            let Err(error) = Package::read(&place) else { panic!("it was read") };
            assert!(error.to_string().contains("third format"), "{error}");
        }
    }
}

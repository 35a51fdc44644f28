//! The signatures of Alpine's indexes: RSA over the second gzip stream of a file, whose first one
//! holds the signature and names the key, see the wiki's "Apk spec".

use crate::{Error, PackageError};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use fs_err as fs;
use ring::signature::{self, UnparsedPublicKey};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Where Alpine's keys lie on hosts that have them.
const FOLDERS: [&str; 2] = ["/etc/apk/keys", "/usr/share/apk/keys"];

/// The keys that are trusted, by the names of their files.
#[derive(Clone, Debug, Default)]
pub struct Keys {
    /// `RSAPublicKey` of PKCS #1.
    keys: BTreeMap<String, Vec<u8>>,
}

impl Keys {
    /// The keys of the folder that the person names, else the host's.
    pub fn from_host() -> Result<Self, Error> {
        let named = std::env::var_os(crate::apt::keyring_variable("alpine")).map(PathBuf::from);
        let from_host = || FOLDERS.iter().map(PathBuf::from).find(|folder| folder.is_dir());
        Self::read(&named.or_else(from_host).unwrap_or_else(|| PathBuf::from(FOLDERS[0])))
    }

    /// Reads the public keys (`*.rsa.pub`, PEM) of a folder.
    pub fn read(folder: &Path) -> Result<Self, Error> {
        let mut keys = BTreeMap::new();
        for entry in fs::read_dir(folder).into_iter().flatten() {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if path.is_file() && name.ends_with(".rsa.pub") {
                let key = public_key(&fs::read_to_string(&path)?)
                    .ok_or_else(|| Error::Package(PackageError::BadKey { path: path.clone() }))?;
                keys.insert(name.to_owned(), key);
            }
        }
        match keys.is_empty() {
            true => Err(Error::Package(PackageError::NoKeyring {
                path: folder.to_owned(),
                package: "alpine-keys",
                variable: crate::apt::keyring_variable("alpine"),
            })),
            false => Ok(Self { keys }),
        }
    }

    /// Checks that one of the keys made one of the signatures (name and content of their files) of
    /// these bytes. `path` is for messages.
    pub fn check(
        &self,
        signatures: &[(String, Vec<u8>)],
        signed: &[u8],
        path: &Path,
    ) -> Result<(), Error> {
        let refuse = |detail: String| {
            Error::Package(PackageError::Unsigned { path: path.to_owned(), detail })
        };
        let mut names = Vec::new();
        for (file, signature) in signatures {
            let Some((kind, name)) =
                file.strip_prefix(".SIGN.").and_then(|rest| rest.split_once('.'))
            else {
                continue;
            };
            let Some(key) = self.keys.get(name) else {
                names.push(name.to_owned());
                continue;
            };
            let parameters = match kind {
                "RSA" => &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
                "RSA256" => &signature::RSA_PKCS1_2048_8192_SHA256,
                "RSA512" => &signature::RSA_PKCS1_2048_8192_SHA512,
                _ => continue,
            };
            return UnparsedPublicKey::new(parameters, key)
                .verify(signed, signature)
                .map_err(|_| refuse(format!("the signature of `{name}` does not fit")));
        }
        Err(refuse(match names.is_empty() {
            true => "it has no signature".to_owned(),
            false => format!("it is signed by `{}`, which is not trusted", names.join("`, `")),
        }))
    }
}

/// The key inside of a PEM file: `SubjectPublicKeyInfo` of RFC 5280 wraps it.
fn public_key(pem: &str) -> Option<Vec<u8>> {
    let body = pem.split("-----BEGIN PUBLIC KEY-----").nth(1)?;
    let body = body.split("-----END PUBLIC KEY-----").next()?;
    let text: String = body.split_whitespace().collect();
    let der = STANDARD.decode(text).ok()?;
    let (outer, _) = element(&der, 0x30)?;
    let (_algorithm, rest) = element(outer, 0x30)?;
    let (bits, _) = element(rest, 0x03)?;
    // The first byte counts unused bits.
    bits.strip_prefix(&[0]).map(<[u8]>::to_vec)
}

/// The content of a DER element with this tag, and what follows it.
fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let [found, length, rest @ ..] = bytes else { return None };
    if *found != tag {
        return None;
    }
    let (length, rest) = match *length {
        short @ 0..0x80 => (usize::from(short), rest),
        long => {
            let n = usize::from(long & 0x7f);
            let digits = rest.get(..n).filter(|_| (1..=4).contains(&n))?;
            let length = digits.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte));
            (length, &rest[n..])
        }
    };
    Some((rest.get(..length)?, rest.get(length..)?))
}

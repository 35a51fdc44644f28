//! The mark by which a user's own saves are distinguished from saves that came from elsewhere.
//!
//! A save in a folder that was downloaded looks like one that was made there. What this product
//! writes for its user it therefore seals: a code over the options and the layers, made with a key
//! that lies in the user's data folder and that nobody else can read. The layers go into it by
//! number, length and time of change of their files, so that reading gigabytes is not needed; a copy
//! is a new file and has no seal that fits. Without one a save is used as any other from elsewhere.
//! See RFC 2104 for the code (HMAC, with SHA-256).

use hmac::{Hmac, KeyInit, Mac};
use package_layout::manifest::Manifest;
use serde_json::{Value, json};
use sha2::Sha256;
use std::fs::File;
use std::io;
use std::path::Path;

/// The key of what we add to a manifest.
pub const OWN_KEY: &str = "quicksand";
/// The seal's name in there.
const SEAL: &str = "seal";
/// The key's file below the data folder.
const KEY_FILE: &str = "save-key";
/// The bytes of the key.
const KEY_BYTES: usize = 32;

/// The user's key for seals.
pub struct SealKey([u8; KEY_BYTES]);

impl SealKey {
    /// The key in our folder below the user's data folder, when there is one.
    pub fn read(data_dir: &Path) -> Option<Self> {
        let file = crate::Folder::open(data_dir).ok()?.file(KEY_FILE).ok()?;
        let mut bytes = Vec::new();
        is_private(&file).then_some(())?;
        io::Read::read_to_end(&mut io::Read::take(file, KEY_BYTES as u64 + 1), &mut bytes).ok()?;
        bytes.try_into().ok().map(Self)
    }

    /// The key, made when there is none yet.
    ///
    /// # Errors
    /// A data folder that cannot be written to.
    pub fn read_or_make(data_dir: &Path) -> io::Result<Self> {
        if let Some(key) = Self::read(data_dir) {
            return Ok(key);
        }
        let mut bytes = [0; KEY_BYTES];
        getrandom::fill(&mut bytes)?;
        fs_err::create_dir_all(data_dir)?;
        // A temporary file is for this user alone. When two processes make a key at once, the first
        // one counts.
        let mut beside = tempfile::NamedTempFile::new_in(data_dir)?;
        io::Write::write_all(&mut beside, &bytes)?;
        beside.as_file().sync_all()?;
        match beside.persist_noclobber(data_dir.join(KEY_FILE)) {
            Ok(_) => Ok(Self(bytes)),
            Err(error) => Self::read(data_dir).ok_or(error.error),
        }
    }

    /// Seals a manifest for these layers, and for what the save has of memory, behind them.
    ///
    /// # Errors
    /// A layer whose metadata cannot be read.
    pub fn seal<'a>(
        &self,
        manifest: &mut Manifest,
        layers: impl IntoIterator<Item = &'a File>,
    ) -> io::Result<()> {
        remove_seal(manifest);
        let code: Value = hex::encode(self.code(manifest, layers)?.finalize().into_bytes()).into();
        match manifest.other.get_mut(OWN_KEY).and_then(Value::as_object_mut) {
            Some(own) => drop(own.insert(SEAL.into(), code)),
            None => drop(manifest.other.insert(OWN_KEY.into(), json!({SEAL: code}))),
        }
        Ok(())
    }

    /// Whether this user's own process has written this manifest for these layers.
    pub fn fits<'a>(
        &self,
        manifest: &Manifest,
        layers: impl IntoIterator<Item = &'a File>,
    ) -> bool {
        let seal = manifest.other.get(OWN_KEY).and_then(|own| own[SEAL].as_str());
        let Some(seal) = seal.and_then(|seal| hex::decode(seal).ok()) else { return false };
        let mut bare = manifest.clone();
        remove_seal(&mut bare);
        // The comparison takes the same time for every wrong code.
        self.code(&bare, layers).is_ok_and(|code| code.verify_slice(&seal).is_ok())
    }

    fn code<'a>(
        &self,
        manifest: &Manifest,
        layers: impl IntoIterator<Item = &'a File>,
    ) -> io::Result<Hmac<Sha256>> {
        let layers = layers.into_iter().map(identity).collect::<io::Result<Vec<_>>>()?;
        let sealed = json!({"config": manifest.config, "arch": manifest.arch, "layers": layers});
        let code = Hmac::<Sha256>::new_from_slice(&self.0);
        let mut code = code.map_err(|error| io::Error::other(error.to_string()))?;
        code.update(sealed.to_string().as_bytes());
        Ok(code)
    }
}

/// Takes the seal off: what is sent to others needs none.
pub fn remove_seal(manifest: &mut Manifest) {
    if let Some(own) = manifest.other.get_mut(OWN_KEY).and_then(Value::as_object_mut) {
        own.remove(SEAL);
    }
}

/// What tells a file from all others without reading it.
fn identity(file: &File) -> io::Result<Value> {
    let metadata = file.metadata()?;
    let changed = metadata.modified()?.duration_since(std::time::UNIX_EPOCH);
    let nanoseconds = changed.map(|since| since.as_nanos().to_string()).unwrap_or_default();
    #[cfg(unix)]
    let number = std::os::unix::fs::MetadataExt::ino(&metadata);
    #[cfg(not(unix))]
    let number = 0u64;
    Ok(json!([number, metadata.len(), nanoseconds]))
}

/// Whether others can neither read nor have written it.
#[cfg(unix)]
fn is_private(file: &File) -> bool {
    use std::os::unix::fs::MetadataExt;
    // SAFETY: the call has no conditions.
    let own = unsafe { libc::geteuid() };
    file.metadata().is_ok_and(|it| it.uid() == own && it.mode() & 0o077 == 0)
}

#[cfg(not(unix))]
fn is_private(_: &File) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_fits_what_was_sealed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let path = folder.path().join(name);
            if !path.exists() {
                fs_err::write(&path, "a layer").unwrap();
            }
            fs_err::File::open(path).unwrap().into_file()
        };
        let config = json!({"image": "debian", "memory": "2G"}).as_object().cloned().unwrap();
        let mut manifest = Manifest::new(config, "x86_64");
        manifest.other.insert(OWN_KEY.into(), json!({"made_by": "1.0"}));
        let key = SealKey::read_or_make(&folder.path().join("data")).unwrap();
        assert!(!key.fits(&manifest, &[open("0")]), "nothing is sealed yet");
        key.seal(&mut manifest, &[open("0")]).unwrap();
        assert_eq!(manifest.other[OWN_KEY]["made_by"], "1.0");
        // It survives being written, read, and sealed a second time.
        let mut manifest = Manifest::parse(&manifest.to_json()).unwrap();
        key.seal(&mut manifest, &[open("0")]).unwrap();
        let again = SealKey::read(&folder.path().join("data")).unwrap();
        assert!(again.fits(&manifest, &[open("0")]));

        assert!(!key.fits(&manifest, &[]), "without its layer");
        assert!(!key.fits(&manifest, &[open("1")]), "with a copy in its layer's place");
        let other = SealKey::read_or_make(&folder.path().join("other")).unwrap();
        assert!(!other.fits(&manifest, &[open("0")]), "of another user");
        for (option, value) in [("memory", json!("64G")), ("image", json!("/dev/sda"))] {
            let mut changed = manifest.clone();
            changed.config.insert(option.into(), value);
            assert!(!key.fits(&changed, &[open("0")]), "with another `{option}`");
        }
        for seal in ["", "zz", "é", "00"] {
            manifest.other[OWN_KEY][SEAL] = json!(seal);
            assert!(!key.fits(&manifest, &[open("0")]), "{seal}");
        }
    }

    #[test]
    #[cfg(unix)]
    fn a_key_that_others_can_read_is_none() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        SealKey::read_or_make(folder.path()).unwrap();
        let path = folder.path().join(KEY_FILE);
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(SealKey::read(folder.path()).is_none());
    }
}

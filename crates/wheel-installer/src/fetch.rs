//! Gets a wheel onto this host, proved: from the cache, from a folder, or from a server.
//!
//! The cache is keyed by the hash that the index gives, so that a download that broke off goes on in
//! the next run, and what is there has been proved already.

use crate::{
    Error, Listener, Watch,
    http::Http,
    page::{Offer, shown},
    patience,
};
use fs_err as fs;
use sha2::{Digest as _, Sha256};
use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

/// Wheels have no zip64 extension (PEP 427 readers differ), so none is larger.
const LIMIT: u64 = u32::MAX as u64;

/// Gives the path of the offered wheel of a server, with its hash compared and the wheel verified.
pub fn from_server(
    http: &Http,
    url: &url::Url,
    offer: &Offer,
    cache: &Path,
    listener: &dyn Listener,
) -> Result<PathBuf, Error> {
    let file_name = || offer.file_name.clone();
    let Some(sha256) = &offer.sha256 else {
        return Err(Error::NoHash { file_name: file_name() });
    };
    let folder = cache.join(sha256);
    let wheel = folder.join(&offer.file_name);
    if !wheel.is_file() {
        fs::create_dir_all(&folder)?;
        let mut watch = listener.fetching(&offer.file_name);
        download(http, url, (offer, sha256), &folder.join("part"), &wheel, watch.as_mut())?;
    }
    // A file of the cache may have suffered since.
    if hash(&wheel)? != *sha256 {
        fs::remove_file(&wheel)?;
        return Err(Error::Damaged { file_name: file_name() });
    }
    verified(offer, wheel)
}

/// The wheel, which has to be sound. One of a folder was never compared with anything else.
pub fn verified(offer: &Offer, wheel: PathBuf) -> Result<PathBuf, Error> {
    let findings = wheel_retag::verify(&wheel)?;
    if findings.is_empty() {
        return Ok(wheel);
    }
    let findings = findings.iter().take(8).map(|finding| format!("\n  {finding}")).collect();
    Err(Error::Unsound { file_name: offer.file_name.clone(), findings })
}

fn download(
    http: &Http,
    url: &url::Url,
    (offer, sha256): (&Offer, &str),
    part: &Path,
    wheel: &Path,
    watch: &mut dyn Watch,
) -> Result<(), Error> {
    // Two commands that fetch the same file take turns; the second finds it there.
    let lock = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(part.with_extension("lock"))?;
    let mut lock = fd_lock::RwLock::new(lock.into_file());
    patience::until_free(&mut lock, &|| watch.goes_on())?;
    let _held = lock.write()?;
    if wheel.is_file() {
        return Ok(());
    }
    let was_begun = part.is_file();
    http.download(url, offer.size, LIMIT, part, watch)?;
    let mut found = hash(part)?;
    if found != sha256 && was_begun {
        // What was left of an earlier try may be of another file.
        watch.again("what was there before does not fit");
        fs::remove_file(part)?;
        http.download(url, offer.size, LIMIT, part, watch)?;
        found = hash(part)?;
    }
    watch.end();
    if found != sha256 {
        fs::remove_file(part)?;
        return Err(Error::NotAsPromised {
            file_name: offer.file_name.clone(),
            found,
            promised: sha256.to_owned(),
            url: shown(url),
        });
    }
    Ok(host_platform::rename_whole(part, wheel)?)
}

/// SHA-256 in hexadecimal.
pub fn hash(path: &Path) -> Result<String, Error> {
    let mut file = fs::File::open(path)?;
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        let length = file.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        digest.update(&buffer[..length]);
    }
    Ok(hex::encode(digest.finalize()))
}

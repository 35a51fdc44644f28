//! Gets a wheel onto this host, proved: from the cache, from a folder, or from a server.
//!
//! The cache is keyed by the hash that the index gives, so that a download that broke off goes on in
//! the next run, and what is there has been proved already.

use super::{
    http::{Http, Watch},
    page::{Offer, Place, shown},
};
use crate::report::{FAILURE, Failure};
use fs_err as fs;
use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest as _, Sha256};
use std::{
    io::{IsTerminal as _, Read as _},
    path::{Path, PathBuf},
};

/// Wheels have no zip64 extension (PEP 427 readers differ), so none is larger.
const LIMIT: u64 = u32::MAX as u64;

/// Gives the path of the offered wheel, with its hash compared and the wheel verified. Files need no
/// client.
pub fn fetch(http: Option<&Http>, offer: &Offer, cache: &Path) -> Result<PathBuf, Failure> {
    let wheel = match (&offer.place, http) {
        (Place::File(path), _) => path.clone(),
        (Place::Url(url), None) => {
            return Err(Failure::new(FAILURE, format!("`{}` cannot be fetched", shown(url)), None));
        }
        (Place::Url(url), Some(http)) => {
            let Some(sha256) = &offer.sha256 else {
                let message = format!("The index gives no sha256 for `{}`", offer.file_name);
                let hint = "fetch it yourself and install it with --find-links FOLDER";
                return Err(Failure::new(FAILURE, message, Some(hint)));
            };
            let folder = cache.join(sha256);
            let wheel = folder.join(&offer.file_name);
            if !wheel.is_file() {
                fs::create_dir_all(&folder)?;
                download(http, url, offer, sha256, &folder.join("part"), &wheel)?;
            }
            wheel
        }
    };
    // A file of the cache may have suffered since, and one of a folder was never compared.
    if let (Some(expected), Place::Url(_)) = (&offer.sha256, &offer.place) {
        let found = hash(&wheel)?;
        if found != *expected {
            fs::remove_file(&wheel)?;
            let message = format!("`{}` was damaged in the cache", offer.file_name);
            return Err(Failure::new(FAILURE, message, Some("it was removed: install again")));
        }
    }
    let findings = wheel_retag::verify(&wheel)?;
    if findings.is_empty() {
        return Ok(wheel);
    }
    let list: String = findings.iter().take(8).map(|finding| format!("\n  {finding}")).collect();
    let message = format!("`{}` is not a sound wheel:{list}", offer.file_name);
    Err(Failure::new(FAILURE, message, Some("nothing was installed; tell its maker")))
}

fn download(
    http: &Http,
    url: &url::Url,
    offer: &Offer,
    sha256: &str,
    part: &Path,
    wheel: &Path,
) -> Result<(), Failure> {
    // Two commands that fetch the same file take turns; the second finds it there.
    let lock = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(part.with_extension("lock"))?;
    let mut lock = fd_lock::RwLock::new(lock.into_file());
    let _held = lock.write()?;
    if wheel.is_file() {
        return Ok(());
    }
    let was_begun = part.is_file();
    let mut progress = Progress::new(&offer.file_name);
    http.download(url, offer.size, LIMIT, part, &mut progress)?;
    let mut found = hash(part)?;
    if found != sha256 && was_begun {
        // What was left of an earlier try may be of another file.
        progress.again("what was there before does not fit");
        fs::remove_file(part)?;
        http.download(url, offer.size, LIMIT, part, &mut progress)?;
        found = hash(part)?;
    }
    progress.end();
    if found != sha256 {
        fs::remove_file(part)?;
        let message = format!(
            "`{}` is not what the index promises: sha256 {found} instead of {sha256} (from `{}`)",
            offer.file_name,
            shown(url)
        );
        return Err(Failure::new(FAILURE, message, Some("nothing was installed")));
    }
    Ok(fs::rename(part, wheel)?)
}

/// SHA-256 in hexadecimal.
pub fn hash(path: &Path) -> Result<String, Failure> {
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

/// A bar on a terminal, a line at the start and at the end elsewhere.
struct Progress {
    name: String,
    bar: ProgressBar,
    is_terminal: bool,
    is_told: bool,
}

impl Progress {
    fn new(name: &str) -> Self {
        let style = ProgressStyle::with_template(
            "{msg} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta}",
        );
        let bar = ProgressBar::new(0);
        if let Ok(style) = style {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_message(name.to_owned());
        Self {
            name: name.to_owned(),
            bar,
            is_terminal: std::io::stderr().is_terminal(),
            is_told: false,
        }
    }

    fn end(&self) {
        self.bar.finish_and_clear();
    }
}

impl Watch for Progress {
    fn at(&mut self, n_bytes: u64, size: Option<u64>) {
        if !self.is_told && !self.is_terminal {
            let size =
                size.map_or_else(String::new, |size| format!(" ({:.1} MB)", size as f64 / 1e6));
            let from =
                if n_bytes > 0 { format!(", going on at byte {n_bytes}") } else { String::new() };
            eprintln!("fetching {}{size}{from}", self.name);
        }
        self.is_told = true;
        self.bar.set_length(size.unwrap_or(n_bytes));
        self.bar.set_position(n_bytes);
    }

    fn again(&mut self, reason: &str) {
        self.is_told = false;
        self.bar.suspend(|| eprintln!("{}: {reason}; trying again", self.name));
    }
}

//! One download, by apt's own downloader: a file that is not there is distinguished from one that could not be fetched,
//! because only the first means that another version has to do. Each file is checked against its hash
//! each time it is used.

use super::{pins::Sha256Hex, source};
use anyhow::{Context as _, Result};
use fs_err as fs;
use host_platform::rename_whole;
use image_builder::apt::{APT_HELPER, Private};
use std::{
    io::{Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
};
use xtask_base::{context::Context, ui::Step};

/// What came of asking for a file.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is in the cache, and has the hash that it has to have.
    Here(PathBuf),
    /// Who was asked does not have it.
    Absent,
    /// It is not known whether there is such a file, or it could not be written here; and why.
    Failed(String),
}

/// The file of this hash, when the cache has it.
pub fn cached(context: &Context, name: &str, sha256: &Sha256Hex) -> Result<Option<PathBuf>> {
    let place = place(context, name, sha256)?;
    Ok((place.is_file() && source::verify(&place, name, sha256).is_ok()).then_some(place))
}

fn place(context: &Context, name: &str, sha256: &Sha256Hex) -> Result<PathBuf> {
    let folder = context.cache.folder("downloads")?;
    Ok(folder.join(format!("{}-{name}", &sha256.as_str()[..16])))
}

/// The last part of a URL or a path.
pub fn name_of(url: &str) -> &str {
    url.rsplit('/').next().unwrap_or("file")
}

/// Fetches a URL into the cache. A file with another hash is an error: it is neither there nor absent.
pub fn fetch(
    context: &Context,
    step: &Step,
    apt: &Private,
    url: &str,
    sha256: &Sha256Hex,
) -> Result<Answer> {
    let name = name_of(url);
    let place = place(context, name, sha256)?;
    step.say(format!("downloading {name}"));
    let folder = place.parent().context("The cache's folder has no parent")?;
    let beside = tempfile::Builder::new().prefix(".part-").tempdir_in(folder)?;
    let part = beside.path().join("download");
    let part_name = part.to_str().context("The cache's path is not valid UTF-8")?;
    // Not checked by apt already: a file with another hash must be distinguished from an absent one.
    let args = ["download-file", url, part_name].map(str::to_owned);
    let before = fs::metadata(step.log()).map_or(0, |log| log.len());
    if let Err(error) = step.run(apt.command(APT_HELPER, args)) {
        let said = said_since(step.log(), before)?;
        return Ok(judge(&said).unwrap_or_else(|| Answer::Failed(error.to_string())));
    }
    source::verify(&part, url, sha256)?;
    // What it fetched by `file:` is a link to the file.
    let whole = fs::canonicalize(&part)?;
    match whole == fs::canonicalize(beside.path())?.join("download") {
        true => rename_whole(&part, &place)?,
        false => host_platform::copy_whole(&whole, &place)?,
    }
    Ok(Answer::Here(place))
}

/// What a log has got since it had this length.
fn said_since(log: &Path, before: u64) -> Result<String> {
    let mut file = fs::File::open(log)?;
    file.seek(SeekFrom::Start(before))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// What apt's downloader meant, by what it said in English; nothing where it named no reason.
fn judge(said: &str) -> Option<Answer> {
    let line = said.lines().rev().find_map(|line| line.strip_prefix("E: Failed to fetch "))?;
    // The reason stands behind the URL, after two spaces.
    let reason = line.split_once("  ").map_or(line, |(_, reason)| reason).trim();
    let is_absent = ["404 ", "410 ", "File not found"].iter().any(|it| reason.starts_with(it));
    Some(if is_absent { Answer::Absent } else { Answer::Failed(reason.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_is_not_there_is_absent() {
        // As apt 2.6 says it.
        let said = |reason: &str| {
            format!(
                "Err:1 http://m.test/debian/pool/x.tar.xz\n  {reason}\n\
                 W: Download is performed unsandboxed as root\n\
                 E: Failed to fetch http://m.test/debian/pool/x.tar.xz  {reason}\nE: Download Failed\n"
            )
        };
        for reason in [
            "404  Not Found [IP: 192.0.2.1 80]",
            "410  Gone [IP: 192.0.2.1 80]",
            "File not found - /nonexistent/x (2: No such file or directory)",
        ] {
            assert_eq!(judge(&said(reason)), Some(Answer::Absent), "{reason}");
        }
        for reason in [
            "Could not resolve 'm.test'",
            "Could not connect to 127.0.0.1:9 (127.0.0.1). - connect (111: Connection refused)",
            "503  Service Unavailable [IP: 192.0.2.1 80]",
            "Write error - write (28: No space left on device)",
        ] {
            assert_eq!(judge(&said(reason)), Some(Answer::Failed(reason.to_owned())));
        }
        assert_eq!(judge("Killed\n"), None);
    }
}

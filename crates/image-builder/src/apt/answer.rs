//! Reads what apt answers: chosen files, package records, signed releases. Pure but for listing
//! the folder of releases.

use super::sources::Archive;
use crate::{
    Error, PackageError, deb,
    lock::{Package, Release},
};
use fs_err as fs;
use std::{collections::BTreeSet, path::Path};

/// A package that apt chose.
#[derive(Debug, PartialEq, Eq)]
pub struct Choice {
    uri: String,
    pub name: String,
    pub version: String,
    arch: String,
}

/// A line of `--print-uris`: `'URI' NAME_VERSION_ARCH.deb SIZE HASH`.
pub fn choice(line: &str) -> Option<Choice> {
    let (uri, rest) = line.strip_prefix('\'')?.split_once("' ")?;
    let file = rest.split_whitespace().next()?.strip_suffix(".deb")?;
    let mut parts = file.splitn(3, '_');
    let (name, version, arch) = (parts.next()?, parts.next()?, parts.next()?);
    Some(Choice {
        uri: uri.to_owned(),
        name: name.to_owned(),
        version: version.replace("%3a", ":"),
        arch: arch.to_owned(),
    })
}

/// The name in apt's complaint that it knows no such package.
pub fn unknown_package(complaint: &str) -> Option<&str> {
    complaint
        .lines()
        .find_map(|line| line.strip_prefix("E: Unable to locate package "))
        .map(str::trim)
}

/// The chosen packages with what their records say, by name.
pub fn packages(
    choices: &[Choice],
    records: &str,
    archives: &[Archive],
) -> Result<Vec<Package>, Error> {
    let records: Vec<&str> = records.split("\n\n").collect();
    let mut packages = Vec::new();
    for choice in choices {
        let record = records.iter().find(|record| {
            deb::field(record, "Package") == Some(&choice.name)
                && deb::field(record, "Version") == Some(&choice.version)
                && deb::field(record, "Architecture") == Some(&choice.arch)
        });
        let package = record.and_then(|record| {
            let path = deb::field(record, "Filename")?;
            Some(Package {
                name: choice.name.clone(),
                version: choice.version.clone(),
                arch: choice.arch.clone(),
                archive: archive_of(&choice.uri, path, archives)?,
                path: path.to_owned(),
                size: deb::field(record, "Size")?.parse().ok()?,
                sha256: deb::field(record, "SHA256")?.to_owned(),
            })
        });
        packages.push(package.ok_or_else(|| {
            Error::Package(PackageError::AptAnswer {
                line: format!("{} {} ({})", choice.name, choice.version, choice.uri),
            })
        })?);
    }
    packages.sort();
    packages.dedup();
    Ok(packages)
}

/// The archive whose URI the file lies below.
fn archive_of(uri: &str, path: &str, archives: &[Archive]) -> Option<String> {
    let root = percent_decode(uri);
    let root = root.strip_suffix(path)?.trim_end_matches('/');
    archives.iter().find(|archive| archive.uri == root).map(|archive| archive.name.clone())
}

fn percent_decode(text: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let mut ahead = bytes.clone();
        let digit = |byte: Option<u8>| byte.and_then(|byte| (byte as char).to_digit(16));
        match (byte, digit(ahead.next()), digit(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                bytes = ahead;
            }
            _ => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The signed releases that apt has fetched and checked.
pub fn releases(lists: &Path, archives: &[Archive]) -> Result<Vec<Release>, Error> {
    let mut releases = Vec::new();
    for entry in fs::read_dir(lists)? {
        let entry = entry?;
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(stem) = file.strip_suffix("_InRelease") else { continue };
        // apt names a list by its URI: without the scheme, slashes as underscores.
        let archive = archives.iter().find(|archive| {
            let place =
                archive.uri.split_once("://").map_or(archive.uri.as_str(), |(_, rest)| rest);
            stem.starts_with(&format!("{}_dists_", place.replace('/', "_")))
        });
        let Some(archive) = archive else { continue };
        let bytes = fs::read(entry.path())?;
        let text = String::from_utf8_lossy(&bytes);
        let date = deb::field(&text, "Date").and_then(date_seconds);
        let suite = stem.rsplit("_dists_").next().unwrap_or_default().to_owned();
        releases.push(Release {
            archive: archive.name.clone(),
            date: date.ok_or_else(|| {
                Error::Package(PackageError::AptAnswer { line: format!("the date of {file}") })
            })?,
            suite,
            sha256: crate::sha256(&bytes),
        });
    }
    releases.sort_by(|a, b| (&a.archive, &a.suite).cmp(&(&b.archive, &b.suite)));
    Ok(releases)
}

/// The parts of the archive that the fetched releases have, each once.
pub fn components(lists: &Path) -> Result<BTreeSet<String>, Error> {
    let mut components = BTreeSet::new();
    for entry in fs::read_dir(lists)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().ends_with("_InRelease") {
            continue;
        }
        let bytes = fs::read(entry.path())?;
        let text = String::from_utf8_lossy(&bytes);
        let named = deb::field(&text, "Components").unwrap_or_default().split_whitespace();
        // Some archives write a folder before each.
        components.extend(named.filter_map(|name| name.rsplit('/').next()).map(str::to_owned));
    }
    Ok(components)
}

/// `Sat, 15 Nov 2025 10:20:30 UTC` in seconds since the epoch.
fn date_seconds(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut words = text.split_once(", ")?.1.split_whitespace();
    let day: i64 = words.next()?.parse().ok()?;
    let month_name = words.next()?;
    let month = MONTHS.iter().position(|name| *name == month_name)? as i64 + 1;
    let year: i64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Days from civil date: years begin in March, so that the leap day is the last one.
    let (year, month) = if month <= 2 { (year - 1, month + 9) } else { (year, month - 3) };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - 719_468;
    Some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archives() -> Vec<Archive> {
        [
            ("debian", "http://mirror.test/debian"),
            ("debian-security", "http://mirror.test/debian-security"),
        ]
        .map(|(name, uri)| Archive { name: name.to_owned(), uri: uri.to_owned() })
        .into()
    }

    #[test]
    fn chosen_files_are_read() {
        let line = "'http://mirror.test/debian/pool/main/b/busybox/busybox-static_1.37.0-6%2bb9_amd64.deb' busybox-static_1%3a1.37.0-6+b9_amd64.deb 955316 MD5Sum:608b";
        let choice = choice(line).unwrap();
        assert_eq!(
            (choice.name.as_str(), choice.version.as_str()),
            ("busybox-static", "1:1.37.0-6+b9")
        );
        let records = "Package: busybox-static\nVersion: 1:1.37.0-6+b9\nArchitecture: amd64\nFilename: pool/main/b/busybox/busybox-static_1.37.0-6+b9_amd64.deb\nSize: 955316\nSHA256: 598a\n\n";
        let packages = packages(&[choice], records, &archives()).unwrap();
        assert_eq!(packages[0].archive, "debian");
        assert_eq!(packages[0].size, 955_316);
    }

    #[test]
    fn what_no_record_describes_is_an_error() {
        let choice = Choice {
            uri: "http://elsewhere.test/x_1_all.deb".to_owned(),
            name: "x".to_owned(),
            version: "1".to_owned(),
            arch: "all".to_owned(),
        };
        assert!(packages(&[choice], "", &archives()).is_err());
        assert_eq!(super::choice("E: something else"), None);
    }

    #[test]
    fn dates_are_read() {
        for (text, seconds) in [
            ("Thu, 01 Jan 1970 00:00:00 UTC", 0),
            ("Sat, 29 Feb 2020 12:00:01 UTC", 1_582_977_601),
            ("Sat, 15 Nov 2025 09:45:12 UTC", 1_763_199_912),
        ] {
            assert_eq!(date_seconds(text), Some(seconds), "{text}");
        }
        assert_eq!(date_seconds("yesterday"), None);
    }
}

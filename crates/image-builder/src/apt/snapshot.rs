//! Archives of the past: where a package is that the mirrors have dropped since a lock was written.
//! Debian and Ubuntu keep every state of their archives under its time. Pure but for reading the
//! releases that apt fetched; what is fetched is held against the lock's hashes as from any mirror.

use super::sources::{Archive, is_dated};
use crate::{deb, lock::ArchLock};
use fs_err as fs;
use std::path::Path;

/// What a release's field `Snapshots` and a person's setting have in place of the time.
const TIME: &str = "@SNAPSHOTID@";

/// How long after an archive's date its state is looked for, in seconds: a state is kept some hours
/// after it was published, and a time between two of them means the earlier one.
const AFTER: [i64; 4] = [6 * 3600, 24 * 3600, 0, 72 * 3600];

/// The variable by which the person names where an archive's past is.
pub fn variable(archive: &str) -> String {
    format!("QUICKSAND_SNAPSHOT_{}", archive.to_uppercase().replace('-', "_"))
}

/// The archives as they were when the lock was written, the likeliest time first. `setting` gives
/// what the person named for an archive; `lists` is where apt keeps the releases that it fetched.
pub fn for_lock(
    archives: &[Archive],
    lock: &ArchLock,
    setting: &dyn Fn(&str) -> Option<String>,
    lists: &Path,
) -> Vec<Vec<Archive>> {
    let templates: Vec<(&Archive, String)> = archives
        .iter()
        .filter_map(|archive| Some((archive, template(archive, setting, lists)?)))
        .collect();
    if templates.is_empty() {
        return Vec::new();
    }
    let date = |name: &str| {
        let own = lock.release.iter().filter(|release| release.archive == name);
        own.map(|release| release.date).max().unwrap_or(lock.source_date)
    };
    AFTER
        .iter()
        .map(|after| {
            let at = |(archive, template): &(&Archive, String)| Archive {
                name: archive.name.clone(),
                uri: template.replace(TIME, &identifier(date(&archive.name) + after)),
            };
            templates.iter().map(at).collect()
        })
        .collect()
}

/// The archives as they were at the end of a day, `2026-11-29`; none where nobody says where their past is. For
/// what is pinned by its hash without a lock.
pub fn for_day(
    archives: &[Archive],
    day: &str,
    setting: &dyn Fn(&str) -> Option<String>,
    lists: &Path,
) -> Vec<Archive> {
    let time = format!("{}T235959Z", day.replace('-', ""));
    let at = |archive: &Archive| {
        let uri = template(archive, setting, lists)?.replace(TIME, &time);
        Some(Archive { name: archive.name.clone(), uri })
    };
    archives.iter().filter_map(at).collect()
}

/// Where an archive's past is, with a mark for the time.
fn template(
    archive: &Archive,
    setting: &dyn Fn(&str) -> Option<String>,
    lists: &Path,
) -> Option<String> {
    let whole = |uri: String| {
        let uri = uri.trim_end_matches('/').to_owned();
        match uri.contains(TIME) {
            true => uri,
            false => format!("{uri}/{TIME}"),
        }
    };
    if let Some(uri) = setting(&archive.name) {
        return Some(whole(uri));
    }
    // Beside the main archive's, as the originals have it.
    if let Some(main) = archive.name.strip_suffix("-security")
        && let Some(uri) = setting(main)
    {
        return Some(whole(super::sources::beside(&uri, main, &archive.name).unwrap_or(uri)));
    }
    if is_dated(&archive.uri) {
        let root = archive.uri.rsplit_once('/').map_or("", |(root, _)| root);
        return Some(whole(root.to_owned()));
    }
    said(archive, lists).map(whole)
}

/// What the archive's own release says, which apt has checked the signature of.
fn said(archive: &Archive, lists: &Path) -> Option<String> {
    let place = archive.uri.split_once("://").map_or(archive.uri.as_str(), |(_, rest)| rest);
    let stem = format!("{}_dists_", place.replace('/', "_"));
    // One of its suites may say it and another not.
    fs::read_dir(lists).ok()?.filter_map(Result::ok).find_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(&stem) || !name.ends_with("_InRelease") {
            return None;
        }
        let text = fs::read_to_string(entry.path()).ok()?;
        let field = deb::field(&text, "Snapshots")?.trim();
        field.starts_with("http").then(|| field.to_owned())
    })
}

/// The day of a time, as [`for_day`] takes it.
pub fn day(seconds: i64) -> String {
    let text = identifier(seconds);
    format!("{}-{}-{}", &text[..4], &text[4..6], &text[6..8])
}

/// A time as snapshots are called: `20260131T235959Z`.
fn identifier(seconds: i64) -> String {
    let (days, rest) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Civil date from days: years begin in March, so that the leap day is the last one.
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let day_of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (year, month) = match month {
        0..10 => (era * 400 + year_of_era, month + 3),
        _ => (era * 400 + year_of_era + 1, month - 9),
    };
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_snapshots_have_them() {
        for (seconds, text) in [
            (0, "19700101T000000Z"),
            (951_782_400, "20000229T000000Z"),
            (1_735_689_599, "20241231T235959Z"),
            (1_772_323_200, "20260301T000000Z"),
        ] {
            assert_eq!(identifier(seconds), text);
            assert_eq!(day(seconds).replace('-', ""), text[..8]);
        }
    }

    #[test]
    fn the_person_comes_before_the_mirror_and_its_release() {
        let lists = tempfile::tempdir().unwrap();
        let release = "Origin: x\nSnapshots: https://past.test/debian/@SNAPSHOTID@/\n";
        let name = "m.test_debian_dists_trixie_InRelease";
        fs::write(lists.path().join(name), release).unwrap();
        // Whichever of the suites is read first.
        for suite in ["a", "trixie-updates", "z"] {
            let name = format!("m.test_debian_dists_{suite}_InRelease");
            fs::write(lists.path().join(name), "Origin: x\n").unwrap();
        }
        let archive = |name: &str, uri: &str| Archive { name: name.into(), uri: uri.into() };
        let both = [
            archive("debian", "http://m.test/debian"),
            archive("debian-security", "http://m.test/debian-security"),
        ];
        let mut lock = crate::lock::tests::arch_lock(&[]);
        lock.source_date = 1_735_689_599 - AFTER[0];
        lock.release.clear();
        let uris = |archives: &[Archive], setting: &dyn Fn(&str) -> Option<String>| {
            let found = for_lock(archives, &lock, setting, lists.path());
            assert!(found.is_empty() || found.len() == AFTER.len());
            let first = found.into_iter().next().unwrap_or_default();
            first.into_iter().map(|archive| archive.uri).collect::<Vec<_>>()
        };
        assert_eq!(uris(&both, &|_| None), ["https://past.test/debian/20241231T235959Z"]);
        let chosen =
            |name: &str| (name == "debian").then(|| "http://me.test/archive/debian".to_owned());
        assert_eq!(
            uris(&both, &chosen),
            [
                "http://me.test/archive/debian/20241231T235959Z",
                "http://me.test/archive/debian-security/20241231T235959Z"
            ]
        );
        let dated = [archive("debian", "http://m.test/a/debian/20200101T000000Z")];
        assert_eq!(uris(&dated, &|_| None), ["http://m.test/a/debian/20241231T235959Z"]);
        assert!(uris(&[archive("x", "http://other.test/debian")], &|_| None).is_empty());
        let for_day = for_day(&both, "2026-11-29", &chosen, lists.path());
        assert_eq!(
            for_day.iter().map(|archive| archive.uri.as_str()).collect::<Vec<_>>(),
            [
                "http://me.test/archive/debian/20261129T235959Z",
                "http://me.test/archive/debian-security/20261129T235959Z"
            ]
        );
    }
}

//! What a newer package mends, by the changelog that is in it: each of Debian's and Ubuntu's packages carries
//! its source's, which names the flaws that a change closes. Reads deb-changelog(5) as far as that goes.

use crate::{Error, audit::debian_order, deb, tree::Tree};
use std::{collections::BTreeSet, io::Read, path::Path};

/// The most of a changelog that is read, in bytes: a kernel's has some megabytes.
const MAX_BYTES: u64 = 64 << 20;

/// The flaws that the entries above a version of the source name, such as `CVE-2026-1`; `None` where the
/// package holds no changelog, as those do that share another package's documentation.
pub fn mended_since(
    package: &Path,
    name: &str,
    before: &str,
) -> Result<Option<BTreeSet<String>>, Error> {
    let tree = deb::data(package)?;
    Ok(text(&tree, name)?.map(|text| flaws_above(&text, before)))
}

/// The changelog of a package's files; that of the upstream project is another one.
fn text(tree: &Tree, name: &str) -> Result<Option<String>, Error> {
    let folder = format!("usr/share/doc/{name}");
    for file in ["changelog.Debian.gz", "changelog.gz"] {
        let Some(packed) = tree.read(&format!("{folder}/{file}"))? else { continue };
        let mut bytes = Vec::new();
        flate2::read::MultiGzDecoder::new(packed.as_ref())
            .take(MAX_BYTES)
            .read_to_end(&mut bytes)?;
        return Ok(Some(String::from_utf8_lossy(&bytes).into_owned()));
    }
    Ok(None)
}

/// The flaws that the entries of versions above this one name.
pub fn flaws_above(changelog: &str, before: &str) -> BTreeSet<String> {
    let mut flaws = BTreeSet::new();
    for line in changelog.lines() {
        // An entry begins at the margin with `source (version) suite; urgency=…`.
        if !line.starts_with([' ', '\t']) && !line.is_empty() {
            let version = line.split_once(" (").and_then(|(_, rest)| Some(rest.split_once(')')?.0));
            if version.is_some_and(|version| debian_order(version, before).is_le()) {
                break;
            }
            continue;
        }
        flaws.extend(named(line));
    }
    flaws
}

/// The numbers of flaws in a line.
fn named(line: &str) -> impl Iterator<Item = String> + '_ {
    line.match_indices("CVE-").filter_map(|(at, start)| {
        let rest = &line[at + start.len()..];
        let (year, number) = rest.split_once('-')?;
        let is_year = year.len() == 4 && year.bytes().all(|byte| byte.is_ascii_digit());
        let end = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
        (is_year && end >= 4).then(|| format!("CVE-{year}-{}", &number[..end]))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fs_err as fs;
    use std::io::Write as _;

    const TEXT: &str = "\
openssl (3.5.1-1+deb13u2) trixie-security; urgency=medium

  * CVE-2026-1234 (an overflow), CVE-2026-12345.
  * Not one: CVE-26-1, CVE-2026-12, CVE-.

 -- A <a@b.test>  Mon, 02 Nov 2026 10:00:00 +0000

openssl (3.5.1-1+deb13u1) trixie-security; urgency=medium

  * CVE-2025-9230

 -- A <a@b.test>  Mon, 05 Oct 2026 10:00:00 +0000

openssl (3.5.1-1) unstable; urgency=medium

  * New upstream version, closes CVE-2025-1111

 -- A <a@b.test>  Mon, 05 Oct 2026 10:00:00 +0000
";

    fn package(folder: &Path, path: &str) -> std::path::PathBuf {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(TEXT.as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        let place = folder.join("x.deb");
        let bytes = crate::deb::tests::make("Package: libssl3t64\n", &[(path, &packed)]);
        fs::write(&place, bytes).unwrap();
        place
    }

    #[test]
    fn what_newer_entries_close_is_mended() {
        let folder = tempfile::tempdir().unwrap();
        let place = package(folder.path(), "usr/share/doc/libssl3t64/changelog.Debian.gz");
        let since = |before: &str| {
            let flaws = mended_since(&place, "libssl3t64", before).unwrap().unwrap();
            flaws.into_iter().collect::<Vec<_>>().join(" ")
        };
        assert_eq!(since("3.5.1-1"), "CVE-2025-9230 CVE-2026-1234 CVE-2026-12345");
        assert_eq!(since("3.5.1-1+deb13u1"), "CVE-2026-1234 CVE-2026-12345");
        assert_eq!(since("3.5.1-1+deb13u2"), "");
        assert!(since("3.4").ends_with("CVE-2026-12345") && since("3.4").contains("2025-1111"));
    }

    #[test]
    fn a_package_without_a_changelog_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let place = package(folder.path(), "usr/share/doc/other/changelog.Debian.gz");
        assert_eq!(mended_since(&place, "libssl3t64", "1").unwrap(), None);
    }
}

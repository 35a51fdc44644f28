//! How each kind of package orders its versions, and what advisories call it.

use crate::apk;
use pep440_rs::Version;
use std::cmp::Ordering;

/// A kind of package with its own names and versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Ecosystem {
    Debian,
    Ubuntu,
    Alpine,
    Crates,
    PyPi,
}

impl Ecosystem {
    /// The one of a package URL's kind.
    pub fn from_purl(kind: &str) -> Option<Self> {
        Some(match kind {
            "deb/debian" => Self::Debian,
            "deb/ubuntu" => Self::Ubuntu,
            "apk/alpine" => Self::Alpine,
            "cargo" => Self::Crates,
            "pypi" => Self::PyPi,
            _ => return None,
        })
    }

    /// The one of an advisory's word, as in `Debian:13`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name.split(':').next().unwrap_or_default() {
            "Debian" => Self::Debian,
            "Ubuntu" => Self::Ubuntu,
            "Alpine" => Self::Alpine,
            "crates.io" => Self::Crates,
            "PyPI" => Self::PyPi,
            _ => return None,
        })
    }

    /// Whether an advisory's word, as in `Ubuntu:24.04:LTS`, means this kind in a release. One without a release
    /// means all of them, and a component whose release is not known may be of any.
    pub fn is_named_by(self, word: &str, release: Option<&str>) -> bool {
        if Self::from_name(word) != Some(self) {
            return false;
        }
        let (Some((_, named)), Some(release)) = (word.split_once(':'), release) else {
            return true;
        };
        // `13` and `13.2`, `v3.23` and `3.23.1`; what comes behind a further colon is an edition. Those who do
        // not pay get no mends of `Ubuntu:Pro`.
        let named = named.split(':').next().unwrap_or_default().trim_start_matches('v');
        let is_below = |rest: &str| rest.is_empty() || rest.starts_with('.');
        !named.is_empty() && release.strip_prefix(named).is_some_and(is_below)
    }

    /// A package's name in the form in which names are compared.
    pub fn name(self, name: &str) -> String {
        match self {
            Self::PyPi => name.to_lowercase().replace(['_', '.'], "-"),
            _ => name.to_owned(),
        }
    }

    /// The order of two versions; `None` where one is not a version.
    pub fn compare(self, a: &str, b: &str) -> Option<Ordering> {
        Some(match self {
            Self::Debian | Self::Ubuntu => debian(a, b),
            Self::Alpine => apk::version::compare(a, b),
            Self::Crates => {
                let version = |text: &str| semver::Version::parse(text).ok();
                // What is behind a `+` does not count.
                version(a)?.cmp_precedence(&version(b)?)
            }
            Self::PyPi => a.parse::<Version>().ok()?.cmp(&b.parse::<Version>().ok()?),
        })
    }
}

/// The order of Debian's versions, see deb-version(7).
pub fn debian(a: &str, b: &str) -> Ordering {
    let parts = |text: &str| -> (u64, String, String) {
        let (epoch, rest) = match text.split_once(':') {
            Some((epoch, rest)) if epoch.bytes().all(|b| b.is_ascii_digit()) => {
                (epoch.parse().unwrap_or(0), rest)
            }
            _ => (0, text),
        };
        // A version without a revision is that of one with the revision 0.
        let (version, revision) = rest.rsplit_once('-').unwrap_or((rest, "0"));
        (epoch, version.to_owned(), revision.to_owned())
    };
    let ((epoch_a, version_a, revision_a), (epoch_b, version_b, revision_b)) = (parts(a), parts(b));
    epoch_a
        .cmp(&epoch_b)
        .then_with(|| part(&version_a, &version_b))
        .then_with(|| part(&revision_a, &revision_b))
}

/// The order of two versions without epoch and revision: pieces that are no numbers and pieces that are, in turn.
fn part(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !(a.is_empty() && b.is_empty()) {
        let (text_a, rest_a) = split(a, false);
        let (text_b, rest_b) = split(b, false);
        let (number_a, rest_a) = split(rest_a, true);
        let (number_b, rest_b) = split(rest_b, true);
        let order = text(text_a, text_b).then_with(|| number(number_a, number_b));
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
    Ordering::Equal
}

/// The first piece and the rest.
fn split(text: &str, is_number: bool) -> (&str, &str) {
    let end = text.find(|c: char| c.is_ascii_digit() != is_number).unwrap_or(text.len());
    text.split_at(end)
}

/// `~` sorts before the end, letters before everything else.
fn text(a: &str, b: &str) -> Ordering {
    let rank = |c: Option<char>| match c {
        Some('~') => -1_i64,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => i64::from(u32::from(c)),
        Some(c) => i64::from(u32::from(c)) + 256,
    };
    let (mut a, mut b) = (a.chars(), b.chars());
    loop {
        let (x, y) = (a.next(), b.next());
        let order = rank(x).cmp(&rank(y));
        if order.is_ne() || (x.is_none() && y.is_none()) {
            return order;
        }
    }
}

/// Numbers of any length.
fn number(a: &str, b: &str) -> Ordering {
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use duct::cmd;

    const DEBIAN: [&str; 16] = [
        "0~rc1",
        "0",
        "0.1",
        "1.0~beta",
        "1.0",
        "1.0-0.1",
        "1.0-1~deb13u1",
        "1.0-1",
        "1.0-1+b1",
        "1.0-1+deb13u1",
        "1.0-1.1",
        "1.0a",
        "1.0+dfsg",
        "1.09",
        "1.10",
        "1:0",
    ];

    #[test]
    fn debians_versions_are_ordered_as_dpkg_does() {
        for (i, a) in DEBIAN.iter().enumerate() {
            for (j, b) in DEBIAN.iter().enumerate() {
                assert_eq!(debian(a, b), i.cmp(&j), "{a} {b}");
            }
        }
        assert_eq!(debian("1.0", "1.0-0"), Ordering::Equal);
        assert_eq!(debian("1.00", "1.0"), Ordering::Equal);
    }

    /// The distribution's own program judges the table above.
    #[test]
    fn dpkg_says_the_same() {
        if cmd!("dpkg", "--version").stdout_null().stderr_null().run().is_err() {
            eprintln!("skipped: this host has no dpkg");
            return;
        }
        for pair in DEBIAN.windows(2) {
            cmd!("dpkg", "--compare-versions", pair[0], "lt", pair[1])
                .run()
                .unwrap_or_else(|error| panic!("{pair:?}: {error}"));
        }
    }

    #[test]
    fn each_kind_has_its_own_order() {
        for (kind, a, b) in [
            (Ecosystem::Alpine, "1.2.3-r9", "1.2.3-r10"),
            (Ecosystem::Crates, "1.2.3-alpha.1", "1.2.3"),
            (Ecosystem::PyPi, "1.0rc1", "1.0"),
            (Ecosystem::PyPi, "1.0", "1.0.post1"),
        ] {
            assert_eq!(kind.compare(a, b), Some(Ordering::Less), "{a} {b}");
        }
        assert_eq!(Ecosystem::Crates.compare("1.0.0+a", "1.0.0+b"), Some(Ordering::Equal));
        assert_eq!(Ecosystem::Crates.compare("1.0", "1.0.0"), None);
    }

    #[test]
    fn a_release_is_meant_by_its_number() {
        let check = |kind: Ecosystem, word: &str, release: Option<&str>, expect: bool| {
            assert_eq!(kind.is_named_by(word, release), expect, "{word} {release:?}");
        };
        check(Ecosystem::Debian, "Debian:13", Some("13"), true);
        check(Ecosystem::Debian, "Debian:13", Some("13.2"), true);
        check(Ecosystem::Debian, "Debian:1", Some("13"), false);
        check(Ecosystem::Debian, "Debian:12", Some("13"), false);
        check(Ecosystem::Debian, "Debian", Some("13"), true);
        check(Ecosystem::Debian, "Debian:12", None, true);
        check(Ecosystem::Ubuntu, "Ubuntu:24.04:LTS", Some("24.04"), true);
        check(Ecosystem::Ubuntu, "Ubuntu:Pro:24.04:LTS", Some("24.04"), false);
        check(Ecosystem::Ubuntu, "Debian:13", Some("13"), false);
        check(Ecosystem::Alpine, "Alpine:v3.23", Some("3.23.1"), true);
        check(Ecosystem::Alpine, "Alpine:v3.2", Some("3.23.1"), false);
        check(Ecosystem::Crates, "crates.io", None, true);
    }
}

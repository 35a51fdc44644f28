//! In which form the source of each part is had: files by their hashes, a distribution's source package, or this
//! repository itself. Pure.

use crate::{Error, Part, is_owed};
use bill_of_materials::Purl;
use std::collections::{BTreeMap, BTreeSet};

/// How the bills call what is this project's own and nobody else's package.
const OURS: [&str; 2] = ["quicksand-agent", "recipe of "];

/// One piece of source.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Need {
    /// A source package of a distribution, as its archive has it.
    Package(SourcePackage),
    /// A file that a bill names with its hash.
    File {
        /// The part that it is of, as a folder's name.
        folder: String,
        name: String,
        sha256: String,
    },
    /// This repository.
    Ours,
}

/// A source package of a distribution.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourcePackage {
    /// `debian` or `ubuntu`.
    pub distribution: String,
    pub name: String,
    pub version: String,
}

impl SourcePackage {
    /// The package as people call it.
    pub fn words(&self) -> String {
        format!("{} {} ({})", self.name, self.version, self.distribution)
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needed {
    /// Each piece of source with the parts that it is of, by the distribution that they are in.
    pub pieces: BTreeMap<Need, BTreeMap<String, BTreeSet<String>>>,
    /// The binary packages that were built from each source package, where the bills name them.
    pub binaries: BTreeMap<SourcePackage, BTreeSet<String>>,
    /// How many parts are owed, and how many are not.
    pub n_owed: usize,
    /// Those under permissive licences alone.
    pub n_left_out: usize,
}

/// What the source of these parts consists of.
///
/// # Errors
/// The source of a part that is owed cannot be had; all of them are named.
pub fn needed(parts: &[Part]) -> Result<Needed, Error> {
    let mut needed = Needed::default();
    let mut without: BTreeSet<String> = BTreeSet::new();
    for part in parts {
        if !is_owed(&part.licence) {
            needed.n_left_out += 1;
            continue;
        }
        needed.n_owed += 1;
        let Some(pieces) = pieces(part) else {
            without.insert(format!("{} of `{}`", part.words(), part.wheel));
            continue;
        };
        for piece in pieces {
            if let (Need::Package(source), Some(purl)) = (&piece, &part.purl)
                && !is_source(purl)
            {
                needed.binaries.entry(source.clone()).or_default().insert(part.name.clone());
            }
            let distribution = part.wheel.split('-').next().unwrap_or_default().to_owned();
            let of_piece = needed.pieces.entry(piece).or_default();
            of_piece.entry(distribution).or_default().insert(part.words());
        }
    }
    match without.is_empty() {
        true => Ok(needed),
        false => Err(Error::NoSource { parts: without.into_iter().collect() }),
    }
}

fn is_source(purl: &Purl) -> bool {
    purl.qualifier("arch") == Some("source")
}

/// The source of one part; none where nothing says what it is.
fn pieces(part: &Part) -> Option<Vec<Need>> {
    let Some(purl) = &part.purl else {
        return OURS.iter().any(|name| part.name.starts_with(name)).then(|| vec![Need::Ours]);
    };
    let Some(distribution) = purl.kind.strip_prefix("deb/") else {
        return from_files(part);
    };
    if !is_source(purl) {
        // Where a package's source has its name and version, the URL does not repeat them.
        let upstream = purl.qualifier("upstream").unwrap_or(&purl.name);
        let (name, version) = upstream.split_once('@').unwrap_or((upstream, &purl.version));
        return Some(vec![package(distribution, name, version)]);
    }
    // A binary package is no source; a .dsc is of what the distribution has whole.
    let is_pinned =
        |(name, _): &(String, String)| !name.ends_with(".deb") && !name.ends_with(".dsc");
    match part.sources.is_empty() || !part.sources.iter().all(is_pinned) {
        true => Some(vec![package(distribution, &purl.name, &purl.version)]),
        false => from_files(part),
    }
}

fn package(distribution: &str, name: &str, version: &str) -> Need {
    Need::Package(SourcePackage {
        distribution: distribution.to_owned(),
        name: name.to_owned(),
        version: version.to_owned(),
    })
}

fn from_files(part: &Part) -> Option<Vec<Need>> {
    let folder = format!("{}_{}", part.name, part.version);
    let file = |(name, sha256): &(String, String)| Need::File {
        folder: folder.clone(),
        name: name.clone(),
        sha256: sha256.clone(),
    };
    (!part.sources.is_empty()).then(|| part.sources.iter().map(file).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &str, purl: &str, sources: &[&str]) -> Part {
        let purl = Purl::parse(purl);
        Part {
            wheel: "quicksand_debian-0.1.0-py3-none-linux_x86_64.whl".to_owned(),
            name: name.to_owned(),
            version: purl.as_ref().map_or("1", |purl| &purl.version).to_owned(),
            purl,
            licence: "GPL-2.0-only".to_owned(),
            sources: sources.iter().map(|name| ((*name).to_owned(), "ab".repeat(32))).collect(),
        }
    }

    #[test]
    fn each_kind_of_part_has_its_form_of_source() {
        let file = |folder: &str, name: &str| Need::File {
            folder: folder.to_owned(),
            name: name.to_owned(),
            sha256: "ab".repeat(32),
        };
        let deb = |name, version| vec![package("debian", name, version)];
        for (name, purl, sources, expect) in [
            (
                "bash",
                "pkg:deb/debian/bash@5.2-1?arch=amd64&distro=debian-13",
                &[][..],
                deb("bash", "5.2-1"),
            ),
            (
                "libc6",
                "pkg:deb/debian/libc6@2.41-12%2Bb1?arch=amd64&upstream=glibc%402.41-12",
                &[],
                deb("glibc", "2.41-12"),
            ),
            ("libz", "pkg:deb/debian/libz@1.3?arch=amd64&upstream=zlib", &[], deb("zlib", "1.3")),
            (
                "glibc",
                "pkg:deb/debian/glibc@2.36?arch=source&distro=debian-12",
                &[],
                deb("glibc", "2.36"),
            ),
            // The firmware's package, of which the bill names the file that was fetched.
            (
                "seabios",
                "pkg:deb/debian/seabios@1.16?arch=source",
                &["seabios_1.16_all.deb"],
                deb("seabios", "1.16"),
            ),
            (
                "gcc-12",
                "pkg:deb/debian/gcc-12@12?arch=source",
                &["gcc.dsc", "gcc.tar.xz"],
                deb("gcc-12", "12"),
            ),
            (
                "glib",
                "pkg:deb/debian/glib@2?arch=source",
                &["glib.orig.tar.xz", "ours.patch"],
                vec![file("glib_2", "glib.orig.tar.xz"), file("glib_2", "ours.patch")],
            ),
            ("qemu", "pkg:generic/qemu@10", &["qemu.tar.xz"], vec![file("qemu_10", "qemu.tar.xz")]),
            ("recipe of debian", "", &[], vec![Need::Ours]),
        ] {
            assert_eq!(pieces(&part(name, purl, sources)), Some(expect), "{name}");
        }
    }

    #[test]
    fn a_part_without_source_is_named_and_a_permissive_one_needs_none() {
        let parts = [
            part("mystery", "", &[]),
            part("busybox", "pkg:apk/alpine/busybox@1.37", &[]),
            part("bash", "pkg:deb/debian/bash@5.2-1?arch=amd64", &[]),
        ];
        let error = needed(&parts).unwrap_err().to_string();
        assert!(error.contains("mystery 1 of `quicksand_debian") && error.contains("busybox 1.37"));
        assert!(!error.contains("bash"), "{error}");
        let permissive = Part { licence: "MIT".to_owned(), ..parts[0].clone() };
        let found = needed(&[permissive, parts[2].clone(), parts[2].clone()]).unwrap();
        assert_eq!((found.n_owed, found.n_left_out, found.pieces.len()), (2, 1, 1));
        let (_, of_bash) = found.pieces.first_key_value().unwrap();
        assert_eq!(of_bash["quicksand_debian"], BTreeSet::from(["bash 5.2-1".to_owned()]));
        assert_eq!(found.binaries.len(), 1);
    }
}

//! What a bundle is made of: one record for each component, and what people are shown of them.

use crate::{Error, expression, purl, purl_with};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeSet, fmt::Write as _};

/// How a component came into the bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum How {
    /// Its own files are in the bundle, built here from its source.
    Built,
    /// Its own files are in the bundle as another distributor built them.
    Bundled,
    /// Parts of its archives were linked into an executable of the bundle.
    StaticallyLinked,
}

impl How {
    fn words(self) -> &'static str {
        match self {
            Self::Built => "built from source",
            Self::Bundled => "bundled as distributed",
            Self::StaticallyLinked => "statically linked",
        }
    }
}

/// One component of a bundle.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Component {
    /// The source's name, for example `glib2.0`.
    pub name: String,
    /// The source's version, as its distributor writes it.
    pub version: String,
    /// How it came in.
    pub how: How,
    /// The SPDX expression of what is in the bundle of it.
    pub license: String,
    /// Who distributes this version, as the vendor part of a package URL: `debian`, `ubuntu`, with the number of
    /// the release where it is known, as in `debian-13`;
    /// `cargo` for a crate of Rust's registry, `homebrew` for a formula; none for upstream's own.
    pub distributor: Option<String>,
    /// The files that hold or gave it: names of the bundle, or `package: archive` for a linked one.
    pub files: Vec<String>,
    /// What its source consists of: (file name, sha256 in hexadecimal).
    pub sources: Vec<(String, String)>,
    /// Changes that were made to the source, by file name of the patch, with sha256.
    pub patches: Vec<(String, String)>,
}

impl Component {
    /// The package URL (<https://github.com/package-url/purl-spec>).
    pub fn purl(&self) -> String {
        let (name, version) = (&self.name, &self.version);
        match self.distributor.as_deref() {
            Some("cargo") => purl("cargo", name, version, None),
            Some("homebrew") => purl("brew", name, version, None),
            Some(distro) => {
                let (vendor, release) = distro.split_once('-').unwrap_or((distro, ""));
                let distro = if release.is_empty() { "" } else { distro };
                let qualifiers = [("arch", "source"), ("distro", distro)];
                purl_with(&format!("deb/{vendor}"), name, version, &qualifiers)
            }
            None => purl("generic", name, version, None),
        }
    }
}

/// The SPDX expression of the whole bundle (PEP 639): all components' licences at once, each once,
/// in sorted order.
///
/// # Errors
/// When a component's licence is not an SPDX expression of known identifiers: none may be unknown.
pub fn license_expression(components: &[Component]) -> Result<String, Error> {
    let mut parts = BTreeSet::new();
    for Component { name, license, .. } in components {
        spdx::Expression::parse(license).map_err(|source| Error::License {
            component: name.clone(),
            license: license.clone(),
            source,
        })?;
        if license.contains(" OR ") {
            parts.insert(format!("({license})"));
        } else {
            parts.extend(license.split(" AND ").map(str::to_owned));
        }
    }
    Ok(expression::all_of(&parts))
}

/// The SOURCES text: where the corresponding source of every component is, under `heading`.
pub fn sources_text(heading: &str, components: &[Component]) -> String {
    let mut text = format!("{}\n", heading.trim_end());
    for component in components {
        let Component { name, version, how, license, .. } = component;
        let _ = write!(text, "\n{name} {version}\n  {}\n  licence: {license}\n", how.words());
        let distributor = component.distributor.as_deref().unwrap_or("upstream");
        let _ = writeln!(text, "  source package: {name} {version} ({distributor})");
        for (what, list) in [("source", &component.sources), ("patch", &component.patches)] {
            for (file, sha256) in list {
                let _ = writeln!(text, "  {what}: {file}\n    sha256:{sha256}");
            }
        }
        for file in &component.files {
            let _ = writeln!(text, "  file: {file}");
        }
    }
    text
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn zlib() -> Component {
        Component {
            name: "zlib".to_owned(),
            version: "1:1.2.13.dfsg-1".to_owned(),
            how: How::StaticallyLinked,
            license: "Zlib".to_owned(),
            distributor: Some("debian".to_owned()),
            files: vec!["zlib1g-dev: libz.a".to_owned()],
            sources: vec![("zlib_1.2.13.dfsg-1.dsc".to_owned(), "ab".repeat(32))],
            patches: vec![],
        }
    }

    #[test]
    fn a_version_is_percent_encoded_in_the_package_url() {
        assert_eq!(zlib().purl(), "pkg:deb/debian/zlib@1%3A1.2.13.dfsg-1?arch=source");
        let crates = Component { distributor: Some("cargo".to_owned()), ..zlib() };
        assert_eq!(crates.purl(), "pkg:cargo/zlib@1%3A1.2.13.dfsg-1");
        let released = Component { distributor: Some("debian-13".to_owned()), ..zlib() };
        let expect = "pkg:deb/debian/zlib@1%3A1.2.13.dfsg-1?arch=source&distro=debian-13";
        assert_eq!(released.purl(), expect);
    }

    #[test]
    fn an_unknown_licence_is_refused_by_name() {
        let odd = Component { license: "see the file".to_owned(), ..zlib() };
        assert_eq!(
            license_expression(&[zlib(), odd]).unwrap_err().to_string(),
            "The component `zlib` has the licence `see the file`, which is no SPDX expression"
        );
        let odd = Component { license: "Zlib-3".to_owned(), ..zlib() };
        assert!(license_expression(&[odd]).is_err());
    }

    #[test]
    fn the_whole_names_each_licence_once_and_keeps_choices_apart() {
        let with = |license: &str| Component { license: license.to_owned(), ..zlib() };
        let parts = [
            with("MIT AND BSD-3-Clause"),
            with("MIT"),
            with("GPL-2.0-or-later OR LGPL-3.0-or-later"),
            with("GPL-3.0-or-later WITH GCC-exception-3.1"),
        ];
        assert_eq!(
            license_expression(&parts).unwrap(),
            "(GPL-2.0-or-later OR LGPL-3.0-or-later) AND BSD-3-Clause AND \
             GPL-3.0-or-later WITH GCC-exception-3.1 AND MIT"
        );
    }

    #[test]
    fn sources_name_version_licence_package_and_hash() {
        let text = sources_text("Sources of the bundle.", &[zlib()]);
        assert!(text.starts_with("Sources of the bundle.\n\nzlib 1:1.2.13.dfsg-1\n"), "{text}");
        assert!(text.contains("  source: zlib_1.2.13.dfsg-1.dsc\n    sha256:abab"), "{text}");
        assert!(text.contains("  file: zlib1g-dev: libz.a\n"), "{text}");
    }
}

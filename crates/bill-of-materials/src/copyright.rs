//! Which licences an image is under, from its packages' own copyright files.
//!
//! Debian's machine-readable format names licences by short names that are close to SPDX's; what is
//! no SPDX licence, and what a package says only in prose, becomes a `LicenseRef-` of its own. The
//! files themselves go into the wheel, where every word of them can be read.
//! See Debian policy's "Machine-readable debian/copyright file", version 1.0.

use std::collections::BTreeSet;

/// How a text begins that is an SPDX expression and no more.
pub const SPDX: &str = "SPDX-License-Identifier: ";

/// The licences that one copyright file names, as SPDX terms. `package` names what is only prose.
pub fn terms(package: &str, copyright: &str) -> BTreeSet<String> {
    if let Some(expression) = copyright.strip_prefix(SPDX) {
        return spdx_terms(package, expression);
    }
    let is_machine_readable = copyright
        .lines()
        .take(20)
        .any(|line| line.starts_with("Format:") && line.contains("copyright-format"));
    if !is_machine_readable {
        return BTreeSet::from([reference(&format!("Debian-{package}"))]);
    }
    let mut terms = BTreeSet::new();
    for line in copyright.lines() {
        if let Some((key, names)) = line.split_once(':')
            && key.eq_ignore_ascii_case("License")
        {
            terms.extend(short_names(names).into_iter().map(|name| term(&name)));
        }
    }
    if terms.is_empty() {
        terms.insert(reference(&format!("Debian-{package}")));
    }
    terms
}

/// The terms of an SPDX expression; what is not among the names that are known here is referred to.
fn spdx_terms(package: &str, expression: &str) -> BTreeSet<String> {
    let is_known = |name: &str| {
        let stem = name.trim_end_matches("-or-later").trim_end_matches("-only");
        let is_gnu = GNU_FAMILIES.iter().any(|(_, family, versions)| {
            let version = stem.strip_prefix(family).and_then(|rest| rest.strip_prefix('-'));
            stem != name && version.is_some_and(|version| versions.contains(&version))
        });
        is_gnu || SPDX_NAMES.iter().any(|(_, spdx)| *spdx == name)
    };
    let mut terms: BTreeSet<String> = short_names(expression)
        .into_iter()
        .map(|name| if is_known(&name) { name } else { reference(&format!("Alpine-{name}")) })
        .collect();
    if terms.is_empty() {
        terms.insert(reference(&format!("Alpine-{package}")));
    }
    terms
}

pub use crate::expression::all_of;

/// The names in `GPL-2+ and (Expat or BSD-3-clause)`; exceptions stay with their licence.
fn short_names(names: &str) -> Vec<String> {
    let spaced = names.replace(['(', ')', ','], " , ");
    let mut found: Vec<Vec<&str>> = vec![Vec::new()];
    for word in spaced.split_whitespace() {
        if matches!(word, "and" | "or" | "and/or" | "," | "AND" | "OR") {
            found.push(Vec::new());
        } else if let Some(name) = found.last_mut() {
            name.push(word);
        }
    }
    found.into_iter().filter(|words| !words.is_empty()).map(|words| words.join(" ")).collect()
}

/// Debian's short names that SPDX spells otherwise.
const SPDX_NAMES: [(&str, &str); 22] = [
    ("expat", "MIT"),
    ("mit", "MIT"),
    ("isc", "ISC"),
    ("zlib", "Zlib"),
    ("x11", "X11"),
    ("curl", "curl"),
    ("artistic", "Artistic-1.0-Perl"),
    ("artistic-2", "Artistic-2.0"),
    ("apache-2.0", "Apache-2.0"),
    ("bsd-2-clause", "BSD-2-Clause"),
    ("bsd-3-clause", "BSD-3-Clause"),
    ("bsd-4-clause", "BSD-4-Clause"),
    ("bsd-4-clause-uc", "BSD-4-Clause-UC"),
    ("bsl-1.0", "BSL-1.0"),
    ("0bsd", "0BSD"),
    ("cc0-1.0", "CC0-1.0"),
    ("cc-by-3.0", "CC-BY-3.0"),
    ("cc-by-4.0", "CC-BY-4.0"),
    ("cc-by-sa-4.0", "CC-BY-SA-4.0"),
    ("mpl-1.1", "MPL-1.1"),
    ("mpl-2.0", "MPL-2.0"),
    ("openldap-2.8", "OLDAP-2.8"),
];

/// The GNU families: Debian's name, its versions in SPDX.
const GNU_FAMILIES: [(&str, &str, &[&str]); 5] = [
    ("agpl", "AGPL", &["3.0"]),
    ("gfdl", "GFDL", &["1.1", "1.2", "1.3"]),
    ("gpl", "GPL", &["1.0", "2.0", "3.0"]),
    ("lgpl", "LGPL", &["2.0", "2.1", "3.0"]),
    ("gfdl-niv", "GFDL", &["1.1", "1.2", "1.3"]),
];

fn term(name: &str) -> String {
    let lower = name.to_ascii_lowercase();
    if let Some((_, spdx)) = SPDX_NAMES.iter().find(|(debian, _)| *debian == lower) {
        return (*spdx).to_owned();
    }
    for (debian, family, versions) in GNU_FAMILIES {
        let Some(version) = lower.strip_prefix(debian).and_then(|rest| rest.strip_prefix('-'))
        else {
            continue;
        };
        let (version, suffix) = match version.strip_suffix('+') {
            Some(version) => (version, "or-later"),
            None => (version, "only"),
        };
        let version =
            if version.contains('.') { version.to_owned() } else { format!("{version}.0") };
        if versions.contains(&version.as_str()) {
            return format!("{family}-{version}-{suffix}");
        }
    }
    reference(&format!("Debian-{name}"))
}

/// A reference to a licence that SPDX has no name for.
fn reference(name: &str) -> String {
    let clean: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
    format!("LicenseRef-{}", clean.trim_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::{all_of as expression, *};

    #[test]
    fn short_names_become_spdx_terms() {
        for (name, spdx) in [
            ("Expat", "MIT"),
            ("GPL-2+", "GPL-2.0-or-later"),
            ("GPL-2", "GPL-2.0-only"),
            ("LGPL-2.1+", "LGPL-2.1-or-later"),
            ("GFDL-NIV-1.3+", "GFDL-1.3-or-later"),
            ("BSD-3-clause", "BSD-3-Clause"),
            ("GPL-2+ with OpenSSL exception", "LicenseRef-Debian-GPL-2--with-OpenSSL-exception"),
            ("GPL-9", "LicenseRef-Debian-GPL-9"),
            ("public-domain", "LicenseRef-Debian-public-domain"),
        ] {
            assert_eq!(term(name), spdx);
        }
    }

    #[test]
    fn every_licence_of_a_file_counts() {
        let copyright = "Format: https://policy.example/copyright-format/1.0/\n\nFiles: *\nLicense: GPL-2+ and (Expat or BSD-3-clause)\n\nFiles: x\nLicense: GPL-2+\n";
        let terms = terms("x", copyright);
        assert_eq!(expression(&terms), "BSD-3-Clause AND GPL-2.0-or-later AND MIT");
    }

    #[test]
    fn an_expression_is_read_by_its_terms() {
        let says = |text: &str| expression(&terms("x", &format!("{SPDX}{text}")));
        assert_eq!(says("GPL-2.0-or-later AND (MIT OR ISC)"), "GPL-2.0-or-later AND ISC AND MIT");
        assert_eq!(says("GPL-2.0"), "LicenseRef-Alpine-GPL-2.0");
        assert_eq!(says(""), "LicenseRef-Alpine-x");
    }

    #[test]
    fn prose_is_referred_to_by_its_package() {
        assert_eq!(expression(&terms("bzip2", "Free to use.")), "LicenseRef-Debian-bzip2");
    }
}

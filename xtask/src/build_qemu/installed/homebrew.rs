//! What a keg of Homebrew says of itself: its folder's name, and the formula that is kept in it.
//!
//! A keg is `Cellar/NAME/VERSION`, the formula `.brew/NAME.rb` in it, licence texts are at its top:
//! <https://docs.brew.sh/Formula-Cookbook>.

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};

/// One installed version of a formula.
#[derive(Debug, PartialEq, Eq)]
pub struct Keg {
    pub folder: PathBuf,
    pub name: String,
    pub version: String,
}

/// What of a formula a bill of materials wants.
#[derive(Debug, PartialEq, Eq)]
pub struct Formula {
    /// The file name of the source, with its SHA-256.
    pub source: (String, String),
    /// An SPDX expression.
    pub license: String,
}

impl Keg {
    /// The keg that a real path lies in.
    pub fn of(path: &Path) -> Option<Self> {
        let parts: Vec<_> = path.components().collect();
        let cellar = parts.iter().position(|part| part.as_os_str() == "Cellar")?;
        let name = parts.get(cellar + 1)?.as_os_str().to_str()?.to_owned();
        let version = parts.get(cellar + 2)?.as_os_str().to_str()?.to_owned();
        Some(Self { folder: parts.iter().take(cellar + 3).collect(), name, version })
    }

    /// Where its formula is kept.
    pub fn formula(&self) -> PathBuf {
        self.folder.join(".brew").join(&self.name).with_extension("rb")
    }
}

/// Reads the part of a formula's Ruby that is data.
pub fn read(formula: &str) -> Result<Formula> {
    let url = word_after(formula, "url ").context("The formula has no url")?;
    let sha256 = word_after(formula, "sha256 ").context("The formula has no sha256")?;
    let name = url.rsplit('/').next().unwrap_or(url).to_owned();
    Ok(Formula { source: (name, sha256.to_owned()), license: license(formula)? })
}

/// The first quoted word of the first line that begins so.
fn word_after<'a>(formula: &'a str, keyword: &str) -> Option<&'a str> {
    let line = formula.lines().find_map(|line| line.trim_start().strip_prefix(keyword))?;
    line.strip_prefix('"')?.split('"').next()
}

/// `license "MIT"`, or a list of these under `all_of:` or `any_of:`, each perhaps `=> { with: "X" }`.
fn license(formula: &str) -> Result<String> {
    let start = formula
        .lines()
        .scan(0, |offset, line| {
            let at = *offset;
            *offset += line.len() + 1;
            Some((at, line))
        })
        .find(|(_, line)| line.trim_start().starts_with("license "));
    let (at, first) = start.context("The formula has no license")?;
    let value = first.trim_start().trim_start_matches("license ").trim();
    if value.starts_with('"') && !value.contains("=>") {
        return Ok(value.trim_matches('"').to_owned());
    }
    let rest = &formula[at..];
    let whole = match value.contains('[') {
        true => rest.split_inclusive(']').next().unwrap_or(rest),
        false => first,
    };
    let joint = match (whole.contains("any_of:"), whole.contains("all_of:")) {
        (true, false) => " OR ",
        (false, true) => " AND ",
        (false, false) if whole.contains("=>") => " AND ",
        _ => bail!("The formula's license is not understood: {}", value),
    };
    let mut terms: Vec<String> = Vec::new();
    let mut before = "";
    for (index, part) in whole.split('"').enumerate() {
        if index % 2 == 0 {
            before = part;
        } else if before.trim_end().ends_with("with:") {
            let term = terms.last_mut().context("An exception without a licence")?;
            *term += &format!(" WITH {part}");
        } else {
            terms.push(part.to_owned());
        }
    }
    Ok(terms.join(joint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keg_is_known_by_its_place() {
        let keg =
            Keg::of(Path::new("/opt/homebrew/Cellar/glib/2.84.3_1/lib/libglib.dylib")).unwrap();
        assert_eq!((keg.name.as_str(), keg.version.as_str()), ("glib", "2.84.3_1"));
        assert_eq!(keg.formula(), Path::new("/opt/homebrew/Cellar/glib/2.84.3_1/.brew/glib.rb"));
        assert_eq!(Keg::of(Path::new("/opt/homebrew/lib/libglib.dylib")), None);
    }

    #[test]
    fn the_data_of_a_formula_is_read() {
        let check = |license: &str, expect: &str| {
            let formula = format!(
                "class Qemu < Formula\n  url \"https://example.org/qemu-10.0.2.tar.xz\"\n  \
                 sha256 \"{}\"\n  {license}\n  head \"x\"\n",
                "ab".repeat(32)
            );
            let read = read(&formula).unwrap();
            assert_eq!(read.source, ("qemu-10.0.2.tar.xz".to_owned(), "ab".repeat(32)));
            assert_eq!(read.license, expect);
        };
        check("license \"GPL-2.0-only\"", "GPL-2.0-only");
        check(
            "license any_of: [\"LGPL-3.0-or-later\", \"GPL-2.0-or-later\"]",
            "LGPL-3.0-or-later OR GPL-2.0-or-later",
        );
        check("license all_of: [\n    \"MIT\",\n    \"Zlib\",\n  ]", "MIT AND Zlib");
        check(
            "license \"GPL-3.0-or-later\" => { with: \"GCC-exception-3.1\" }",
            "GPL-3.0-or-later WITH GCC-exception-3.1",
        );
        check(
            "license all_of: [\"GPL-2.0-or-later\" => { with: \"Bison-exception-2.2\" }, \"MIT\"]",
            "GPL-2.0-or-later WITH Bison-exception-2.2 AND MIT",
        );
    }

    #[test]
    fn a_licence_that_is_no_expression_is_not_guessed() {
        let formula = "  url \"u/x\"\n  sha256 \"a\"\n  license :cannot_represent\n";
        assert!(read(formula).unwrap_err().to_string().contains(":cannot_represent"));
    }
}

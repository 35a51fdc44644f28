//! What a keg of Homebrew says of itself: its folder's name, and the formula that is kept in it.
//!
//! A keg is `Cellar/NAME/VERSION`, the formula `.brew/NAME.rb` in it, licence texts are at its top:
//! <https://docs.brew.sh/Formula-Cookbook>.

use anyhow::{Context as _, Result};
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
    pub fn from_path(path: &Path) -> Option<Self> {
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

/// `license "MIT"`, or a list of these under `all_of:` or `any_of:`, each perhaps with
/// `=> { with: "X" }` behind it, or a list itself in braces.
fn license(formula: &str) -> Result<String> {
    let keyword = "license ";
    let start = formula
        .lines()
        .scan(0, |offset, line| {
            let at = *offset;
            *offset += line.len() + 1;
            Some((at, line))
        })
        .find(|(_, line)| line.trim_start().starts_with(keyword));
    let (at, first) = start.context("The formula has no license")?;
    let value = first.trim_start().trim_start_matches(keyword).trim();
    let rest = formula[at..].trim_start().trim_start_matches(keyword);
    let mut words = Words { rest };
    let term = words.term(0);
    let (expression, _) =
        term.with_context(|| format!("The formula's license is not understood: {value}"))?;
    Ok(expression)
}

/// The part of Ruby that licences are written in, word by word.
struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    /// Takes a word if it is the next.
    fn take(&mut self, word: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(word);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn quoted(&mut self) -> Option<&'a str> {
        let (text, rest) = self.rest.trim_start().strip_prefix('"')?.split_once('"')?;
        self.rest = rest;
        Some(text)
    }

    /// One licence or list, with the word that joins its parts; none when it is something else.
    fn term(&mut self, depth: u32) -> Option<(String, Option<&'static str>)> {
        const MAX_DEPTH: u32 = 8;
        if depth > MAX_DEPTH {
            return None;
        }
        if let Some(name) = self.quoted() {
            if !self.take("=>") {
                return Some((name.to_owned(), None));
            }
            let is_exception = self.take("{") && self.take("with:");
            let exception = self.quoted().filter(|_| is_exception)?;
            return self.take("}").then(|| (format!("{name} WITH {exception}"), None));
        }
        if self.take("{") {
            let term = self.term(depth + 1)?;
            return self.take("}").then_some(term);
        }
        let joint = if self.take("any_of:") {
            "OR"
        } else if self.take("all_of:") {
            "AND"
        } else {
            return None;
        };
        if !self.take("[") {
            return None;
        }
        let mut terms: Vec<String> = Vec::new();
        while !self.take("]") {
            let (term, inner) = self.term(depth + 1)?;
            let is_other = inner.is_some_and(|inner| inner != joint);
            terms.push(if is_other { format!("({term})") } else { term });
            if !self.take(",") && !self.rest.trim_start().starts_with(']') {
                return None;
            }
        }
        let joint_of_many = (terms.len() > 1).then_some(joint);
        (!terms.is_empty()).then(|| (terms.join(&format!(" {joint} ")), joint_of_many))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keg_is_known_by_its_place() {
        let keg = Keg::from_path(Path::new("/opt/homebrew/Cellar/glib/2.84.3_1/lib/libglib.dylib"))
            .unwrap();
        assert_eq!((keg.name.as_str(), keg.version.as_str()), ("glib", "2.84.3_1"));
        assert_eq!(keg.formula(), Path::new("/opt/homebrew/Cellar/glib/2.84.3_1/.brew/glib.rb"));
        assert_eq!(Keg::from_path(Path::new("/opt/homebrew/lib/libglib.dylib")), None);
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
    fn lists_in_lists_keep_their_meaning() {
        let check = |text: &str, expect: Option<&str>| {
            let found = license(&format!("  license {text}\n  head \"x\"\n"));
            assert_eq!(found.ok().as_deref(), expect, "{text}");
        };
        check(
            "all_of: [\n    { any_of: [\"BSD-3-Clause\", \"GPL-2.0-only\"] },\n    \"MIT\",\n  ]",
            Some("(BSD-3-Clause OR GPL-2.0-only) AND MIT"),
        );
        check(
            "any_of: [{ all_of: [\"A\" => { with: \"X\" }, \"B\"] }, { any_of: [\"C\", \"D\"] }]",
            Some("(A WITH X AND B) OR C OR D"),
        );
        check("all_of: [{ any_of: [\"MIT\"] }, \"Zlib\"]", Some("MIT AND Zlib"));
        check("all_of: [\"MIT\" \"Zlib\"]", None);
        check("all_of: [:public_domain, \"MIT\"]", None);
        check("any_of: []", None);
    }

    #[test]
    fn a_licence_that_is_no_expression_is_not_guessed() {
        let formula = "  url \"u/x\"\n  sha256 \"a\"\n  license :cannot_represent\n";
        assert!(read(formula).unwrap_err().to_string().contains(":cannot_represent"));
    }
}

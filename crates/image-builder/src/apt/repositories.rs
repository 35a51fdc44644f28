//! The host's apt sources, read and never changed, in both formats of sources.list(5): one line for
//! each entry, and deb822 stanzas.

use crate::Error;
use fs_err as fs;
use std::path::Path;

/// One repository of a sources list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repository {
    /// `deb`, `deb-src` or both.
    pub types: Vec<String>,
    /// Where mirrors of it are.
    pub uris: Vec<String>,
    pub suites: Vec<String>,
    pub components: Vec<String>,
    /// The keyring file; none when the entry trusts apt's own, or holds the key itself.
    pub signed_by: Option<String>,
}

/// All enabled repositories below `etc_apt` (`/etc/apt`), in apt's order.
pub fn repositories(etc_apt: &Path) -> Result<Vec<Repository>, Error> {
    let mut files = vec![etc_apt.join("sources.list")];
    if let Ok(entries) = fs::read_dir(etc_apt.join("sources.list.d")) {
        let mut parts: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        parts.sort();
        files.extend(parts);
    }
    let mut found = Vec::new();
    for file in files.iter().filter(|file| file.is_file()) {
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => found.extend(parse_one_line(&fs::read_to_string(file)?)),
            Some("sources") => found.extend(parse_deb822(&fs::read_to_string(file)?)),
            // apt ignores every other extension too.
            _ => {}
        }
    }
    Ok(found)
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// `deb [signed-by=KEYRING arch=...] URI SUITE COMPONENT...`
pub(crate) fn parse_one_line(text: &str) -> Vec<Repository> {
    text.lines().filter_map(|line| one_line(line.split('#').next()?.trim())).collect()
}

fn one_line(line: &str) -> Option<Repository> {
    let (kind, rest) = line.split_once(char::is_whitespace)?;
    let (options, rest) = match rest.trim_start().strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let mut rest = rest.split_whitespace().map(str::to_owned);
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    Some(Repository {
        types: vec![kind.to_owned()],
        uris: vec![rest.next()?],
        suites: vec![rest.next()?],
        components: rest.collect(),
        signed_by: signed_by.map(str::to_owned),
    })
}

/// Stanzas of `Field: value`, values continued on indented lines, `#` lines as comments.
pub(crate) fn parse_deb822(text: &str) -> Vec<Repository> {
    let mut found = Vec::new();
    for stanza in text.split("\n\n") {
        let mut fields: Vec<(String, String)> = Vec::new();
        for line in stanza.lines().filter(|line| !line.starts_with('#')) {
            if line.starts_with([' ', '\t']) {
                if let Some((_, value)) = fields.last_mut() {
                    value.push('\n');
                    value.push_str(line.trim());
                }
            } else if let Some((field, value)) = line.split_once(':') {
                fields.push((field.trim().to_ascii_lowercase(), value.trim().to_owned()));
            }
        }
        let field = |name: &str| {
            fields.iter().find(|(field, _)| field == name).map_or("", |(_, value)| value.as_str())
        };
        let is_disabled = matches!(field("enabled").to_ascii_lowercase().as_str(), "no" | "false");
        if fields.is_empty() || is_disabled {
            continue;
        }
        let signed_by = Some(field("signed-by")).filter(|value| value.starts_with('/'));
        found.push(Repository {
            types: words(field("types")),
            uris: words(field("uris")),
            suites: words(field("suites")),
            components: words(field("components")),
            signed_by: signed_by.map(str::to_owned),
        });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEB822: &str = "\
Types: deb
# a comment
URIs: http://mirror.example/debian/
Suites: bookworm
 bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
Signed-By:
 -----BEGIN PGP PUBLIC KEY BLOCK-----

Enabled: no
Types: deb
URIs: http://off.example/debian
Suites: bookworm
Components: main
";

    #[test]
    fn both_formats_are_read() {
        let found = parse_deb822(DEB822);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].suites, ["bookworm", "bookworm-updates"]);
        assert_eq!(
            found[0].signed_by.as_deref(),
            Some("/usr/share/keyrings/debian-archive-keyring.gpg")
        );
        assert_eq!(found[1].signed_by, None);
        let lines = parse_one_line(
            "# deb http://off.example/debian sid main\n\
             deb [arch=amd64 signed-by=/k.gpg] http://m.example/debian bookworm main contrib # x\n\
             deb-src http://m.example/debian bookworm main\n",
        );
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].uris, ["http://m.example/debian"]);
        assert_eq!(lines[0].components, ["main", "contrib"]);
        assert_eq!(lines[0].signed_by.as_deref(), Some("/k.gpg"));
        assert_eq!(lines[1].types, ["deb-src"]);
    }
}

//! Where packages come from: the mirrors that the host's apt uses, and the list that our own gets.
//!
//! No mirror is named in this code. On a host of the same distribution its own are taken; elsewhere
//! the person names one, or the one that mmdebstrap falls back to is used.

use crate::{Error, recipe};
use fs_err as fs;
use std::path::Path;

/// An archive: what a lock calls it and where a mirror of it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// `debian` or `debian-security`.
    pub name: String,
    /// The mirror's root, without a trailing slash.
    pub uri: String,
}

/// The archives of a distribution and their mirrors.
pub fn archives(distribution: recipe::DistributionName) -> Result<Vec<Archive>, Error> {
    let name = distribution.as_str();
    let chosen = std::env::var(format!("QUICKSAND_MIRROR_{}", name.to_uppercase())).ok();
    let entries = host_entries(Path::new("/etc/apt"));
    let fallback = fs::read_to_string("/usr/bin/mmdebstrap").unwrap_or_default();
    select(name, chosen.as_deref(), &entries, &fallback)
        .ok_or_else(|| Error::NoMirror { distribution: name.to_owned() })
}

/// A mirror and its suites, as apt is told about it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    uri: String,
    suites: Vec<String>,
}

fn select(
    name: &str,
    chosen: Option<&str>,
    entries: &[Entry],
    fallback: &str,
) -> Option<Vec<Archive>> {
    let security = format!("{name}-security");
    let clean = |uri: &str| uri.trim_end_matches('/').to_owned();
    // An archive is known by the last part of its URI: mirrors keep the layout of the original.
    let of_host = |wanted: &str| {
        let suffix = format!("/{wanted}");
        entries.iter().map(|entry| clean(&entry.uri)).find(|uri| uri.ends_with(&suffix))
    };
    let of_tool = || {
        let suffix = format!("/{name}'");
        let end = fallback.find(&suffix)? + suffix.len() - 1;
        let start = fallback[..end].rfind('\'')? + 1;
        fallback[start..end].starts_with("http").then(|| fallback[start..end].to_owned())
    };
    let main = chosen.map(clean).or_else(|| of_host(name)).or_else(of_tool)?;
    let beside = || main.strip_suffix(name).map(|root| format!("{root}{security}"));
    let security_uri = match chosen {
        Some(_) => beside(),
        None => of_host(&security).or_else(beside),
    }?;
    Some(vec![
        Archive { name: name.to_owned(), uri: main },
        Archive { name: security, uri: security_uri },
    ])
}

/// Every `deb` entry of the host's lists, in both of apt's formats.
fn host_entries(etc: &Path) -> Vec<Entry> {
    let mut paths = vec![etc.join("sources.list")];
    let parts = fs::read_dir(etc.join("sources.list.d")).into_iter().flatten().flatten();
    let mut parts: Vec<_> = parts.map(|entry| entry.path()).collect();
    parts.sort();
    paths.extend(parts);
    let mut entries = Vec::new();
    for path in paths {
        let Ok(text) = fs::read_to_string(&path) else { continue };
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => entries.extend(one_line(&text)),
            Some("sources") => entries.extend(deb822(&text)),
            _ => {}
        }
    }
    entries
}

/// `deb [options] URI suite component…`
fn one_line(text: &str) -> Vec<Entry> {
    text.lines()
        .filter_map(|line| {
            let line = line.split('#').next()?.trim().strip_prefix("deb ")?.trim_start();
            let line = match line.strip_prefix('[') {
                Some(rest) => rest.split_once(']')?.1,
                None => line,
            };
            let mut words = line.split_whitespace();
            Some(Entry { uri: words.next()?.to_owned(), suites: vec![words.next()?.to_owned()] })
        })
        .collect()
}

/// Stanzas of `Key: value`, see sources.list(5).
fn deb822(text: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    let plain: String = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| format!("{line}\n"))
        .collect();
    for stanza in plain.split("\n\n") {
        let words = |name: &str| -> Vec<String> {
            let mut lines = stanza.lines().skip_while(|line| {
                !line.split_once(':').is_some_and(|(key, _)| key.trim().eq_ignore_ascii_case(name))
            });
            let first =
                lines.next().and_then(|line| line.split_once(':')).map_or("", |(_, value)| value);
            let more = lines.take_while(|line| line.starts_with([' ', '\t']));
            std::iter::once(first)
                .chain(more)
                .flat_map(str::split_whitespace)
                .map(str::to_owned)
                .collect()
        };
        let is_enabled = words("Enabled").first().is_none_or(|value| value != "no");
        if is_enabled && words("Types").iter().any(|kind| kind == "deb") {
            let suites = words("Suites");
            entries
                .extend(words("URIs").into_iter().map(|uri| Entry { uri, suites: suites.clone() }));
        }
    }
    entries
}

/// The list that our apt gets.
pub fn list(archives: &[Archive], distribution: &recipe::Distribution, keyring: &Path) -> String {
    let (suite, components) = (&distribution.suite, distribution.components.join(" "));
    let mut text = String::new();
    for archive in archives {
        let suites = if archive.name.ends_with("-security") {
            vec![format!("{suite}-security")]
        } else {
            vec![suite.clone(), format!("{suite}-updates")]
        };
        for suite in suites {
            let (keyring, uri) = (keyring.display(), &archive.uri);
            text += &format!("deb [signed-by={keyring}] {uri} {suite} {components}\n");
        }
    }
    text
}

/// The sources that apt's own package offers as an example for its distribution: what an image gets
/// as its sources, so that it does not depend on the mirror it was baked from.
pub fn canonical(example: &str, distribution: &recipe::Distribution) -> String {
    let components = distribution.components.join(" ");
    example
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| match line.split_once(':') {
            Some(("Components", _)) => format!("Components: {components}\n"),
            _ => format!("{line}\n"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_of_the_host_are_read() {
        let list = "# deb http://old.test/debian old main\ndeb [signed-by=/k arch=amd64] http://a.test/debian/ bookworm main\ndeb-src http://src.test/debian x main\n";
        assert_eq!(
            one_line(list),
            [Entry {
                uri: "http://a.test/debian/".to_owned(),
                suites: vec!["bookworm".to_owned()]
            }]
        );
        let sources = "Types: deb\n# a comment\nURIs: http://b.test/debian\nSuites: x x-updates\nComponents: main\n\nTypes: deb\nEnabled: no\nURIs: http://off.test/debian\nSuites: x\n\nTypes: deb deb-src\nURIs: http://c.test/debian-security\n http://d.test/debian-security\nSuites: x-security\n";
        let uris: Vec<String> = deb822(sources).into_iter().map(|entry| entry.uri).collect();
        assert_eq!(
            uris,
            [
                "http://b.test/debian",
                "http://c.test/debian-security",
                "http://d.test/debian-security"
            ]
        );
    }

    #[test]
    fn the_host_comes_before_the_tool_and_the_person_before_both() {
        let entry = |uri: &str| Entry { uri: uri.to_owned(), suites: Vec::new() };
        let host = [
            entry("http://ppa.test/x"),
            entry("http://a.test/debian/"),
            entry("http://b.test/debian-security"),
        ];
        let tool = "my $mirror = 'http://tool.test/debian';";
        let uris = |chosen, entries: &[Entry], tool| {
            select("debian", chosen, entries, tool)
                .map(|archives| archives.into_iter().map(|archive| archive.uri).collect::<Vec<_>>())
        };
        assert_eq!(
            uris(None, &host, tool).unwrap(),
            ["http://a.test/debian", "http://b.test/debian-security"]
        );
        assert_eq!(
            uris(None, &host[..1], tool).unwrap(),
            ["http://tool.test/debian", "http://tool.test/debian-security"]
        );
        assert_eq!(
            uris(Some("http://me.test/debian/"), &host, tool).unwrap(),
            ["http://me.test/debian", "http://me.test/debian-security"]
        );
        assert_eq!(uris(None, &[], ""), None);
    }
}

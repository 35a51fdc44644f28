//! Links in Markdown: each leads to a file of the tree and, with `#`, to a heading in it; the book's
//! table of contents names every page.
//!
//! Pure functions on names and texts; what is in the tree is gathered by `tidy`. Links to the world
//! are left alone: a check must not depend on a network.

use std::collections::{BTreeMap, BTreeSet};

/// The book's pages, and the page that lists them.
const BOOK: &str = "docs/src/";
const SUMMARY: &str = "docs/src/SUMMARY.md";

/// What is wrong with the links of these pages (name below the root, text). `exists` tells of files
/// and folders below the root.
pub fn findings(pages: &BTreeMap<String, String>, exists: impl Fn(&str) -> bool) -> Vec<String> {
    let mut findings = vec![];
    for (name, text) in pages {
        for (line, link) in links(text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (path, heading) = link.split_once('#').unwrap_or((&link, ""));
            let target = if path.is_empty() { Some(name.clone()) } else { resolve(name, path) };
            let Some(target) = target else {
                findings.push(format!("{name}:{line}: `{link}` leads out of the tree"));
                continue;
            };
            if !exists(&target) {
                findings.push(format!("{name}:{line}: `{link}` leads to nothing"));
            } else if !heading.is_empty()
                && let Some(text) = pages.get(&target)
                && !headings(text).contains(heading)
            {
                findings.push(format!("{name}:{line}: `{target}` has no heading `#{heading}`"));
            }
        }
    }
    findings.extend(contents(pages));
    findings
}

/// Pages that the table of contents does not name.
fn contents(pages: &BTreeMap<String, String>) -> Vec<String> {
    let Some(summary) = pages.get(SUMMARY) else { return vec![] };
    let named: BTreeSet<String> =
        links(summary).into_iter().filter_map(|(_, link)| resolve(SUMMARY, &link)).collect();
    pages
        .keys()
        .filter(|name| name.starts_with(BOOK) && *name != SUMMARY && !named.contains(*name))
        .map(|name| format!("{SUMMARY}: `{name}` is missing"))
        .collect()
}

/// The targets of `[text](target)`, each with its line, outside of code.
fn links(text: &str) -> Vec<(usize, String)> {
    let mut found = vec![];
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
            continue;
        }
        if in_code {
            continue;
        }
        // What stands between two backticks is code as well, but for the text of a link.
        let mut rest = line;
        while let Some(start) = rest.find("](") {
            let is_code = rest[..start].matches('`').count() % 2 == 1;
            let target = &rest[start + 2..];
            let Some(end) = target.find(')') else { break };
            if !is_code {
                let target = target[..end].split(' ').next().unwrap_or_default();
                found.push((number + 1, target.to_owned()));
            }
            rest = &target[end..];
        }
    }
    found
}

/// A relative path from a page, as a name below the root.
fn resolve(page: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = page.split('/').collect();
    parts.pop();
    for part in path.trim_end_matches('/').split('/') {
        match part {
            "." | "" => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/"))
}

/// The names of a page's headings, as GitHub and mdBook make them.
fn headings(text: &str) -> BTreeSet<String> {
    let is_heading = |line: &&str| line.starts_with('#');
    let name = |line: &str| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    text.lines().filter(is_heading).map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pages: &[(&str, &str)]) -> Vec<String> {
        let pages: BTreeMap<String, String> =
            pages.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        findings(&pages, |path| pages.contains_key(path) || path == "LICENSE")
    }

    #[test]
    fn a_link_leads_somewhere() {
        let good = "# Top of it\n[a](LICENSE) [b](#top-of-it) [c](https://example.com/x) [`d`](x/y.md#z)\n\
                    ```\n[e](nothing)\n```\n`[f](nothing)`\n";
        assert!(check(&[("README.md", good), ("x/y.md", "## Z\n[up](../README.md)")]).is_empty());
        for (bad, expect) in [
            ("[a](nothing.md)", "leads to nothing"),
            ("text [a](LICENSE) and [b](x/none)", "leads to nothing"),
            ("[a](../outside)", "out of the tree"),
            ("[a](#nowhere)", "no heading `#nowhere`"),
        ] {
            let found = check(&[("README.md", bad)]);
            assert!(found.len() == 1 && found[0].contains(expect), "{bad}: {found:?}");
        }
    }

    #[test]
    fn the_contents_name_every_page() {
        let pages = [
            ("docs/src/SUMMARY.md", "- [A](guide/a.md)"),
            ("docs/src/guide/a.md", "# A"),
            ("docs/src/guide/b.md", "# B"),
        ];
        assert_eq!(check(&pages), ["docs/src/SUMMARY.md: `docs/src/guide/b.md` is missing"]);
        assert!(check(&pages[..2]).is_empty());
    }
}

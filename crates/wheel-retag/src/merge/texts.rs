//! The texts of dist-info that a merge changes: METADATA, and the bills and lists that name moved files.

use checksum::uuid;

/// Fields of METADATA that may stand there several times, and of which a wheel for both machines has all.
const LISTS: [&str; 6] = [
    "Requires-Dist",
    "Provides-Extra",
    "Requires-External",
    "Classifier",
    "Project-URL",
    "Dynamic",
];

/// The first wheel's METADATA with what only the second's lists have, with the licence files that come
/// along, and with an expression that covers both halves (PEP 639).
pub(super) fn merged_metadata(first: &str, second: &str, licenses: &[String]) -> String {
    let (head, body) = match first.find("\n\n") {
        Some(end) => first.split_at(end + 1),
        None => (first, ""),
    };
    let mut lines: Vec<String> = head.lines().map(str::to_owned).collect();
    let expression = |text: &str| field(text, "License-Expression");
    if let (Some(own), Some(its)) = (expression(first), expression(second))
        && own != its
        && let Some(line) = lines.iter_mut().find(|line| is_field(line, "License-Expression"))
    {
        *line = format!("License-Expression: ({own}) AND ({its})");
    }
    for line in only_second(first, second) {
        // Extras stand before what they require.
        let name = line.split_once(':').map_or("", |(name, _)| name);
        let last = lines.iter().rposition(|line| is_field(line, name));
        let at = last.map_or(lines.len(), |at| at + 1);
        lines.insert(at, line);
    }
    let last = lines
        .iter()
        .rposition(|line| is_field(line, "License-File"))
        .or_else(|| lines.iter().rposition(|line| is_field(line, "License-Expression")))
        .map_or(lines.len(), |at| at + 1);
    let added = licenses.iter().map(|license| format!("License-File: {license}"));
    lines.splice(last..last, added);
    format!("{}\n{body}", lines.join("\n"))
}

/// The lines of the second's lists that the first does not have.
fn only_second(first: &str, second: &str) -> Vec<String> {
    let head = |text: &str| -> Vec<String> {
        text.lines().take_while(|line| !line.is_empty()).map(str::to_owned).collect()
    };
    let own = head(first);
    let is_list = |line: &String| LISTS.iter().any(|name| is_field(line, name));
    head(second).into_iter().filter(|line| is_list(line) && !own.contains(line)).collect()
}

/// Where the two METADATA differ, in words. Licences are left out: both halves' are in the result.
pub(super) fn unlike_fields(first: &str, second: &str) -> Vec<String> {
    let added = only_second(first, second);
    let mut words: Vec<String> = added
        .iter()
        .map(|line| format!("METADATA of win_arm64 alone has `{line}`, which is taken along"))
        .collect();
    for name in ["Requires-Python", "Summary", "Name", "Version"] {
        let (own, its) = (field(first, name), field(second, name));
        if own != its {
            words.push(format!(
                "METADATA of win_amd64 has {name} `{}`, that of win_arm64 `{}`; the former is kept",
                own.unwrap_or_default(),
                its.unwrap_or_default()
            ));
        }
    }
    words
}

fn is_field(line: &str, name: &str) -> bool {
    line.split_once(':').is_some_and(|(its, _)| its.eq_ignore_ascii_case(name))
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().take_while(|l| !l.is_empty()).find(|line| is_field(line, name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// A list of sources in which each path that a line ends with is the new one, whether it is told from the
/// wheel's top or from the package's folder.
pub(super) fn moved_lines(text: &str, moved: &[(String, String)]) -> String {
    let below = |path: &str| path.split_once('/').map(|(_, rest)| rest.to_owned());
    let pairs: Vec<(String, String)> = moved
        .iter()
        .flat_map(|(from, to)| {
            let inner = below(from).zip(below(to));
            [Some((from.clone(), to.clone())), inner].into_iter().flatten()
        })
        .collect();
    let line = |line: &str| -> String {
        let found = pairs.iter().find_map(|(from, to)| {
            let start = line.strip_suffix(from.as_str())?;
            let is_whole = start.is_empty() || start.ends_with(' ');
            is_whole.then(|| format!("{start}{to}"))
        });
        found.unwrap_or_else(|| line.to_owned())
    };
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// A bill in which each string that is one of the old paths is the new one. Its form is kept; what differs
/// from the bill that it comes from has a serial number of its own (CycloneDX: unique for each bill).
pub(super) fn moved_paths(text: &str, moved: &[(String, String)]) -> String {
    let result = with_moved(text, moved);
    let old = serde_json::from_str::<serde_json::Value>(&result)
        .ok()
        .and_then(|bill| Some(bill.get("serialNumber")?.as_str()?.to_owned()));
    match old.filter(|_| result != text) {
        Some(old) => result.replace(&old, &uuid::urn(uuid::from_content(&result))),
        None => result,
    }
}

fn with_moved(text: &str, moved: &[(String, String)]) -> String {
    let quoted = |path: &str| serde_json::Value::from(path).to_string();
    let mut result = text.to_owned();
    // A new path is never an old one: only the latter lie directly in the folder of the binaries.
    for (from, to) in moved {
        result = result.replace(&quoted(from), &quoted(to));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_names_what_comes_along() {
        let first = "Metadata-Version: 2.4\nName: q\nLicense-Expression: MIT\nLicense-File: A\n\
                     Requires-Python: >=3.10\n\nLicense-File: in the body\n";
        let with = |expression: &str| first.replace("MIT", expression);
        let license = ["arm64/A".to_owned()];
        let expect = |expression: &str| {
            with(expression).replacen(
                "License-File: A\n",
                "License-File: A\nLicense-File: arm64/A\n",
                1,
            )
        };
        assert_eq!(merged_metadata(first, first, &[]), first);
        assert_eq!(merged_metadata(first, first, &license), expect("MIT"));
        let other = with("Zlib OR MIT");
        assert_eq!(merged_metadata(first, &other, &license), expect("(MIT) AND (Zlib OR MIT)"));
        assert_eq!(
            merged_metadata("Name: q\n", first, &license),
            "Name: q\nLicense-File: arm64/A\n"
        );
    }

    #[test]
    fn a_requirement_of_one_half_is_kept_and_reported() {
        let first = "Name: q\nRequires-Python: >=3.10\nRequires-Dist: a\n\nbody\n";
        let second =
            "Name: q\nRequires-Python: >=3.12\nRequires-Dist: a\nRequires-Dist: b\n\nbody\n";
        let merged = merged_metadata(first, second, &[]);
        assert_eq!(merged, first.replace("Dist: a\n", "Dist: a\nRequires-Dist: b\n"));
        let unlike = unlike_fields(first, second);
        assert_eq!(unlike.len(), 2, "{unlike:?}");
        assert!(unlike[0].contains("`Requires-Dist: b`") && unlike[1].contains(">=3.12"));
        assert!(unlike_fields(first, first).is_empty());
    }

    #[test]
    fn a_changed_bill_is_another_bill() {
        let moved = [("q/bin/a".to_owned(), "q/bin/arm64/a".to_owned())];
        let bill = |path: &str| format!("{{\"serialNumber\": \"urn:uuid:1\", \"v\": \"{path}\"}}");
        let new = moved_paths(&bill("q/bin/a"), &moved);
        assert!(!new.contains("urn:uuid:1\"") && new.contains("q/bin/arm64/a"), "{new}");
        assert_eq!(new, moved_paths(&bill("q/bin/a"), &moved));
        assert_eq!(moved_paths(&bill("q/bin/b"), &moved), bill("q/bin/b"));
    }

    #[test]
    fn lists_of_sources_follow_their_files() {
        let moved = [("q/bin/a".to_owned(), "q/bin/arm64/a".to_owned())];
        let text = "zlib 1\n  file: q/bin/a\n  file: bin/a\n  file: bin/ab\n  xbin/a\n";
        let expect =
            "zlib 1\n  file: q/bin/arm64/a\n  file: bin/arm64/a\n  file: bin/ab\n  xbin/a\n";
        assert_eq!(moved_lines(text, &moved), expect);
    }

    #[test]
    fn only_whole_strings_are_paths() {
        let moved = [("q/bin/a".to_owned(), "q/bin/arm64/a".to_owned())];
        assert_eq!(
            moved_paths(
                "{\"v\": \"q/bin/a\", \"w\": \"q/bin/ab\", \"x\": \"see q/bin/a\"}",
                &moved
            ),
            "{\"v\": \"q/bin/arm64/a\", \"w\": \"q/bin/ab\", \"x\": \"see q/bin/a\"}"
        );
    }
}

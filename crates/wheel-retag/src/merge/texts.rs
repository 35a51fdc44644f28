//! The texts of dist-info that a merge changes: METADATA, and the bills that name moved files.

/// The first wheel's METADATA with the licence files that come along, and with an expression that
/// covers both halves (PEP 639).
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
    let last = lines
        .iter()
        .rposition(|line| is_field(line, "License-File"))
        .or_else(|| lines.iter().rposition(|line| is_field(line, "License-Expression")))
        .map_or(lines.len(), |at| at + 1);
    let added = licenses.iter().map(|license| format!("License-File: {license}"));
    lines.splice(last..last, added);
    format!("{}\n{body}", lines.join("\n"))
}

fn is_field(line: &str, name: &str) -> bool {
    line.split_once(':').is_some_and(|(its, _)| its.eq_ignore_ascii_case(name))
}

fn field(text: &str, name: &str) -> Option<String> {
    let line = text.lines().take_while(|l| !l.is_empty()).find(|line| is_field(line, name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// A JSON document in which each string that is one of the old paths is the new one. Its form is
/// kept.
pub(super) fn moved_paths(text: &str, moved: &[(String, String)]) -> String {
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

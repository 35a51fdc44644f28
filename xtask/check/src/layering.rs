//! Who may depend on whom: the table of ARCHITECTURE.md as data, checked against cargo's metadata.

use cargo_metadata::{DependencyKind, Metadata};

/// Each crate of ours with those of ours that it may depend on. Development dependencies are free:
/// a test may look down at anything.
const ALLOWED: &[(&str, &[&str])] = &[
    ("host-platform", &[]),
    ("package-layout", &[]),
    ("agent-protocol", &["spelling"]),
    ("bill-of-materials", &["checksum"]),
    ("cache-key", &[]),
    ("disk-formats", &[]),
    ("checksum", &[]),
    ("spelling", &[]),
    ("binary-bundler", &["host-platform", "package-layout"]),
    ("wheel-retag", &["host-platform", "package-layout", "checksum"]),
    ("runtime-locator", &["host-platform", "package-layout", "checksum", "spelling"]),
    ("wheel-installer", &["host-platform", "package-layout", "runtime-locator", "wheel-retag"]),
    ("jail", &[]),
    ("share-server", &[]),
    (
        "image-builder",
        &[
            "host-platform",
            "package-layout",
            "bill-of-materials",
            "cache-key",
            "disk-formats",
            "checksum",
            "spelling",
            "wheel-retag",
            "binary-bundler",
        ],
    ),
    (
        "sandbox",
        &[
            "host-platform",
            "checksum",
            "package-layout",
            "agent-protocol",
            "runtime-locator",
            "disk-formats",
            "spelling",
            "jail",
            "share-server",
        ],
    ),
    // In the place of the crate of this name, for tokio.
    ("parking_lot", &[]),
    ("guest-agent", &["agent-protocol", "spelling"]),
    (
        "quicksand-cli",
        &[
            "host-platform",
            "package-layout",
            "agent-protocol",
            "runtime-locator",
            "sandbox",
            "spelling",
            "wheel-installer",
            // `quicksand dev` bakes images where this repository is not.
            "image-builder",
            "image-inspect",
            "image-prover",
        ],
    ),
    (
        "quicksand-python",
        &[
            "host-platform",
            "package-layout",
            "agent-protocol",
            "runtime-locator",
            "sandbox",
            "wheel-installer",
        ],
    ),
    (
        "xtask",
        &[
            "host-platform",
            "checksum",
            "package-layout",
            "bill-of-materials",
            "cache-key",
            "disk-formats",
            "binary-bundler",
            "wheel-retag",
            "corresponding-source",
            "image-builder",
            "runtime-locator",
            "wheel-audit",
            "image-inspect",
            "image-prover",
            "qemu-builder",
            "runtime-builder",
            "release-plan",
            "xtask-base",
            "xtask-check",
            "xtask-host",
            "xtask-trials",
        ],
    ),
    ("wheel-audit", &["binary-bundler", "package-layout", "wheel-retag", "xtask-base"]),
    (
        "qemu-builder",
        &[
            "host-platform",
            "checksum",
            "package-layout",
            "bill-of-materials",
            "cache-key",
            "binary-bundler",
            "wheel-audit",
            "wheel-retag",
            "image-builder",
            "xtask-base",
            "xtask-host",
        ],
    ),
    (
        "runtime-builder",
        &[
            "host-platform",
            "checksum",
            "package-layout",
            "bill-of-materials",
            "cache-key",
            "binary-bundler",
            "wheel-audit",
            "wheel-retag",
            "image-builder",
            "qemu-builder",
            "xtask-base",
            "xtask-host",
        ],
    ),
    (
        "corresponding-source",
        &[
            "host-platform",
            "checksum",
            "package-layout",
            "bill-of-materials",
            "wheel-retag",
            "image-builder",
            "xtask-base",
            "xtask-host",
        ],
    ),
    (
        "release-plan",
        &[
            "host-platform",
            "checksum",
            "package-layout",
            "wheel-audit",
            "wheel-retag",
            "qemu-builder",
            "runtime-builder",
        ],
    ),
    // In these two what bakes images and what finds and runs them meet.
    (
        "image-inspect",
        &[
            "package-layout",
            "bill-of-materials",
            "disk-formats",
            "wheel-retag",
            "runtime-locator",
            "image-builder",
        ],
    ),
    ("image-prover", &["host-platform", "runtime-locator", "image-builder", "sandbox"]),
    (
        "xtask-trials",
        &[
            "host-platform",
            "package-layout",
            "cache-key",
            "wheel-retag",
            "image-builder",
            "qemu-builder",
            "runtime-builder",
            "xtask-base",
            "xtask-host",
        ],
    ),
    ("xtask-host", &["host-platform", "image-builder", "xtask-base"]),
    ("xtask-base", &["host-platform", "cache-key"]),
    ("xtask-check", &["xtask-base"]),
    ("xtask-front", &[]),
    ("fuzz-driver", &[]),
    (
        "vm-tests",
        &[
            "checksum",
            "host-platform",
            "package-layout",
            "agent-protocol",
            "runtime-locator",
            "sandbox",
        ],
    ),
    (
        "quicksand-bench",
        &[
            "host-platform",
            "package-layout",
            "agent-protocol",
            "runtime-locator",
            "disk-formats",
            "image-builder",
            "sandbox",
            "wheel-retag",
        ],
    ),
];

/// Libraries that only one place may know, so that replacing them is a change in one place.
const OWNED: &[(&str, &[&str])] = &[
    ("goblin", &["binary-bundler"]),
    ("landlock", &["jail"]),
    ("seccompiler", &["jail"]),
    ("zip", &["wheel-retag"]),
    ("pyo3", &["quicksand-python"]),
    ("clap", &["xtask", "xtask-trials", "qemu-builder", "quicksand-cli", "quicksand-bench"]),
];

/// What breaks the layering.
pub fn findings(metadata: &Metadata) -> Vec<String> {
    let edges: Vec<(String, String)> = metadata
        .workspace_packages()
        .iter()
        .flat_map(|package| {
            let used =
                package.dependencies.iter().filter(|d| d.kind != DependencyKind::Development);
            used.map(|d| (package.name.to_string(), d.name.clone())).collect::<Vec<_>>()
        })
        .collect();
    let members: Vec<String> =
        metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();
    broken(&members, &edges)
}

fn broken(members: &[String], edges: &[(String, String)]) -> Vec<String> {
    let mut findings = vec![];
    for member in members {
        if !ALLOWED.iter().any(|(name, _)| name == member) {
            findings.push(format!("`{member}` has no row in the layering table of {}", file!()));
        }
    }
    for (from, to) in edges {
        if members.contains(to) {
            let allowed =
                ALLOWED.iter().find(|(name, _)| name == from).map_or(&[][..], |row| row.1);
            if !allowed.contains(&to.as_str()) {
                findings.push(format!("`{from}` must not depend on `{to}`"));
            }
        }
        if let Some((_, owners)) = OWNED.iter().find(|(library, _)| library == to)
            && !owners.contains(&from.as_str())
        {
            findings.push(format!("`{from}` must not use `{to}`: it belongs to {owners:?}"));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(members: &[&str], edges: &[(&str, &str)]) -> Vec<String> {
        let members: Vec<String> = members.iter().map(ToString::to_string).collect();
        let edges: Vec<_> = edges.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        broken(&members, &edges)
    }

    #[test]
    fn down_is_allowed_and_up_is_not() {
        let members = ["sandbox", "runtime-locator", "image-builder"];
        assert!(check(&members, &[("sandbox", "runtime-locator")]).is_empty());
        assert_eq!(check(&members, &[("image-builder", "sandbox")]).len(), 1);
        assert_eq!(check(&members, &[("runtime-locator", "sandbox")]).len(), 1);
    }

    #[test]
    fn owned_libraries_stay_with_their_owner() {
        assert!(check(&["wheel-retag"], &[("wheel-retag", "zip")]).is_empty());
        assert_eq!(check(&["sandbox"], &[("sandbox", "zip")]).len(), 1);
    }

    #[test]
    fn a_new_crate_needs_a_row() {
        assert_eq!(check(&["attic"], &[]).len(), 1);
    }
}

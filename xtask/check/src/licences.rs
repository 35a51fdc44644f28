//! Licences and sources of dependencies, by the lists of `deny.toml`, which `cargo deny` reads too.
//!
//! Differences from cargo-deny: only `[licenses] allow` and `[sources]` are read, because building
//! cargo-deny takes longer than building everything of ours. Where it is installed, its check of
//! advisories runs as well.

use anyhow::{Context as _, Result};
use cargo_metadata::Metadata;
use fs_err as fs;
use serde::Deserialize;
use std::path::Path;
use xtask_base::{context::Context, ui::Step};

/// What `deny.toml` allows.
#[derive(Deserialize)]
pub struct Policy {
    licenses: Licences,
}

#[derive(Deserialize)]
struct Licences {
    allow: Vec<String>,
}

impl Policy {
    /// Reads `deny.toml`.
    pub fn read(path: &Path) -> Result<Self> {
        toml::from_str(&fs::read_to_string(path)?)
            .with_context(|| format!("Failed to parse `{}`", path.display()))
    }

    fn allows(&self, expression: &str) -> Result<bool> {
        // Old crates write `MIT/Apache-2.0`; lax parsing reads it as OR.
        let expression = spdx::Expression::parse_mode(expression, spdx::ParseMode::LAX)?;
        Ok(expression.evaluate(|requirement| {
            let name = requirement.to_string();
            self.licenses.allow.contains(&name)
        }))
    }
}

/// Dependencies whose licence is not on the list or that do not come from the registry.
pub fn findings(metadata: &Metadata, policy: &Policy) -> Vec<String> {
    let mut findings = vec![];
    for package in &metadata.packages {
        let name = format!("{} {}", package.name, package.version);
        match &package.source {
            None if metadata.workspace_members.contains(&package.id) => {}
            Some(source) if source.is_crates_io() => {}
            _ => findings.push(format!("`{name}` comes from outside the crate registry")),
        }
        match package.license.as_deref().map(|licence| policy.allows(licence)) {
            Some(Ok(true)) => {}
            Some(Ok(false)) => findings.push(format!(
                "the licence of `{name}`, `{}`, is not on the list of deny.toml",
                package.license.as_deref().unwrap_or_default()
            )),
            Some(Err(error)) => {
                findings.push(format!("the licence of `{name}` is unreadable: {error}"))
            }
            None => findings.push(format!("`{name}` states no licence")),
        }
    }
    findings
}

/// Known vulnerabilities, where cargo-deny and its database are to be had.
pub fn advisories(context: &Context, step: &Step) -> Result<()> {
    let is_installed = duct::cmd!("cargo", "deny", "--version")
        .stdout_null()
        .stderr_null()
        .unchecked()
        .run()
        .is_ok_and(|output| output.status.success());
    if context.offline || !is_installed {
        context.ui.line("    advisories: not checked (cargo-deny is not installed or --offline)");
        return Ok(());
    }
    step.run(duct::cmd!("cargo", "deny", "check", "advisories").dir(&context.root))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, expect: bool) {
        let policy = Policy {
            licenses: Licences { allow: vec!["MIT".into(), "Apache-2.0".into(), "ISC".into()] },
        };
        assert_eq!(policy.allows(expression).unwrap(), expect, "{expression}");
    }

    #[test]
    fn expressions_are_evaluated() {
        check("MIT", true);
        check("MIT/Apache-2.0", true);
        check("GPL-3.0-only OR MIT", true);
        check("GPL-3.0-only AND MIT", false);
        check("(MIT OR GPL-2.0-only) AND ISC", true);
    }
}

//! From what binaries say of themselves to the lowest platform tag that is true of all of them, and
//! whether the tags that a wheel claims are true.
//!
//! Pure: facts in, verdict out. Owns the reasoning, with a file and symbol behind each limit. Must
//! not read files (`inspect`) nor know what a wheel is: the caller gives binaries and claims.
//!
//! Differences from auditwheel: macOS and Windows too; `lowest` may lie between two named platforms
//! (glibc 2.25 is enough for `manylinux_2_25`, though the next named one is 2_26); symbol versions of
//! libraries that the wheel itself carries do not count; a library counts as carried only where the
//! loader finds it.

mod linux;
mod macos;
mod windows;

use crate::inspect::{Binary, Format};
use serde::Serialize;
use std::path::PathBuf;

/// What holds of all files of one system and machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// `linux`, `macos` or `windows`.
    pub system: &'static str,
    /// The machine as the system's tags call it.
    pub arch: String,
    /// How many binaries it holds of.
    pub n_binaries: usize,
    /// The lowest tag that names a real platform, for example `manylinux_2_28_x86_64`.
    pub tag: String,
    /// The lowest tag that is true, named platform or not, for example `manylinux_2_27_x86_64`.
    pub lowest: String,
    /// What forbids lower tags, the strongest first.
    pub limits: Vec<Limit>,
    /// What no tag but the bare one of the system allows.
    pub problems: Vec<Problem>,
    /// What is allowed and yet wrong.
    pub warnings: Vec<String>,
}

/// What one file asks of the platform, and the tag that this forbids to go below.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Limit {
    /// The lowest tag that this limit leaves.
    pub tag: String,
    /// The file.
    pub file: PathBuf,
    /// The library or load command behind it.
    pub source: String,
    /// A symbol that is bound to the version; empty when there is none.
    pub symbol: String,
    /// The version that is asked for.
    pub version: String,
    /// The loader goes on without it.
    pub is_weak: bool,
}

/// What a platform does not have.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// What it asks for: a library, a symbol version, a symbol.
    pub needs: String,
    /// Why no platform gives it.
    pub reason: String,
}

/// What was found about one wheel, tree or file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What was judged.
    pub subject: String,
    /// Whether every claim is true; a subject without claims is true when it has no problem.
    pub is_true: bool,
    /// The platform tags that the subject claims; empty for a tree or a single file.
    pub claimed: Vec<String>,
    /// What the claims should be at least: one tag for each machine.
    pub tags: Vec<String>,
    /// Claims that are false, with the reason.
    pub lies: Vec<Lie>,
    /// One for each system and machine.
    pub verdicts: Vec<Verdict>,
}

/// A claim that the files do not bear out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Lie {
    /// The platform tag that is claimed.
    pub claim: String,
    /// What is true instead, if anything is.
    pub truth: Option<String>,
    /// The file and symbol that forbid it.
    pub reason: String,
}

/// Judges the binaries of one wheel, tree or file. `claimed` are the platform tags of the wheel.
pub fn judge(subject: &str, binaries: &[Binary], claimed: &[String]) -> Report {
    let elves = linux::select(binaries);
    let machos = binaries.iter().filter_map(|binary| match &binary.format {
        Format::MachO(macho) => Some((&binary.path, macho)),
        _ => None,
    });
    let pes = binaries.iter().filter_map(|binary| match &binary.format {
        Format::Pe(pe) => Some((&binary.path, pe)),
        _ => None,
    });
    let mut verdicts = linux::judge(&elves, claimed);
    verdicts.extend(macos::judge(&machos.collect::<Vec<_>>()));
    verdicts.extend(windows::judge(&pes.collect::<Vec<_>>()));
    let mut lies: Vec<Lie> = Vec::new();
    if !binaries.is_empty() {
        lies.extend(claimed.iter().filter_map(|claim| check_claim(claim, &verdicts, binaries)));
    }
    let has_problem = verdicts.iter().any(|verdict| !verdict.problems.is_empty());
    let tags = match verdicts.is_empty() {
        true => vec!["any".to_owned()],
        false => verdicts.iter().map(|verdict| verdict.tag.clone()).collect(),
    };
    Report {
        subject: subject.to_owned(),
        is_true: lies.is_empty() && (!claimed.is_empty() || !has_problem),
        claimed: claimed.to_vec(),
        tags,
        lies,
        verdicts,
    }
}

fn check_claim(claim: &str, verdicts: &[Verdict], binaries: &[Binary]) -> Option<Lie> {
    let lie = |truth: Option<&str>, reason: String| {
        Some(Lie { claim: claim.to_owned(), truth: truth.map(str::to_owned), reason })
    };
    if claim == "any" {
        // Start programs for Windows travel in pure wheels; a library of Python's cannot.
        let first = binaries.iter().find(|binary| is_extension(binary))?;
        let path = first.path.display();
        let truth = verdicts.first().map(|verdict| verdict.tag.as_str());
        return lie(truth, format!("`{path}` is a library for one platform"));
    }
    let (system, machine) = match split_claim(claim) {
        Some(parts) => parts,
        None => return lie(None, "the tag is none that is known".to_owned()),
    };
    let matching: Vec<&Verdict> = verdicts
        .iter()
        .filter(|verdict| verdict.system == system && machine.covers(&verdict.arch))
        .collect();
    let Some(verdict) = matching.first() else {
        let found: Vec<&str> = verdicts.iter().map(|verdict| verdict.tag.as_str()).collect();
        return lie(
            verdicts.first().map(|verdict| verdict.tag.as_str()),
            format!("no binary is for it; the binaries are for {}", found.join(", ")),
        );
    };
    match system {
        "linux" => {
            linux::check_claim(claim, verdict).and_then(|reason| lie(Some(&verdict.tag), reason))
        }
        "macos" => macos::check_claim(claim, &matching, verdicts)
            .and_then(|(truth, reason)| lie(Some(&truth), reason)),
        _ => None,
    }
}

/// A library by name: what an interpreter would import or a loader load.
fn is_extension(binary: &Binary) -> bool {
    let name = binary.path.file_name().unwrap_or_default().to_string_lossy();
    name.contains(".so") || name.ends_with(".pyd") || name.ends_with(".dylib")
}

/// The machines that a tag stands for.
pub(crate) enum Machine<'a> {
    One(&'a str),
    Several(&'static [&'static str]),
}

impl Machine<'_> {
    fn covers(&self, arch: &str) -> bool {
        match self {
            Machine::One(one) => *one == arch,
            Machine::Several(several) => several.contains(&arch),
        }
    }
}

/// System and machine of a platform tag (PEP 425, PEP 600, PEP 656).
fn split_claim(claim: &str) -> Option<(&'static str, Machine<'_>)> {
    if let Some(rest) = claim.strip_prefix("macosx_") {
        let machine = rest.splitn(3, '_').nth(2)?;
        return Some((
            "macos",
            match machine {
                "universal2" => Machine::Several(&["arm64", "x86_64"]),
                "intel" | "fat64" | "universal" | "fat3" => Machine::Several(&["x86_64"]),
                one => Machine::One(one),
            },
        ));
    }
    match claim {
        "win_amd64" => return Some(("windows", Machine::One("amd64"))),
        "win_arm64" => return Some(("windows", Machine::One("arm64"))),
        "win32" => return Some(("windows", Machine::One("x86"))),
        _ => {}
    }
    if let Some(arch) = claim.strip_prefix("linux_") {
        return Some(("linux", Machine::One(arch)));
    }
    for old in ["manylinux1_", "manylinux2010_", "manylinux2014_"] {
        if let Some(arch) = claim.strip_prefix(old) {
            return Some(("linux", Machine::One(arch)));
        }
    }
    let rest = claim.strip_prefix("manylinux_").or_else(|| claim.strip_prefix("musllinux_"))?;
    Some(("linux", Machine::One(rest.splitn(3, '_').nth(2)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_are_taken_apart() {
        let check = |claim: &str, system: &str, arch: &str| {
            let (found, machine) = split_claim(claim).unwrap();
            assert_eq!(found, system, "{claim}");
            assert!(machine.covers(arch), "{claim}");
        };
        check("manylinux_2_17_x86_64", "linux", "x86_64");
        check("manylinux2014_aarch64", "linux", "aarch64");
        check("musllinux_1_2_x86_64", "linux", "x86_64");
        check("linux_x86_64", "linux", "x86_64");
        check("macosx_10_9_universal2", "macos", "arm64");
        check("macosx_11_0_arm64", "macos", "arm64");
        check("macosx_10_13_x86_64", "macos", "x86_64");
        check("win_arm64", "windows", "arm64");
        assert!(split_claim("emscripten_3_1_wasm32").is_none());
    }

    #[test]
    fn a_subject_without_binaries_is_for_any_platform() {
        let report = judge("a", &[], &["any".to_owned()]);
        assert!(report.is_true);
        assert_eq!(report.tags, ["any"]);
    }
}

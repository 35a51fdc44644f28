//! From what binaries say of themselves to the lowest platform tag that is true of all of them, and
//! whether the tags that a wheel claims are true.
//!
//! Pure: facts in, verdict out. Owns the reasoning, with a file and symbol behind each limit. Must
//! not read files (`inspect`) nor know what a wheel is: the caller gives binaries and claims.
//!
//! Differences from auditwheel: macOS, Windows, Android and iOS too; `lowest` may lie between two named
//! platforms (glibc 2.25 is enough for `manylinux_2_25`, though the next named one is 2_26); symbol
//! versions of libraries that the wheel itself carries do not count; a library counts as carried only
//! where the loader finds it, in each process that loads the file.

mod foreign;
mod linux;
mod macos;
mod place;
mod reach;
mod windows;

use crate::inspect::{Binary, Format};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What holds of all files of one system and machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// `linux`, `macos`, `windows`, `android` or `ios`.
    pub system: &'static str,
    /// The machine as the system's tags call it.
    pub arch: String,
    /// How many binaries it holds of.
    pub n_binaries: usize,
    /// The binaries.
    #[serde(skip)]
    pub files: Vec<PathBuf>,
    /// The lowest tag that names a real platform, for example `manylinux_2_28_x86_64`.
    pub tag: String,
    /// The lowest tag that is true, named platform or not, for example `manylinux_2_27_x86_64`.
    pub lowest: String,
    /// The C library that the files are linked with, on Linux; none when no file needs one.
    pub libc: Option<&'static str>,
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
    /// Claims for platforms whose systems this audit does not know: neither true nor false.
    pub unjudged: Vec<Unjudged>,
    /// What is wrong with the subject whatever its machine, with the files that could not be read.
    pub warnings: Vec<String>,
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

/// A claim that was not judged, or not in full.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unjudged {
    /// The platform tag that is claimed.
    pub claim: String,
    /// What was not looked at.
    pub reason: String,
}

impl Report {
    /// Notes a file that has the magic of a binary and could not be read. Among fixtures of tests that is
    /// usual and a warning; a module that Python is to import makes the claims false.
    pub fn note_damage(&mut self, file: &Path, error: &crate::Error) {
        let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
        let reason = format!("`{}` is damaged and was not judged: {cause}", file.display());
        if is_module_of_python(file) {
            let lies = self.claimed.iter().map(|claim| Lie {
                claim: claim.clone(),
                truth: None,
                reason: reason.clone(),
            });
            self.lies.extend(lies);
            self.is_true = false;
        }
        self.warnings.push(reason);
    }
}

/// Judges the binaries of one wheel, tree or file. `claimed` are the platform tags of the wheel.
pub fn judge(subject: &str, binaries: &[Binary], claimed: &[String]) -> Report {
    if !claimed.is_empty() && claimed.iter().all(|claim| foreign::is_foreign(claim)) {
        return foreign::judge(subject, binaries, claimed);
    }
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
    let (known, foreign): (Vec<&String>, Vec<&String>) =
        claimed.iter().partition(|claim| !foreign::is_foreign(claim));
    let mut lies: Vec<Lie> = Vec::new();
    let mut warnings: Vec<String> = Vec::new();
    if !binaries.is_empty() {
        for claim in &known {
            let lie = check_claim(claim, &verdicts, binaries)
                .or_else(|| check_other_machines(claim, claimed, &verdicts, &mut warnings));
            lies.extend(lie);
        }
    }
    warnings.sort();
    warnings.dedup();
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
        unjudged: foreign.into_iter().map(|claim| foreign::unjudged(claim)).collect(),
        warnings,
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
        None => return lie(None, "the tag is not known".to_owned()),
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
        _ => windows::check_claim(verdict, verdicts).and_then(|reason| lie(None, reason)),
    }
}

/// Files for machines that no claim names cannot be of use where the wheel is installed. Some wheels
/// carry them on purpose, to be sent elsewhere; they are held to what the claim says of the system.
fn check_other_machines(
    claim: &str,
    claimed: &[String],
    verdicts: &[Verdict],
    warnings: &mut Vec<String>,
) -> Option<Lie> {
    let (system, _) = split_claim(claim).filter(|(system, _)| *system == "linux")?;
    let is_claimed = |arch: &str| {
        let machines = claimed.iter().filter_map(|claim| split_claim(claim));
        machines.into_iter().any(|(other, machine)| other == system && machine.covers(arch))
    };
    let others = verdicts.iter().filter(|v| v.system == system && !is_claimed(&v.arch));
    let mut lie = None;
    for verdict in others {
        if let Some(reason) = linux::check_other_machine(claim, verdict) {
            let truth = None;
            lie = lie.or(Some(Lie { claim: claim.to_owned(), truth, reason }));
        }
        for file in &verdict.files {
            warnings.push(format!(
                "`{}` is for {}, which no tag of the wheel names",
                file.display(),
                verdict.arch
            ));
        }
    }
    lie
}

/// A module by a name that interpreters import and that is usual for nothing else.
fn is_module_of_python(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_fixture = path.components().any(|part| {
        matches!(part.as_os_str().to_str(), Some("test" | "tests" | "testing" | "fixtures"))
    });
    let is_named_so = name.ends_with(".pyd")
        || (name.ends_with(".so")
            && [".cpython-", ".abi3.", ".pypy"].iter().any(|p| name.contains(p)));
    is_named_so && !is_fixture
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
            // The versions of 32-bit Arm have one number in ELF; the tags tell them apart.
            Machine::One("armv6l" | "armv8l") => arch == "armv7l",
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

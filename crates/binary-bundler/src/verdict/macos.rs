//! macOS: the oldest system by load commands, for each machine and for universal files.
//!
//! The tags are those that installers try ("packaging", `mac_platforms`): up to 10.16 with the minor
//! version, from macOS 11 on with the minor version 0 only. A file for 11.3 therefore needs
//! `macosx_12_0`.

use super::{Limit, Problem, Verdict};
use crate::inspect::{MachO, MachOSlice, SystemVersion};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

const ARCHES: [&str; 2] = ["arm64", "x86_64"];

/// macOS runs on arm64 from here on, and a tag for less says nothing more.
const FIRST_ARM64: SystemVersion = SystemVersion { major: 11, minor: 0 };
/// The first 64-bit Intel system that Python's tags name.
const FIRST_X86_64: SystemVersion = SystemVersion { major: 10, minor: 4 };

pub(super) fn judge(files: &[(&PathBuf, &MachO)]) -> Vec<Verdict> {
    let names: BTreeSet<String> = files
        .iter()
        .filter_map(|(path, _)| Some(path.file_name()?.to_string_lossy().into_owned()))
        .collect();
    ARCHES.iter().filter_map(|arch| judge_arch(arch, files, &names)).collect()
}

fn judge_arch(
    arch: &str,
    files: &[(&PathBuf, &MachO)],
    names: &BTreeSet<String>,
) -> Option<Verdict> {
    let slices: Vec<(&Path, &MachOSlice)> = files
        .iter()
        .flat_map(|(path, macho)| macho.slices.iter().map(move |slice| (path.as_path(), slice)))
        .filter(|(_, slice)| slice.arch == arch)
        .collect();
    if slices.is_empty() {
        return None;
    }
    let floor = if arch == "arm64" { FIRST_ARM64 } else { FIRST_X86_64 };
    let mut lowest = floor;
    let mut verdict = Verdict {
        system: "macos",
        arch: arch.to_owned(),
        n_binaries: slices.len(),
        tag: String::new(),
        lowest: String::new(),
        limits: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    for (path, macho) in files {
        if !macho.slices.iter().any(|slice| slice.arch == arch) {
            verdict.warnings.push(format!("`{}` has no slice for {arch}", path.display()));
        }
    }
    for (path, slice) in slices {
        if arch == "arm64" && !slice.is_signed {
            verdict.warnings.push(format!(
                "`{}` is not signed: the kernel kills unsigned code on arm64",
                path.display()
            ));
        }
        match slice.minimum {
            Some(minimum) => {
                lowest = lowest.max(minimum);
                verdict.limits.push(Limit {
                    tag: tag(minimum.max(floor), arch),
                    file: path.to_path_buf(),
                    source: slice.minimum_source.to_owned(),
                    symbol: String::new(),
                    version: minimum.to_string(),
                    is_weak: false,
                });
            }
            None => verdict
                .warnings
                .push(format!("`{}` does not say which macOS it is made for", path.display())),
        }
        const PLATFORM_MACOS: u32 = 1;
        if slice.platform != PLATFORM_MACOS {
            verdict.problems.push(Problem {
                file: path.to_path_buf(),
                needs: format!("platform {}", slice.platform),
                reason: "the file is not made for macOS".to_owned(),
            });
        }
        libraries(path, slice, names, &mut verdict);
    }
    // The strongest first: by version, not as text.
    verdict.limits.sort_by_key(|limit| std::cmp::Reverse(version_of(&limit.tag)));
    verdict.tag = tag(lowest, arch);
    verdict.lowest = verdict.tag.clone();
    Some(verdict)
}

fn libraries(path: &Path, slice: &MachOSlice, names: &BTreeSet<String>, verdict: &mut Verdict) {
    for needed in &slice.needed {
        if needed.starts_with("/usr/lib/") || needed.starts_with("/System/Library/") {
            continue;
        }
        let name = needed.rsplit('/').next().unwrap_or(needed);
        // Whether each `@rpath` finds its file is the closure's question; here the name must be there.
        let is_beside = needed.starts_with('@') && names.contains(name);
        if !is_beside && !slice.weak.contains(needed) {
            verdict.problems.push(Problem {
                file: path.to_path_buf(),
                needs: needed.clone(),
                reason: "neither macOS nor the subject has this library".to_owned(),
            });
        }
    }
    for rpath in slice.rpaths.iter().filter(|rpath| rpath.starts_with('/')) {
        verdict.warnings.push(format!(
            "`{}` searches `{rpath}`, a folder of the machine that it was built on",
            path.display()
        ));
    }
}

fn tag(version: SystemVersion, arch: &str) -> String {
    let version = round_up(version);
    format!("macosx_{}_{}_{arch}", version.major, version.minor)
}

/// The lowest version that installers try and that is not below this one.
fn round_up(version: SystemVersion) -> SystemVersion {
    match (version.major, version.minor) {
        (10, _) | (_, 0) => version,
        (major, _) => SystemVersion { major: major + 1, minor: 0 },
    }
}

fn version_of(tag: &str) -> Option<SystemVersion> {
    let mut parts = tag.strip_prefix("macosx_")?.split('_');
    Some(SystemVersion { major: parts.next()?.parse().ok()?, minor: parts.next()?.parse().ok()? })
}

/// Why a claim is false, with the truth; none when it is true.
pub(super) fn check_claim(
    claim: &str,
    matching: &[&Verdict],
    all: &[Verdict],
) -> Option<(String, String)> {
    let claimed = version_of(claim)?;
    let wanted: &[&str] = if claim.ends_with("_universal2") { &ARCHES } else { &[] };
    for arch in wanted {
        let Some(verdict) = all.iter().find(|v| v.system == "macos" && v.arch == *arch) else {
            let truth = matching.first()?.tag.clone();
            return Some((truth, format!("no file has a slice for {arch}")));
        };
        if let Some(warning) = verdict.warnings.iter().find(|text| text.contains("has no slice")) {
            return Some((matching.first()?.tag.clone(), warning.clone()));
        }
    }
    for verdict in matching {
        if let Some(problem) = verdict.problems.first() {
            let (file, needs) = (problem.file.display(), &problem.needs);
            return Some((
                verdict.tag.clone(),
                format!("`{file}` needs `{needs}`: {}", problem.reason),
            ));
        }
        let lowest = version_of(&verdict.lowest)?;
        // A universal tag below macOS 11 is for Intel machines: no arm64 system is that old.
        let is_true = claimed >= lowest || (verdict.arch == "arm64" && lowest <= FIRST_ARM64);
        if !is_true {
            let limit = verdict.limits.first()?;
            let (file, source) = (limit.file.display(), &limit.source);
            return Some((
                verdict.tag.clone(),
                format!("`{file}` needs macOS {} by its {source}", limit.version),
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::{
        inspect::{Binary, Format, MachO, MachOSlice, SystemVersion},
        verdict::judge,
    };

    fn slice(arch: &str, major: u32, minor: u32) -> MachOSlice {
        MachOSlice {
            arch: arch.to_owned(),
            is_executable: false,
            install_name: None,
            needed: vec!["/usr/lib/libSystem.B.dylib".to_owned()],
            weak: Vec::new(),
            rpaths: Vec::new(),
            minimum: Some(SystemVersion { major, minor }),
            minimum_source: "LC_BUILD_VERSION",
            platform: 1,
            is_signed: true,
        }
    }

    fn file(path: &str, slices: &[MachOSlice]) -> Binary {
        Binary { path: path.into(), format: Format::MachO(MachO { slices: slices.to_vec() }) }
    }

    #[test]
    fn the_oldest_macos_is_that_of_the_youngest_file() {
        let check = |files: &[Binary], tags: &[&str]| assert_eq!(judge("s", files, &[]).tags, tags);
        let arm = |major, minor| file("a.so", &[slice("arm64", major, minor)]);
        check(&[arm(11, 0)], &["macosx_11_0_arm64"]);
        check(&[arm(11, 3)], &["macosx_12_0_arm64"]);
        check(&[arm(11, 0), arm(15, 0)], &["macosx_15_0_arm64"]);
        check(&[file("x", &[slice("x86_64", 10, 13)])], &["macosx_10_13_x86_64"]);
        let both = file("u", &[slice("x86_64", 10, 9), slice("arm64", 11, 0)]);
        check(&[both], &["macosx_11_0_arm64", "macosx_10_9_x86_64"]);
    }

    #[test]
    fn claims_are_checked_by_load_commands() {
        let check = |files: &[Binary], claim: &str, reason: Option<&str>| {
            let report = judge("s", files, &[claim.to_owned()]);
            let found = report.lies.first().map(|lie| lie.reason.as_str());
            assert_eq!(found, reason, "{claim}");
        };
        let young = [file("a.so", &[slice("arm64", 15, 0)])];
        check(&young, "macosx_11_0_arm64", Some("`a.so` needs macOS 15.0 by its LC_BUILD_VERSION"));
        check(&young, "macosx_15_0_arm64", None);
        check(&young, "macosx_15_0_universal2", Some("no file has a slice for x86_64"));
        let both = [file("u", &[slice("x86_64", 10, 9), slice("arm64", 11, 0)])];
        check(&both, "macosx_10_9_universal2", None);
        check(&both, "macosx_10_9_x86_64", None);
    }

    #[test]
    fn a_foreign_library_is_a_problem_and_a_foreign_rpath_a_warning() {
        let mut slice = slice("arm64", 11, 0);
        slice.needed.push("/opt/local/lib/libz.1.dylib".to_owned());
        slice.rpaths.push("/opt/local/lib".to_owned());
        let report = judge("s", &[file("a.so", &[slice])], &["macosx_11_0_arm64".to_owned()]);
        assert!(!report.is_true);
        assert_eq!(report.verdicts[0].problems[0].needs, "/opt/local/lib/libz.1.dylib");
        assert!(report.verdicts[0].warnings[0].contains("/opt/local/lib"));
    }
}

//! macOS: the oldest system by load commands, for each machine and for universal files.
//!
//! The tags are those that installers try ("packaging", `mac_platforms`): up to 10.16 with the minor
//! version, from macOS 11 on with the minor version 0 only. A file for 11.3 therefore needs
//! `macosx_12_0`.

mod search;

use super::{Limit, Problem, Verdict, reach};
use crate::inspect::{MachO, MachOSlice, PLATFORM_MACOS, SystemVersion};
use std::path::{Path, PathBuf};

const ARCHES: [&str; 2] = ["arm64", "x86_64"];

/// macOS runs on arm64 from here on, and a tag for less says nothing more.
const FIRST_ARM64: SystemVersion = SystemVersion { major: 11, minor: 0 };
/// The first 64-bit Intel system that Python's tags name.
const FIRST_X86_64: SystemVersion = SystemVersion { major: 10, minor: 4 };

pub(super) fn judge(files: &[(&PathBuf, &MachO)]) -> Vec<Verdict> {
    ARCHES.iter().filter_map(|arch| judge_arch(arch, files)).collect()
}

fn judge_arch(arch: &str, files: &[(&PathBuf, &MachO)]) -> Option<Verdict> {
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
        files: slices.iter().map(|(path, _)| path.to_path_buf()).collect(),
        tag: String::new(),
        lowest: String::new(),
        libc: None,
        limits: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    for (path, macho) in files {
        if !macho.slices.iter().any(|slice| slice.arch == arch) {
            verdict.warnings.push(format!("`{}` has no slice for {arch}", path.display()));
        }
    }
    let found = reach::found(&search::Slices::new(&slices));
    for ((path, slice), met) in slices.into_iter().zip(found) {
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
        if slice.platform != PLATFORM_MACOS {
            verdict.problems.push(Problem {
                file: path.to_path_buf(),
                needs: format!("platform {}", slice.platform),
                reason: "the file is not made for macOS".to_owned(),
            });
        }
        libraries(path, slice, &met, &mut verdict);
    }
    // The strongest first: by version, not as text.
    verdict.limits.sort_by_key(|limit| std::cmp::Reverse(version_of(&limit.tag)));
    verdict.tag = tag(lowest, arch);
    verdict.lowest = verdict.tag.clone();
    Some(verdict)
}

fn libraries(path: &Path, slice: &MachOSlice, met: &[bool], verdict: &mut Verdict) {
    for (needed, is_met) in slice.needed.iter().zip(met) {
        if *is_met || slice.weak.contains(needed) {
            continue;
        }
        verdict.problems.push(Problem {
            file: path.to_path_buf(),
            needs: needed.clone(),
            reason: match needed.starts_with('@') {
                true => {
                    "the subject has no such library for this machine where the search paths lead"
                }
                false => "neither macOS nor the subject has this library",
            }
            .to_owned(),
        });
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
            let others = matching.iter().find(|other| other.arch != *arch);
            let truth = others.or(matching.first())?.tag.clone();
            return Some((truth, warning.clone()));
        }
    }
    let truth_of = |verdict: &Verdict| {
        if wanted.is_empty() { Some(verdict.tag.clone()) } else { universal(matching) }
    };
    for verdict in matching {
        if let Some(problem) = verdict.problems.first() {
            let (file, needs) = (problem.file.display(), &problem.needs);
            return Some((
                truth_of(verdict)?,
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
                truth_of(verdict)?,
                format!("`{file}` needs macOS {} by its {source}", limit.version),
            ));
        }
    }
    None
}

/// The lowest tag for both machines that is true of files with a slice for each.
fn universal(verdicts: &[&Verdict]) -> Option<String> {
    let floors = verdicts.iter().filter_map(|verdict| {
        let lowest = version_of(&verdict.lowest)?;
        // Every arm64 system is as young as this.
        let says_nothing = verdict.arch == "arm64" && lowest <= FIRST_ARM64;
        (!says_nothing).then_some(lowest)
    });
    Some(tag(floors.max().unwrap_or(FIRST_ARM64), "universal2"))
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
    fn the_truth_of_a_universal_claim_is_universal() {
        let check = |files: &[Binary], truth: &str| {
            let report = judge("s", files, &["macosx_10_9_universal2".to_owned()]);
            assert_eq!(report.lies[0].truth.as_deref(), Some(truth), "{report:?}");
        };
        let both = |intel: (u32, u32), arm: (u32, u32)| {
            file("u", &[slice("x86_64", intel.0, intel.1), slice("arm64", arm.0, arm.1)])
        };
        check(&[both((10, 13), (11, 0))], "macosx_10_13_universal2");
        check(&[both((10, 9), (12, 0))], "macosx_12_0_universal2");
        check(
            &[both((10, 9), (11, 0)), file("i", &[slice("x86_64", 10, 9)])],
            "macosx_10_9_x86_64",
        );
        check(&[both((10, 9), (11, 0)), file("a", &[slice("arm64", 11, 0)])], "macosx_11_0_arm64");
    }

    #[test]
    fn a_library_counts_where_the_search_paths_lead_for_the_machine() {
        let user = |rpath: Option<&str>| {
            let mut slice = slice("arm64", 11, 0);
            slice.needed.push("@rpath/libq.dylib".to_owned());
            slice.rpaths.extend(rpath.map(str::to_owned));
            file("pkg/a.so", &[slice])
        };
        let library = |place: &str, arch: &str| file(place, &[slice(arch, 11, 0)]);
        let check = |files: &[Binary], is_true: bool| {
            let report = judge("s", files, &["macosx_11_0_arm64".to_owned()]);
            assert_eq!(report.is_true, is_true, "{report:?}");
        };
        let beside = Some("@loader_path/.dylibs");
        check(&[user(beside), library("pkg/.dylibs/libq.dylib", "arm64")], true);
        check(&[user(beside), library("pkg/.dylibs/libq.dylib", "x86_64")], false);
        check(&[user(beside), library("other/libq.dylib", "arm64")], false);
        check(&[user(None), library("pkg/.dylibs/libq.dylib", "arm64")], false);
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

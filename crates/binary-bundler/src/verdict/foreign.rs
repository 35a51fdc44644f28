//! Claims for systems beside Linux, macOS and Windows: Android and iOS (PEP 738, PEP 730), whose files
//! are judged by machine and version; and those whose files this audit does not read (Pyodide, the BSDs),
//! which are distinguished from false claims and from true ones.

use super::{Lie, Limit, Report, Unjudged, Verdict};
use crate::inspect::{Binary, Format, Libc, PLATFORM_IOS, PLATFORM_IOS_SIMULATOR, SystemVersion};

/// Systems that tags name, and what they are called.
const SYSTEMS: &[(&str, &str)] = &[
    ("aix_", "AIX"),
    ("android_", "Android"),
    ("cygwin_", "Cygwin"),
    ("dragonfly_", "DragonFly BSD"),
    ("emscripten_", "Emscripten"),
    ("freebsd_", "FreeBSD"),
    ("haiku_", "Haiku"),
    ("ios_", "iOS"),
    ("mingw_", "MSYS2's Python"),
    ("netbsd_", "NetBSD"),
    ("openbsd_", "OpenBSD"),
    ("pyemscripten_", "Pyodide"),
    ("pyodide_", "Pyodide"),
    ("solaris_", "Solaris"),
    ("sunos_", "Solaris"),
    ("wasi_", "WASI"),
];

/// Whether the claim names another system than the three.
pub(super) fn is_foreign(claim: &str) -> bool {
    system(claim).is_some()
}

fn system(claim: &str) -> Option<&'static str> {
    SYSTEMS.iter().find(|(prefix, _)| claim.starts_with(prefix)).map(|(_, name)| *name)
}

/// What is said of a claim for a system whose files are not read.
pub(super) fn unjudged(claim: &str) -> Unjudged {
    let reason = match system(claim) {
        Some(name) => format!("the libraries of {name} are not known to this audit"),
        None => "the tag is not known".to_owned(),
    };
    Unjudged { claim: claim.to_owned(), reason }
}

/// Judges a subject whose claims are all for such systems.
pub(super) fn judge(subject: &str, binaries: &[Binary], claimed: &[String]) -> Report {
    let verdicts: Vec<Verdict> = binaries.iter().filter_map(verdict).collect();
    let lies: Vec<Lie> = claimed
        .iter()
        .filter_map(|claim| {
            let reason = binaries.iter().find_map(|binary| check(claim, binary))?;
            let truth = verdicts.first().map(|verdict| verdict.tag.clone());
            Some(Lie { claim: claim.clone(), truth, reason })
        })
        .collect();
    let tags = match verdicts.is_empty() {
        true => claimed.to_vec(),
        false => {
            let mut tags: Vec<String> =
                verdicts.iter().map(|verdict| verdict.tag.clone()).collect();
            tags.sort();
            tags.dedup();
            tags
        }
    };
    Report {
        subject: subject.to_owned(),
        is_true: lies.is_empty(),
        claimed: claimed.to_vec(),
        tags,
        lies,
        unjudged: claimed.iter().map(|claim| unjudged(claim)).collect(),
        warnings: Vec::new(),
        verdicts,
    }
}

/// Why one file forbids a claim; none when it does not.
fn check(claim: &str, binary: &Binary) -> Option<String> {
    let path = binary.path.display();
    let file = target_of(binary);
    let system = if claim.starts_with("android_") {
        "android"
    } else if claim.starts_with("ios_") {
        "ios"
    } else if system(claim).is_some_and(|name| matches!(name, "Pyodide" | "Emscripten" | "WASI")) {
        return Some(format!("`{path}` is for {}, not for WebAssembly", file.words));
    } else {
        return None;
    };
    if file.system != system {
        return Some(format!("`{path}` is for {}", file.words));
    }
    let (claimed, machine) = parts(claim)?;
    if !file.machines.iter().any(|own| own == machine) {
        return Some(format!(
            "`{path}` is for {}, the tag for {machine}",
            file.machines.join(", ")
        ));
    }
    let needed = file.minimum.filter(|minimum| *minimum > claimed)?;
    Some(match system {
        "android" => format!("`{path}` needs Android's API level {}", needed.major),
        _ => format!("`{path}` needs iOS {needed}"),
    })
}

/// The version and the machine of `android_24_arm64_v8a` and `ios_13_0_arm64_iphoneos`.
fn parts(claim: &str) -> Option<(SystemVersion, &str)> {
    if let Some(rest) = claim.strip_prefix("android_") {
        let (level, machine) = rest.split_once('_')?;
        return Some((SystemVersion { major: level.parse().ok()?, minor: 0 }, machine));
    }
    let mut words = claim.strip_prefix("ios_")?.splitn(3, '_');
    let (major, minor) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((SystemVersion { major, minor }, words.next()?))
}

/// What a file is for, in the words of these tags.
struct Target {
    system: &'static str,
    machines: Vec<String>,
    minimum: Option<SystemVersion>,
    words: String,
}

fn target_of(binary: &Binary) -> Target {
    match &binary.format {
        Format::Elf(elf) => {
            let is_androids = elf.libc() == Some(Libc::Bionic);
            // Older tools write no note: what needs a C library by Android's name may be Android's.
            let may_be =
                is_androids || elf.needed.iter().any(|n| n == "libc.so") || elf.libc().is_none();
            let machine = match elf.arch.as_str() {
                "aarch64" => "arm64_v8a",
                "armv7l" => "armeabi_v7a",
                "i686" => "x86",
                other => other,
            };
            Target {
                system: if may_be { "android" } else { "linux" },
                machines: vec![machine.to_owned()],
                minimum: elf.android_api.map(|major| SystemVersion { major, minor: 0 }),
                words: format!("Linux with {}", elf.libc().map_or("any C library", Libc::name)),
            }
        }
        Format::MachO(macho) => {
            let of_ios = |platform: u32| match platform {
                PLATFORM_IOS => Some("iphoneos"),
                PLATFORM_IOS_SIMULATOR => Some("iphonesimulator"),
                _ => None,
            };
            let slices = macho.slices.iter();
            let machines: Vec<String> = slices
                .filter_map(|slice| Some(format!("{}_{}", slice.arch, of_ios(slice.platform)?)))
                .collect();
            Target {
                system: if machines.is_empty() { "macos" } else { "ios" },
                machines,
                minimum: macho.slices.iter().filter_map(|slice| slice.minimum).max(),
                words: "macOS".to_owned(),
            }
        }
        Format::Pe(_) => Target {
            system: "windows",
            machines: Vec::new(),
            minimum: None,
            words: "Windows".to_owned(),
        },
    }
}

/// The tag of one file for Android or iOS.
fn verdict(binary: &Binary) -> Option<Verdict> {
    let target = target_of(binary);
    let machine = target.machines.first()?;
    let tag = match (target.system, target.minimum) {
        ("android", minimum) => {
            format!("android_{}_{machine}", minimum.map_or(1, |minimum| minimum.major))
        }
        ("ios", Some(minimum)) => format!("ios_{}_{}_{machine}", minimum.major, minimum.minor),
        _ => return None,
    };
    let limit = target.minimum.map(|minimum| Limit {
        tag: tag.clone(),
        file: binary.path.clone(),
        source: target.system.to_owned(),
        symbol: String::new(),
        version: minimum.to_string(),
        is_weak: false,
    });
    Some(Verdict {
        system: target.system,
        arch: machine.clone(),
        n_binaries: 1,
        files: vec![binary.path.clone()],
        tag: tag.clone(),
        lowest: tag,
        libc: None,
        limits: limit.into_iter().collect(),
        problems: Vec::new(),
        warnings: Vec::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        inspect::{MachO, MachOSlice, inspect},
        verdict::judge as judge_all,
    };
    use std::path::Path;

    fn slice(arch: &str, platform: u32, major: u32) -> MachOSlice {
        MachOSlice {
            arch: arch.to_owned(),
            is_executable: false,
            install_name: None,
            needed: Vec::new(),
            weak: Vec::new(),
            rpaths: Vec::new(),
            minimum: Some(SystemVersion { major, minor: 0 }),
            minimum_source: "LC_BUILD_VERSION",
            platform,
            is_signed: true,
        }
    }

    fn check(binaries: &[Binary], claim: &str, lie: Option<&str>) {
        let report = judge_all("s", binaries, &[claim.to_owned()]);
        let found = report.lies.first().map(|lie| lie.reason.as_str());
        match (found, lie) {
            (None, None) => assert_eq!(report.unjudged[0].claim, claim),
            (Some(found), Some(lie)) => assert!(found.contains(lie), "{claim} {found}"),
            _ => panic!("{claim} {report:?}"),
        }
    }

    #[test]
    fn files_for_ios_are_recognised_by_platform_machine_and_version() {
        let file = |slice: MachOSlice| Binary {
            path: "a.so".into(),
            format: Format::MachO(MachO { slices: vec![slice] }),
        };
        let phone = || [file(slice("arm64", PLATFORM_IOS, 13))];
        check(&phone(), "ios_13_0_arm64_iphoneos", None);
        check(&phone(), "ios_12_0_arm64_iphoneos", Some("needs iOS 13.0"));
        check(
            &phone(),
            "ios_13_0_arm64_iphonesimulator",
            Some("the tag for arm64_iphonesimulator"),
        );
        check(&[file(slice("arm64", 1, 11))], "ios_13_0_arm64_iphoneos", Some("is for macOS"));
        let report = judge_all("s", &phone(), &["macosx_13_0_arm64".to_owned()]);
        assert!(!report.is_true);
    }

    #[test]
    fn what_is_not_read_is_neither_true_nor_false() {
        check(&[], "pyodide_2024_0_wasm32", None);
        check(&[], "emscripten_4_0_9_wasm32", None);
        check(&[], "freebsd_14_0_release_amd64", None);
        let seed = include_bytes!("../../tests/fixtures/static-pie");
        let elf = inspect(Path::new("a.so"), seed).unwrap().unwrap();
        check(std::slice::from_ref(&elf), "pyodide_2024_0_wasm32", Some("not for WebAssembly"));
        let report = judge_all("s", &[elf], &["nonsense_1".to_owned()]);
        assert_eq!(report.lies[0].reason, "the tag is not known");
    }
}

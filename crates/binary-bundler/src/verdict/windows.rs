//! Windows: the machine of each PE file, and DLLs that nobody brings.
//!
//! The tags name a machine and no version. A wheel may carry a second machine's programs in a folder
//! of its own (a fat wheel), so each machine has its own verdict.

use super::{Limit, Verdict};
use crate::{inspect::Pe, policy};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

pub(super) fn judge(files: &[(&PathBuf, &Pe)]) -> Vec<Verdict> {
    let mut by_arch: BTreeMap<&str, Vec<(&PathBuf, &Pe)>> = BTreeMap::new();
    for (path, pe) in files {
        by_arch.entry(&pe.arch).or_default().push((path, pe));
    }
    by_arch.into_iter().map(|(arch, files)| judge_arch(arch, &files)).collect()
}

fn judge_arch(arch: &str, files: &[(&PathBuf, &Pe)]) -> Verdict {
    let tag = match arch {
        "x86" => "win32".to_owned(),
        arch => format!("win_{arch}"),
    };
    let names: BTreeSet<String> = files
        .iter()
        .filter_map(|(path, _)| Some(path.file_name()?.to_string_lossy().to_ascii_lowercase()))
        .collect();
    let mut verdict = Verdict {
        system: "windows",
        arch: arch.to_owned(),
        n_binaries: files.len(),
        tag: tag.clone(),
        lowest: tag.clone(),
        limits: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    for (path, pe) in files {
        verdict.limits.push(Limit {
            tag: tag.clone(),
            file: path.to_path_buf(),
            source: "PE machine".to_owned(),
            symbol: String::new(),
            version: arch.to_owned(),
            is_weak: false,
        });
        for name in pe.imports.iter().chain(&pe.delayed) {
            let is_known = policy::is_windows_dll(name)
                || policy::is_python_dll(name)
                || names.contains(&name.to_ascii_lowercase());
            // A wheel may rely on another wheel's DLL, so that this is no proof of a false tag.
            if !is_known {
                verdict.warnings.push(format!(
                    "`{}` imports `{name}`, which neither Windows nor Python nor the subject has",
                    path.display()
                ));
            }
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use crate::{
        inspect::{Binary, Format, Pe},
        verdict::judge,
    };

    fn file(path: &str, arch: &str, imports: &[&str]) -> Binary {
        let pe = Pe {
            arch: arch.to_owned(),
            is_dll: false,
            imports: imports.iter().map(|name| (*name).to_owned()).collect(),
            delayed: Vec::new(),
            windows: (6, 0),
            is_managed: false,
        };
        Binary { path: path.into(), format: Format::Pe(pe) }
    }

    #[test]
    fn the_machine_is_the_tag() {
        let check = |files: &[Binary], claim: &str, is_true: bool| {
            let report = judge("s", files, &[claim.to_owned()]);
            assert_eq!(report.is_true, is_true, "{claim} {:?}", report.lies);
        };
        let amd64 = || file("bin/x86_64/a.exe", "amd64", &["KERNEL32.dll", "libz.dll"]);
        let arm64 = || file("bin/arm64/a.exe", "arm64", &[]);
        check(&[amd64()], "win_amd64", true);
        check(&[amd64(), arm64()], "win_amd64", true);
        check(&[arm64()], "win_amd64", false);
        check(&[file("a.pyd", "x86", &[])], "win32", true);
        let report = judge("s", &[amd64()], &[]);
        assert!(report.verdicts[0].warnings[0].contains("libz.dll"));
        assert_eq!(report.verdicts[0].warnings.len(), 1);
    }
}

//! The fat wheel: the `win_amd64` wheel gets the binaries of `win_arm64` too.
//!
//! `wheel-retag` moves the files; here each half's binaries are looked into before: their machine,
//! and that every DLL that they import is beside them or part of Windows.

use crate::{Error, verified::with_causes};
use binary_bundler::{
    inspect::{self, Format, Pe},
    policy,
};
use package_layout::qemu;
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    path::{Path, PathBuf},
};
use wheel_retag::{Half, fat_pairs, merge_fat, plan_merge, read_entries};

/// What was done to one wheel.
#[derive(Debug, Serialize)]
pub struct Merged {
    /// The fat wheel.
    pub wheel: PathBuf,
    /// False when it was fat before.
    pub is_changed: bool,
    /// Files that both halves share, below `bin/`.
    pub shared: Vec<String>,
    /// What is allowed and yet to be looked at.
    pub warnings: Vec<String>,
}

/// Merges every pair of the folder. All of them are checked before the first is changed.
///
/// # Errors
/// A half is missing, is for another machine or lacks a DLL, or a wheel cannot be read or written.
pub fn merge(folder: &Path) -> Result<Vec<Merged>, Error> {
    let mut plans = Vec::new();
    for pair in fat_pairs(folder)? {
        let plan = plan_merge(&pair)?;
        let mut warnings: Vec<String> = plan
            .differing
            .iter()
            .map(|file| format!("`{file}` differs in the two wheels; that of win_amd64 is kept"))
            .collect();
        let taken =
            |file: &String| format!("`{file}` is in the win_arm64 wheel alone; it is taken along");
        warnings.extend(plan.added.iter().map(taken));
        warnings.extend(plan.unlike.iter().cloned());
        for half in &plan.halves {
            warnings.extend(check_half(half)?);
        }
        plans.push((plan, warnings));
    }
    let mut merged = Vec::new();
    for (plan, warnings) in plans {
        let (is_changed, shared) = (!plan.is_merged, plan.shared.clone());
        let wheel = merge_fat(plan)?;
        merged.push(Merged { wheel, is_changed, shared, warnings });
    }
    Ok(merged)
}

/// Looks into one half; gives warnings.
fn check_half(half: &Half) -> Result<Vec<String>, Error> {
    let mut binaries: BTreeMap<String, Pe> = BTreeMap::new();
    let mut problem = None;
    read_entries(&half.wheel, |path, _, contents| {
        let Some(file) = path.strip_prefix(&half.prefix) else { return Ok(()) };
        // Firmware is for guests, whose programs have formats of their own.
        if problem.is_some() || file.starts_with("share/") {
            return Ok(());
        }
        let mut bytes = Vec::new();
        contents.take(inspect::N_MAGIC_BYTES as u64).read_to_end(&mut bytes)?;
        if !inspect::may_be_binary(&bytes) {
            return Ok(());
        }
        contents.read_to_end(&mut bytes)?;
        match inspect::inspect(Path::new(file), &bytes) {
            Ok(Some(binary)) => match binary.format {
                Format::Pe(pe) => drop(binaries.insert(file.to_owned(), pe)),
                _ => problem = Some(format!("`{file}` is not a binary of Windows")),
            },
            Ok(None) => {}
            Err(error) => problem = Some(with_causes(&error)),
        }
        Ok(())
    })?;
    let checked = match problem {
        Some(problem) => Err(problem),
        None => check_binaries(half.folder, &binaries),
    };
    checked.map_err(|problem| Error::Half {
        half: half.folder.to_owned(),
        wheel: half.wheel.clone(),
        problem,
    })
}

/// The pure part: machine and import closure of one half.
fn check_binaries(half: &str, binaries: &BTreeMap<String, Pe>) -> Result<Vec<String>, String> {
    let machine = if half == qemu::FAT_ARM64 { "arm64" } else { "amd64" };
    if binaries.values().all(|pe| pe.is_dll) {
        return Err("it has no program for Windows".to_owned());
    }
    // Windows compares names without case and looks beside the program first ("Dynamic-link library
    // search order"); a DLL of a sub-folder is found by what lies beside it.
    let parts = |file: &str| -> (String, String) {
        let file = file.to_ascii_lowercase();
        file.rsplit_once('/').map_or((String::new(), file.clone()), |(a, b)| (a.into(), b.into()))
    };
    let there: BTreeSet<(String, String)> = binaries.keys().map(|file| parts(file)).collect();
    let mut warnings = Vec::new();
    for (file, pe) in binaries {
        if pe.arch != machine {
            return Err(format!("`{file}` is for {}, not for {machine}", pe.arch));
        }
        let (folder, _) = parts(file);
        let delayed = pe.delayed.iter().map(|name| (name, true));
        for (name, is_delayed) in pe.imports.iter().map(|name| (name, false)).chain(delayed) {
            let key = name.to_ascii_lowercase();
            let is_beside = |folder: &str| there.contains(&(folder.to_owned(), key.clone()));
            if policy::is_windows_dll(name) || is_beside("") || is_beside(&folder) {
                continue;
            }
            let is_elsewhere = there.iter().any(|(_, its)| *its == key);
            if !is_elsewhere && !is_delayed {
                return Err(format!(
                    "`{file}` imports `{name}`, which neither Windows nor the wheel has"
                ));
            }
            let place = if is_elsewhere { "lies in another folder" } else { "is nowhere" };
            warnings.push(format!("{half}: `{file}` imports `{name}`, which {place}"));
        }
    }
    Ok(warnings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pe(arch: &str, is_dll: bool, imports: &[&str], delayed: &[&str]) -> Pe {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Pe {
            arch: arch.to_owned(),
            is_dll,
            imports: list(imports),
            delayed: list(delayed),
            windows: (6, 0),
            is_for_windows: true,
            is_managed: false,
        }
    }

    #[test]
    fn each_half_is_whole_and_for_its_machine() {
        let check = |half: &str, files: &[(&str, Pe)]| {
            let files = files.iter().map(|(file, pe)| ((*file).to_owned(), pe.clone())).collect();
            check_binaries(half, &files)
        };
        let tool = |imports: &[&str]| ("qemu-img.exe", pe("amd64", false, imports, &[]));
        let glib = ("libglib.dll", pe("amd64", true, &["msvcrt.dll"], &[]));
        assert_eq!(check("x86_64", &[tool(&["KERNEL32.dll"])]), Ok(vec![]));
        assert_eq!(check("x86_64", &[tool(&["LibGlib.DLL"]), glib.clone()]), Ok(vec![]));
        let fails = |half: &str, files: &[(&str, Pe)], words: &str| {
            let error = check(half, files).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        fails("arm64", &[tool(&[])], "`qemu-img.exe` is for amd64, not for arm64");
        fails("x86_64", &[tool(&["libglib.dll"])], "imports `libglib.dll`");
        fails("x86_64", std::slice::from_ref(&glib), "no program");
        fails("x86_64", &[], "no program");
        let wrong = ("libx.dll", pe("x86", true, &[], &[]));
        fails("x86_64", &[tool(&[]), wrong], "`libx.dll` is for x86");
        let plugin = ("lib/plugin.dll", pe("amd64", true, &["libglib.dll", "other.dll"], &[]));
        let other = ("lib/other.dll", pe("amd64", true, &[], &[]));
        assert_eq!(check("x86_64", &[tool(&[]), glib, plugin, other.clone()]), Ok(vec![]));
        let warned = check("x86_64", &[tool(&["other.dll"]), other]).unwrap();
        assert!(warned[0].contains("another folder"), "{warned:?}");
        let delayed = ("a.exe", pe("amd64", false, &[], &["gone.dll"]));
        assert!(check("x86_64", &[delayed]).unwrap()[0].contains("is nowhere"));
    }
}

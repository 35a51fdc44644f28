//! Windows: the machine of each PE file, and DLLs that a process does not find.
//!
//! The tags name a machine and no version. A wheel may carry a second machine's programs in a folder
//! of its own (a fat wheel), so each machine has its own verdict.
//!
//! The search: "Dynamic-link library search order" of Microsoft's documentation. A program finds what is
//! in its own folder; a module of Python finds what is in its own, in Python's, and in those that its
//! package adds (`os.add_dll_directory`), which no file says. Differences from delvewheel: programs too.

use super::{
    Limit, Problem, Verdict,
    place::{folder, installed},
    reach::{self, Hit, Loader},
};
use crate::{inspect::Pe, policy};
use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
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
    let mut verdict = Verdict {
        system: "windows",
        arch: arch.to_owned(),
        n_binaries: files.len(),
        files: files.iter().map(|(path, _)| path.to_path_buf()).collect(),
        tag: tag.clone(),
        lowest: tag.clone(),
        libc: None,
        limits: Vec::new(),
        problems: Vec::new(),
        warnings: Vec::new(),
    };
    for (path, _) in files {
        verdict.limits.push(Limit {
            tag: tag.clone(),
            file: path.to_path_buf(),
            source: "PE machine".to_owned(),
            symbol: String::new(),
            version: arch.to_owned(),
            is_weak: false,
        });
    }
    let dlls = Dlls::new(files);
    for ((path, pe), met) in files.iter().zip(reach::found(&dlls)) {
        for (name, _) in names(pe).zip(met).filter(|(_, is_met)| !is_met) {
            verdict.problems.push(Problem {
                file: path.to_path_buf(),
                needs: name.to_owned(),
                reason: match policy::is_python_dll(name) {
                    false => {
                        "neither Windows nor Python has this DLL, and it is not where its \
                              process looks for it"
                    }
                    true => "a program does not look for DLLs in Python's folder",
                }
                .to_owned(),
            });
        }
    }
    verdict.warnings.extend(dlls.elsewhere.into_inner());
    verdict
}

/// Why a claim is false; none when it is true.
pub(super) fn check_claim(verdict: &Verdict, all: &[Verdict]) -> Option<String> {
    if let Some(problem) = verdict.problems.first() {
        let (file, needs) = (problem.file.display(), &problem.needs);
        return Some(format!("`{file}` needs `{needs}`: {}", problem.reason));
    }
    let hybrid = all.iter().find(|other| other.arch == "arm64ec")?;
    let file = hybrid.files.first()?.display();
    Some(format!("`{file}` is made for emulated processes of Arm machines (ARM64EC) alone"))
}

fn names(pe: &Pe) -> impl Iterator<Item = &str> {
    // Firmware's programs import from nowhere.
    let names = pe.imports.iter().chain(&pe.delayed).filter(|_| pe.is_for_windows);
    names.map(String::as_str)
}

/// The files of one machine, by folder and name without case.
struct Dlls<'a> {
    files: Vec<(PathBuf, &'a Pe)>,
    by_place: BTreeMap<(PathBuf, String), usize>,
    by_name: BTreeMap<String, usize>,
    /// What is found only when its package adds a folder, as a warning.
    elsewhere: RefCell<BTreeSet<String>>,
}

impl<'a> Dlls<'a> {
    fn new(files: &[(&'a PathBuf, &'a Pe)]) -> Self {
        let files: Vec<(PathBuf, &Pe)> =
            files.iter().map(|(path, pe)| (installed(path), *pe)).collect();
        let (mut by_place, mut by_name) = (BTreeMap::new(), BTreeMap::new());
        for (index, (place, _)) in files.iter().enumerate() {
            let name = lower(place.file_name().unwrap_or_default().as_ref());
            by_place.insert((PathBuf::from(lower(folder(place))), name.clone()), index);
            by_name.entry(name).or_insert(index);
        }
        Self { files, by_place, by_name, elsewhere: RefCell::default() }
    }
}

/// Python loads a module by this name, whatever its header says.
fn is_module(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("pyd"))
}

fn lower(path: &Path) -> String {
    path.to_string_lossy().replace('\\', "/").to_ascii_lowercase()
}

impl Loader for Dlls<'_> {
    fn n_files(&self) -> usize {
        self.files.len()
    }

    fn starts(&self, file: usize) -> bool {
        let (place, pe) = &self.files[file];
        !pe.is_dll || is_module(place)
    }

    fn n_needs(&self, file: usize) -> usize {
        names(self.files[file].1).count()
    }

    fn find(&self, need: usize, chain: &[usize], loaded: &[usize]) -> Hit {
        let (asking, pe) = &self.files[chain[0]];
        let Some(name) = names(pe).nth(need) else { return Hit::Nothing };
        let (start, started) = &self.files[chain[chain.len() - 1]];
        let is_program = !started.is_dll && !is_module(start);
        if policy::is_windows_dll(name) {
            return Hit::Outside;
        }
        let name = name.to_ascii_lowercase();
        let is_it = |file: &&usize| {
            let place = &self.files[**file].0;
            place.file_name().is_some_and(|other| lower(other.as_ref()) == name)
        };
        if let Some(file) = loaded.iter().find(is_it) {
            return Hit::File(*file);
        }
        // The folder of the program, or of the module with whose loading it began.
        let own = (PathBuf::from(lower(folder(start))), name.clone());
        if let Some(file) = self.by_place.get(&own) {
            return Hit::File(*file);
        }
        if is_program {
            return Hit::Nothing;
        }
        if policy::is_python_dll(&name) {
            return Hit::Outside;
        }
        let Some(file) = self.by_name.get(&name) else { return Hit::Nothing };
        let place = folder(&self.files[*file].0);
        // delvewheel's own folders are added by the code that it puts beside them.
        let is_added = place.file_name().is_some_and(|f| f.to_string_lossy().ends_with(".libs"));
        if !is_added && place != folder(asking) {
            self.elsewhere.borrow_mut().insert(format!(
                "`{}` finds `{name}` only when its package adds the folder `{}` to the search",
                asking.display(),
                place.display()
            ));
        }
        Hit::File(*file)
    }
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
            is_dll: !path.ends_with(".exe"),
            imports: imports.iter().map(|name| (*name).to_owned()).collect(),
            delayed: Vec::new(),
            windows: (6, 0),
            is_for_windows: true,
            is_managed: false,
        };
        Binary { path: path.into(), format: Format::Pe(pe) }
    }

    fn check(files: &[Binary], claim: &str, lie: Option<&str>) {
        let report = judge("s", files, &[claim.to_owned()]);
        let found = report.lies.first().map(|lie| lie.reason.as_str());
        match (found, lie) {
            (None, None) => {}
            (Some(found), Some(lie)) => assert!(found.contains(lie), "{claim} {found}"),
            _ => panic!("{claim} {report:?}"),
        }
    }

    #[test]
    fn the_machine_is_the_tag() {
        let amd64 = || file("bin/x86_64/a.exe", "amd64", &["KERNEL32.dll"]);
        let arm64 = || file("bin/arm64/a.exe", "arm64", &[]);
        check(&[amd64()], "win_amd64", None);
        check(&[amd64(), arm64()], "win_amd64", None);
        check(&[arm64()], "win_amd64", Some("no binary is for it"));
        check(&[file("a.pyd", "x86", &[])], "win32", None);
        check(&[amd64(), file("a.pyd", "arm64ec", &[])], "win_amd64", Some("`a.pyd`"));
    }

    #[test]
    fn a_program_finds_what_is_in_its_own_folder() {
        let exe = || file("bin/a.exe", "amd64", &["KERNEL32.dll", "LibZ.dll"]);
        let dll = |path: &str, arch: &str| file(path, arch, &[]);
        check(&[exe()], "win_amd64", Some("`bin/a.exe` needs `LibZ.dll`"));
        check(&[exe(), dll("bin/libz.dll", "amd64")], "win_amd64", None);
        check(&[exe(), dll("bin/libz.dll", "arm64")], "win_amd64", Some("LibZ.dll"));
        check(&[exe(), dll("lib/libz.dll", "amd64")], "win_amd64", Some("LibZ.dll"));
        // Python's C runtime lies beside python.exe, where another program does not look.
        let runtime = &["VCRUNTIME140.dll"];
        check(&[file("bin/b.exe", "amd64", runtime)], "win_amd64", Some("VCRUNTIME140.dll"));
        check(&[file("b.pyd", "amd64", runtime)], "win_amd64", None);
    }

    #[test]
    fn what_a_package_must_add_is_a_warning_and_what_is_nowhere_a_lie() {
        let module = || file("pkg/m.pyd", "amd64", &["msvcp140.dll", "python311.dll"]);
        check(&[module()], "win_amd64", Some("msvcp140.dll"));
        let report = |place: &str| {
            judge("s", &[module(), file(place, "amd64", &[])], &["win_amd64".to_owned()])
        };
        for place in ["pkg.libs/msvcp140.dll", "pkg/MSVCP140.dll"] {
            let report = report(place);
            assert!(report.is_true && report.verdicts[0].warnings.is_empty(), "{report:?}");
        }
        let report = report("other/msvcp140.dll");
        assert!(report.is_true);
        assert!(report.verdicts[0].warnings[0].contains("`other`"), "{report:?}");
    }
}

//! Reads a written tree again: does each file find what it needs inside the tree, and nothing else?

use super::{Edit, Plan};
use crate::{
    error::Error,
    inspect::{Binary, Format, inspect_file},
    policy,
};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// Reads every binary of the tree again and follows its own words to its libraries.
///
/// # Errors
/// At the first file whose words lead out of the tree or nowhere, or that no longer parses.
pub fn verify(plan: &Plan, tree: &Path) -> Result<(), Error> {
    for copy in &plan.copies {
        let path = tree.join(&copy.to);
        let Some(binary) = inspect_file(&path)? else {
            if copy.edit == Edit::None && path.is_file() {
                continue;
            }
            return Err(Error::NoBinary { path });
        };
        let wrong = |what: String| Error::Verify { path: path.clone(), what };
        match (&binary.format, &copy.edit) {
            // A static file has no search path and needs none.
            (Format::Elf(elf), Edit::Rpath(rpath))
                if (!elf.needed.is_empty() || elf.interpreter.is_some())
                    && (elf.rpath != [rpath.clone()] || elf.runpath.is_some()) =>
            {
                return Err(wrong(format!("its search path is not `{rpath}`")));
            }
            (Format::MachO(macho), Edit::MachO(change)) => {
                for slice in &macho.slices {
                    if !slice.is_signed || !slice.rpaths.is_empty() {
                        return Err(wrong("its signature or search paths are not ours".to_owned()));
                    }
                    if slice.install_name != change.install_name && slice.install_name.is_some() {
                        return Err(wrong("its install name was not changed".to_owned()));
                    }
                }
            }
            _ => {}
        }
        if let Some(name) = needs_elsewhere(&binary, &path, plan) {
            return Err(wrong(format!("it does not find `{name}` in the tree")));
        }
    }
    Ok(())
}

/// The first library that neither the system nor the tree gives.
fn needs_elsewhere(binary: &Binary, path: &Path, plan: &Plan) -> Option<String> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let is_left = |name: &str| plan.system.contains(name);
    match &binary.format {
        Format::Elf(elf) => {
            let folders: Vec<PathBuf> = elf
                .own_search()
                .iter()
                .filter_map(|path| path.strip_prefix("$ORIGIN"))
                .map(|rest| folder.join(rest.trim_start_matches('/')))
                .collect();
            // A name with a folder in it is no search's: joined, it would be a file of this host.
            let is_here = |name: &str| {
                !name.contains('/') && folders.iter().any(|folder| folder.join(name).is_file())
            };
            let mut names = elf.needed.iter();
            names
                .find(|name| !is_left(name) && !policy::is_libc_part(name) && !is_here(name))
                .cloned()
        }
        Format::MachO(macho) => {
            let is_here = |name: &str| {
                let rest = name.strip_prefix("@loader_path/");
                rest.is_some_and(|rest| folder.join(rest).is_file())
            };
            let slices = macho.slices.iter();
            let mut names = slices
                .flat_map(|slice| slice.needed.iter().filter(|name| !slice.weak.contains(name)));
            names.find(|name| !is_left(name) && !is_here(name)).cloned()
        }
        Format::Pe(pe) => {
            let entries = fs_err::read_dir(folder).into_iter().flatten().flatten();
            let here: Vec<String> = entries
                .map(|entry| entry.file_name().to_string_lossy().to_ascii_lowercase())
                .collect();
            let mut names = pe.imports.iter();
            names
                .find(|name| {
                    !policy::is_windows_dll(name)
                        && !is_left(name)
                        && !here.contains(&name.to_ascii_lowercase())
                })
                .cloned()
        }
    }
}

/// What this host's own loader says to a program: each library with the file that it would load
/// (`ld.so --list`). Only for a program of this host's machine and C library.
///
/// # Errors
/// When the program names no loader, the loader cannot be started, or it does not find a library.
pub fn ask_loader(program: &Path) -> Result<BTreeMap<String, PathBuf>, Error> {
    let binary = inspect_file(program)?.ok_or_else(|| Error::NoBinary { path: program.into() })?;
    let Format::Elf(elf) = binary.format else {
        return Err(Error::NoBinary { path: program.into() });
    };
    let loader = elf.interpreter.ok_or_else(|| Error::Verify {
        path: program.into(),
        what: "it names no loader".to_owned(),
    })?;
    let output = duct::cmd!(loader, "--list", program)
        .env_remove("LD_LIBRARY_PATH")
        .env_remove("LD_PRELOAD")
        .stderr_to_stdout()
        .stdout_capture()
        .unchecked()
        .run()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() || text.contains("not found") {
        let line = text.lines().find(|line| line.contains("not found") || line.contains("cannot"));
        let what = line.unwrap_or(text.trim()).trim().to_owned();
        return Err(Error::Verify { path: program.into(), what });
    }
    Ok(text.lines().filter_map(listed).collect())
}

/// `libz.so.1 => /tmp/tree/lib/libz.so.1 (0x00007f…)`; lines without an arrow are the kernel's or the
/// loader's own.
fn listed(line: &str) -> Option<(String, PathBuf)> {
    let (name, rest) = line.trim().split_once(" => ")?;
    let (path, _address) = rest.rsplit_once(" (")?;
    Some((name.to_owned(), PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_lines_are_read() {
        let line = "\tlibz.so.1 => /t r/lib/libz.so.1 (0x00007f0000000000)";
        assert_eq!(listed(line), Some(("libz.so.1".to_owned(), "/t r/lib/libz.so.1".into())));
        assert_eq!(listed("\tlinux-vdso.so.1 (0x00007ffc)"), None);
    }
}

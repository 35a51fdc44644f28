//! What one ELF file asks of every system that it is to run on, whatever its C library: processor,
//! pages, stack, calling convention, loader, search paths, libraries that it loads itself.
//!
//! Pure. What no system of the platform grants is a problem; what some refuse, or what reaches into
//! the machine that the file was built on, is a warning.

use super::{Judged, search::beside};
use crate::{
    inspect::{Elf, Priority},
    policy,
    verdict::{
        Problem, Verdict,
        place::{installed, is_apart},
    },
};
use std::path::{Component, Path};

pub(super) fn judge(judged: &Judged<'_>, is_musl: bool, verdict: &mut Verdict) {
    let (elf, path) = (judged.elf, judged.path);
    let mut problems = Vec::new();
    let mut problem = |needs: String, reason: &str| {
        problems.push(Problem { file: path.to_path_buf(), needs, reason: reason.to_owned() });
    };
    if elf.isa_level > variant_level(path) {
        problem(
            format!("a processor of the level x86-64-v{}", elf.isa_level),
            "the platform's processors need not have more than x86-64, and the loader refuses the file \
             on others",
        );
    }
    // A Python that was built with `--with-fpectl`, as up to 3.6 some were; no other has these.
    const FPECTL_SYMBOLS: [&str; 3] = ["PyFPE_jbuf", "PyFPE_dummy", "PyFPE_counter"];
    if let Some(symbol) =
        elf.unversioned.iter().find(|name| FPECTL_SYMBOLS.contains(&name.as_str()))
    {
        problem(symbol.clone(), "only a Python that was built with fpectl has this symbol");
    }
    // The kernel starts a static program whatever its calls look like: firmware, for example.
    let is_loaded = elf.interpreter.is_some() || !elf.needed.is_empty() || !elf.is_executable;
    if let Some(abi) = elf.foreign_abi.filter(|_| is_loaded) {
        problem(
            abi.to_owned(),
            "the distributions of this machine have another calling convention",
        );
    }
    if let Some(loader) = elf.interpreter.as_deref().filter(|loader| !is_usual_loader(loader)) {
        problem(
            format!("the loader {loader}"),
            "distributions have their loader in /lib or /lib64",
        );
    }
    let n_bytes = elf.page_alignment;
    if n_bytes < SMALLEST_PAGE && !elf.is_executable && n_bytes != 0 {
        problem(
            format!("segments aligned to {n_bytes} bytes"),
            "pages are of 4096 bytes at least, and the loader refuses a smaller alignment",
        );
    }
    verdict.problems.extend(problems);
    let largest = largest_page(&elf.arch);
    let mut warn = |text: String| verdict.warnings.push(format!("`{}` {text}", path.display()));
    if n_bytes >= SMALLEST_PAGE && n_bytes < largest {
        warn(format!(
            "has segments aligned to {n_bytes} bytes: kernels of {} with pages of {largest} bytes \
             refuse it",
            elf.arch
        ));
    }
    match elf.executable_stack {
        Some(true) => warn(
            "asks for an executable stack: glibc from 2.41 on refuses to load such a library, and \
             hardened kernels refuse it too"
                .to_owned(),
        ),
        None if matches!(elf.arch.as_str(), "x86_64" | "i686") => warn(
            "does not say that its stack need not be executable (PT_GNU_STACK): it is taken to need one"
                .to_owned(),
        ),
        _ => {}
    }
    search_paths(path, elf, &mut warn);
    loaded_later(judged, is_musl, verdict);
}

const SMALLEST_PAGE: u64 = 4096;

/// The largest pages that distributions of a machine have kernels for.
fn largest_page(arch: &str) -> u64 {
    match arch {
        "aarch64" | "ppc64" | "ppc64le" => 0x1_0000,
        "loongarch64" => 0x4000,
        _ => SMALLEST_PAGE,
    }
}

/// A library below `glibc-hwcaps/x86-64-vN` is loaded where the processor has the level, and nowhere
/// else (ld.so(8)).
fn variant_level(path: &Path) -> u8 {
    let mut parts = path.components().map(Component::as_os_str);
    let level = parts.by_ref().find(|part| *part == "glibc-hwcaps").and_then(|_| parts.next());
    level
        .and_then(|name| name.to_str()?.strip_prefix("x86-64-v")?.parse().ok())
        .map_or(1, |level: u8| level.max(1))
}

fn is_usual_loader(loader: &str) -> bool {
    let folder = loader.rsplit_once('/').map(|(folder, _)| folder);
    let is_androids = loader.starts_with("/system/bin/linker");
    is_androids || matches!(folder, Some("/lib" | "/lib64" | "/lib32" | "/libx32"))
}

fn search_paths(path: &Path, elf: &Elf, warn: &mut impl FnMut(String)) {
    if elf.searches_working_folder {
        warn(
            "has an empty element in its search path: the loader looks for libraries in the working \
             folder, where others may put theirs"
                .to_owned(),
        );
    }
    for text in elf.own_search() {
        match beside(&installed(path), text) {
            Some(folder) => {
                if folder.starts_with("..") && !is_apart(path) {
                    warn(format!("searches `{text}`, which lies outside of what it comes with"));
                }
            }
            None if is_of_the_system(text) => {}
            None if text.starts_with('/') => {
                warn(format!("searches `{text}`, a folder of the machine that it was built on"));
            }
            // `$LIB` and `$PLATFORM` stand for names without a folder before them.
            None => warn(format!("searches `{text}`, which depends on the working folder")),
        }
    }
}

/// The loader's own folders: naming them is needless and does no harm.
fn is_of_the_system(text: &str) -> bool {
    let text = text.trim_end_matches('/');
    let is_multiarch = || {
        let (folder, triplet) = text.rsplit_once('/')?;
        Some(matches!(folder, "/lib" | "/usr/lib") && triplet.contains("-linux-"))
    };
    matches!(text, "/lib" | "/lib64" | "/usr/lib" | "/usr/lib64") || is_multiarch() == Some(true)
}

/// What the file loads itself: one of the names must be in the subject or on the platform.
fn loaded_later(judged: &Judged<'_>, is_musl: bool, verdict: &mut Verdict) {
    for library in &judged.elf.dlopened {
        let is_there = library.names.iter().any(|name| {
            judged.bundled.contains(name.as_str())
                || match is_musl {
                    true => policy::is_beside_musl(name),
                    false => policy::library_since(name, &judged.elf.arch).is_some(),
                }
        });
        let names = library.names.join(" or ");
        match library.priority {
            _ if is_there => {}
            Priority::Required => verdict.problems.push(Problem {
                file: judged.path.to_path_buf(),
                needs: names,
                reason:
                    "it loads this library while it runs and cannot do without it, and neither \
                         the platform nor the subject has it"
                        .to_owned(),
            }),
            Priority::Recommended => verdict.warnings.push(format!(
                "`{}` loads {names} while it runs, which neither the platform nor the subject has",
                judged.path.display()
            )),
            Priority::Suggested => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_are_for_newer_processors() {
        let check = |path: &str, level| assert_eq!(variant_level(Path::new(path)), level, "{path}");
        check("lib/liba.so", 1);
        check("lib/glibc-hwcaps/x86-64-v3/liba.so", 3);
        check("lib/glibc-hwcaps/power9/liba.so", 1);
        check("x86-64-v3/liba.so", 1);
    }

    #[test]
    fn loaders_and_folders_of_distributions_are_known() {
        let check = |loader: &str, expect| assert_eq!(is_usual_loader(loader), expect, "{loader}");
        check("/lib64/ld-linux-x86-64.so.2", true);
        check("/lib/ld-musl-x86_64.so.1", true);
        check("/nix/store/abc-glibc-2.40/lib/ld-linux-x86-64.so.2", false);
        check("ld.so", false);
        assert!(is_of_the_system("/usr/lib/x86_64-linux-gnu/"));
        assert!(!is_of_the_system("/usr/lib/llvm-16/lib"));
        assert!(!is_of_the_system("/usr/local/lib"));
    }
}

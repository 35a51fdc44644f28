//! From an executable to every file that its system's loader would load with it.
//!
//! Owns the loaders' search rules: glibc and musl (`elf`), dyld (`macho`), Windows (`pe`). Reads
//! files below a root folder, so that a foreign system's tree works on any host; changes nothing.
//! Variables of the environment (`LD_LIBRARY_PATH`, `DYLD_*`, `PATH`) are ignored on purpose: a
//! bundle must not depend on who made it.

mod elf;
mod ld_so_conf;
mod macho;
mod pe;
mod root;

pub use root::Root;

use crate::{
    error::Error,
    inspect::{Binary, Format, Priority, inspect},
    policy,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// A file of the closure.
#[derive(Clone, Debug)]
pub struct Object {
    /// The real file below the root, links resolved.
    pub file: PathBuf,
    /// The name that others need it by; for what was asked for, the file's own name.
    pub name: String,
    /// What it says of itself.
    pub binary: Binary,
    /// What it needs, in its order, and where that was found.
    pub needs: Vec<(String, Found)>,
    /// Variants for newer processors: the name below `glibc-hwcaps` and the real file.
    pub variants: Vec<(String, PathBuf)>,
    /// Whether the caller asked for it, so that its place in the bundle is the caller's.
    pub is_asked_for: bool,
}

/// Where a needed library is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The object with this index.
    Object(usize),
    /// Part of the system below every bundle: never copied.
    System,
    /// Nowhere, and the loader goes on without it (weak or delayed).
    Absent,
}

/// All files that belong together.
#[derive(Clone, Debug, Default)]
pub struct Closure {
    /// What was asked for first, then what these need, breadth first as a loader does it.
    pub objects: Vec<Object>,
    /// The names that were left to the system.
    pub system: BTreeSet<String>,
}

/// How the closure is looked for.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Names that are left to the system too.
    pub exclude: BTreeSet<String>,
    /// More folders to search for DLLs (the installation's own folder is searched anyway).
    pub dll_folders: Vec<PathBuf>,
}

/// The closure of these files below `root`.
///
/// # Errors
/// When a file cannot be read or is in none of the three formats, when files of two formats are mixed,
/// and when a library is found nowhere.
pub fn closure(root: &Root, files: &[PathBuf], options: &Options) -> Result<Closure, Error> {
    let mut found = Closure::default();
    let mut by_file: BTreeMap<PathBuf, usize> = BTreeMap::new();
    let mut parents: Vec<Option<usize>> = Vec::new();
    let mut next = 0;
    for file in files {
        let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let n_before = found.objects.len();
        let index = load(root, file, name, true, &mut found, &mut by_file)?;
        if index == n_before {
            // A module is loaded by the program, which comes first and has loaded its own by then.
            let is_module = index > 0 && !is_program(&found.objects[index].binary);
            parents.push(is_module.then_some(0));
        }
        follow(root, options, &mut found, &mut by_file, &mut parents, &mut next)?;
    }
    Ok(found)
}

/// Looks for what the objects from `next` on need, until nothing new comes up.
fn follow(
    root: &Root,
    options: &Options,
    found: &mut Closure,
    by_file: &mut BTreeMap<PathBuf, usize>,
    parents: &mut Vec<Option<usize>>,
    next: &mut usize,
) -> Result<(), Error> {
    while *next < found.objects.len() {
        let at = *next;
        let object = found.objects[at].clone();
        let mut needs = Vec::new();
        for (name, may_be_absent) in needed_by(&object.binary) {
            if is_system(&object.binary, &name) || options.exclude.contains(&name) {
                found.system.insert(name.clone());
                needs.push((name, Found::System));
                continue;
            }
            let chain = chain_of(&found.objects, parents, at);
            let hit = match &object.binary.format {
                Format::Elf(_) => elf::search(root, &name, &chain, &found.objects)?,
                Format::MachO(_) => macho::search(root, &name, &chain)?,
                Format::Pe(_) => pe::search(root, &name, &chain, &options.dll_folders)?,
            };
            let Some(hit) = hit else {
                if may_be_absent {
                    needs.push((name, Found::Absent));
                    continue;
                }
                return Err(Error::NotFound { path: object.file.clone(), library: name });
            };
            let n_before = found.objects.len();
            let key = library_name(&object.binary, &name);
            let index = load(root, &hit.file, key, false, found, by_file)?;
            if index == n_before {
                parents.push(Some(at));
                found.objects[index].variants = hit.variants;
            }
            needs.push((name, Found::Object(index)));
        }
        found.objects[at].needs = needs;
        *next += 1;
    }
    Ok(())
}

/// What a search gives: the file and its variants for newer processors.
pub(crate) struct Hit {
    file: PathBuf,
    variants: Vec<(String, PathBuf)>,
}

impl Hit {
    fn plain(file: PathBuf) -> Self {
        Self { file, variants: Vec::new() }
    }
}

fn load(
    root: &Root,
    file: &Path,
    name: String,
    is_asked_for: bool,
    found: &mut Closure,
    by_file: &mut BTreeMap<PathBuf, usize>,
) -> Result<usize, Error> {
    let real = root.real(file)?;
    if let Some(index) = by_file.get(&real) {
        return Ok(*index);
    }
    let binary = inspect(&real, &fs_err::read(&real)?)?
        .ok_or_else(|| Error::NoBinary { path: real.clone() })?;
    if let Some(first) = found.objects.first() {
        let is_same =
            std::mem::discriminant(&first.binary.format) == std::mem::discriminant(&binary.format);
        if !is_same {
            return Err(Error::MixedFormats { path: real, other: first.file.clone() });
        }
    }
    by_file.insert(real.clone(), found.objects.len());
    let object =
        Object { file: real, name, binary, needs: Vec::new(), variants: Vec::new(), is_asked_for };
    found.objects.push(object);
    Ok(found.objects.len() - 1)
}

/// The object itself and what loaded it, up to a file that was asked for.
fn chain_of<'a>(objects: &'a [Object], parents: &[Option<usize>], start: usize) -> Vec<&'a Object> {
    let mut chain = vec![&objects[start]];
    let mut at = start;
    while let Some(Some(parent)) = parents.get(at) {
        chain.push(&objects[*parent]);
        at = *parent;
    }
    chain
}

/// Each needed name, and whether the loader goes on without it.
fn needed_by(binary: &Binary) -> Vec<(String, bool)> {
    match &binary.format {
        Format::Elf(elf) => {
            let needed = elf.needed.iter().map(|name| (name.clone(), false));
            // What it loads itself, by its own words; one of several names is enough.
            let wanted = elf.dlopened.iter().filter(|other| other.priority != Priority::Suggested);
            let later = wanted.flat_map(|library| {
                let is_alone = library.names.len() == 1;
                let may_lack = !is_alone || library.priority != Priority::Required;
                library.names.iter().map(move |name| (name.clone(), may_lack))
            });
            needed.chain(later).collect()
        }
        Format::MachO(macho) => {
            let mut names: Vec<(String, bool)> = Vec::new();
            for slice in &macho.slices {
                for name in &slice.needed {
                    if !names.iter().any(|(other, _)| other == name) {
                        names.push((name.clone(), slice.weak.contains(name)));
                    }
                }
            }
            names
        }
        Format::Pe(pe) => {
            let imports = pe.imports.iter().map(|name| (name.clone(), false));
            imports.chain(pe.delayed.iter().map(|name| (name.clone(), true))).collect()
        }
    }
}

/// The name of the copy in the bundle.
fn library_name(binary: &Binary, needed: &str) -> String {
    match &binary.format {
        Format::Pe(_) => needed.to_owned(),
        _ => needed.rsplit('/').next().unwrap_or(needed).to_owned(),
    }
}

fn is_program(binary: &Binary) -> bool {
    match &binary.format {
        Format::Elf(elf) => elf.is_executable,
        Format::MachO(macho) => macho.slices.iter().any(|slice| slice.is_executable),
        Format::Pe(pe) => !pe.is_dll,
    }
}

fn is_system(binary: &Binary, name: &str) -> bool {
    match &binary.format {
        Format::Elf(_) => policy::is_libc_part(name),
        Format::MachO(_) => name.starts_with("/usr/lib/") || name.starts_with("/System/"),
        Format::Pe(_) => policy::is_windows_dll(name),
    }
}

//! Makes a tree that runs from any place: programs, their libraries, their data.
//!
//! `plan` is pure but for reading the closure: which file goes where with which edit. `apply` copies
//! and edits into a folder beside the destination and renames it. `verify` reads every written file
//! again. Files are never stripped afterwards: strip moves what an edit has placed.
//!
//! | format | libraries go to | how they are found |
//! | --- | --- | --- |
//! | ELF | `lib/` | `DT_RPATH`: `$ORIGIN/lib` in programs, `$ORIGIN` in libraries |
//! | Mach-O | `lib/` | install names `@loader_path/lib/NAME`, then an ad-hoc signature |
//! | PE | beside the program | no edit: Windows looks there first |
//!
//! glibc learns `$ORIGIN` of a program from `/proc/self/exe`, so that a root without `/proc` cannot
//! start a dynamic program of any bundle.

mod elf_edit;
mod verify;

pub use elf_edit::set_rpath;
pub use verify::{ask_loader, verify};

use crate::{
    closure::{Closure, Found, Object, Options, Root, closure},
    error::Error,
    inspect::Format,
    macho,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
};

/// What is to be made relocatable.
#[derive(Clone, Debug)]
pub struct Request {
    /// The system whose files are taken.
    pub root: Root,
    /// Programs, and modules that these load by `dlopen`, each with its place in the tree.
    pub files: Vec<Placed>,
    /// Files and folders that are copied as they are.
    pub data: Vec<Placed>,
    /// Where libraries go, as a path in the tree (not for PE).
    pub library_folder: PathBuf,
    /// How libraries are looked for.
    pub options: Options,
    /// The entitlements of Mach-O programs; see [`macho::HYPERVISOR`].
    pub entitlements: Vec<String>,
}

/// A file and its place in the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The file or folder, below the request's root.
    pub from: PathBuf,
    /// Its place, as a path in the tree.
    pub to: PathBuf,
}

/// What will be done.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// The copies, by place.
    pub copies: Vec<Copy>,
    /// Libraries that are left to the system.
    pub system: BTreeSet<String>,
}

/// One file of the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// The real file.
    pub from: PathBuf,
    /// Its place, as a path in the tree.
    pub to: PathBuf,
    /// What is changed in it.
    pub edit: Edit,
}

/// What is changed in a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Nothing.
    None,
    /// The search path of an ELF file.
    Rpath(String),
    /// Names and signature of a Mach-O file.
    MachO(macho::Change),
}

impl Plan {
    /// How many libraries the tree carries, without those that were asked for by name.
    pub fn n_libraries(&self, request: &Request) -> usize {
        let folder = |copy: &&Copy| {
            copy.edit != Edit::None
                && copy.to.parent() == Some(&request.library_folder)
                && !request.files.iter().any(|file| file.to == copy.to)
        };
        self.copies.iter().filter(folder).count()
    }
}

/// The files that a pattern names below `root`, placed into `folder` under their own names.
///
/// # Errors
/// When the pattern is malformed, or nothing matches it: a module that is missing shows late.
pub fn modules(root: &Root, pattern: &str, folder: &Path) -> Result<Vec<Placed>, Error> {
    let start = glob::Pattern::escape(root.path().to_string_lossy().trim_end_matches('/'));
    let whole = format!("{start}/{}", pattern.trim_start_matches('/'));
    let paths = glob::glob(&whole)
        .map_err(|source| Error::Pattern { pattern: pattern.to_owned(), source })?;
    let placed: Vec<Placed> = paths
        .flatten()
        .filter(|path| path.is_file())
        .map(|from| Placed { to: folder.join(from.file_name().unwrap_or_default()), from })
        .collect();
    if placed.is_empty() {
        return Err(Error::NoMatch { pattern: pattern.to_owned() });
    }
    Ok(placed)
}

/// Which file goes where, with which edit.
///
/// # Errors
/// As [`closure`], and when two files want one place, or a place lies outside the tree.
pub fn plan(request: &Request) -> Result<Plan, Error> {
    let files: Vec<PathBuf> = request.files.iter().map(|file| file.from.clone()).collect();
    let found = closure(&request.root, &files, &request.options)?;
    let mut plan = plan_closure(request, &found)?;
    for data in &request.data {
        let from = request.root.real(&data.from)?;
        add_data(&request.root, &from, &data.to, &mut plan.copies)?;
    }
    plan.copies.sort_by(|a, b| a.to.cmp(&b.to));
    for pair in plan.copies.windows(2) {
        if pair[0].to == pair[1].to && pair[0] != pair[1] {
            let [place, one, other] =
                [&pair[0].to, &pair[0].from, &pair[1].from].map(PathBuf::clone);
            return Err(Error::Place { place, one, other });
        }
    }
    plan.copies.dedup();
    Ok(plan)
}

/// The part of the plan that needs no file system.
fn plan_closure(request: &Request, found: &Closure) -> Result<Plan, Error> {
    let mut asked: BTreeMap<PathBuf, Vec<&Placed>> = BTreeMap::new();
    for file in &request.files {
        check_place(&file.to)?;
        asked.entry(request.root.real(&file.from)?).or_default().push(file);
    }
    let is_pe = matches!(found.objects.first().map(|o| &o.binary.format), Some(Format::Pe(_)));
    let program_folder = request.files.first().and_then(|file| file.to.parent());
    let library_folder = match (is_pe, program_folder) {
        (true, Some(folder)) => folder.to_path_buf(),
        _ => request.library_folder.clone(),
    };
    check_place(&library_folder.join("x"))?;
    let places = |object: &Object| -> Vec<PathBuf> {
        match asked.get(&object.file) {
            Some(placed) => placed.iter().map(|file| file.to.clone()).collect(),
            None => vec![library_folder.join(&object.name)],
        }
    };
    let mut plan = Plan { copies: Vec::new(), system: found.system.clone() };
    for object in &found.objects {
        for to in places(object) {
            let folder = to.parent().unwrap_or(Path::new("")).to_path_buf();
            let edit = match &object.binary.format {
                Format::Elf(_) => Edit::Rpath(origin(&folder, &library_folder)),
                Format::Pe(_) => Edit::None,
                Format::MachO(macho) => Edit::MachO(macho::Change {
                    identifier: file_name(&to),
                    install_name: macho
                        .slices
                        .iter()
                        .any(|slice| slice.install_name.is_some())
                        .then(|| format!("@loader_path/{}", file_name(&to))),
                    libraries: object
                        .needs
                        .iter()
                        .filter_map(|(name, where_it_is)| {
                            let Found::Object(index) = where_it_is else { return None };
                            let place = places(&found.objects[*index]).into_iter().next()?;
                            let path = relative(&folder, &place);
                            Some((name.clone(), format!("@loader_path/{path}")))
                        })
                        .collect(),
                    entitlements: match macho.slices.iter().any(|slice| slice.is_executable) {
                        true => request.entitlements.clone(),
                        false => Vec::new(),
                    },
                }),
            };
            plan.copies.push(Copy { from: object.file.clone(), to, edit });
        }
        for (level, file) in &object.variants {
            let folder = library_folder.join("glibc-hwcaps").join(level);
            let edit = Edit::Rpath(origin(&folder, &library_folder));
            plan.copies.push(Copy { from: file.clone(), to: folder.join(&object.name), edit });
        }
    }
    Ok(plan)
}

/// `$ORIGIN` with the way from a file's folder to the libraries.
fn origin(folder: &Path, library_folder: &Path) -> String {
    match relative(folder, library_folder).as_str() {
        "" => "$ORIGIN".to_owned(),
        path => format!("$ORIGIN/{path}"),
    }
}

/// The way from one folder of the tree to a path of it, with `/` between names.
fn relative(from: &Path, to: &Path) -> String {
    let names = |path: &Path| -> Vec<String> {
        let components = path.components().filter(|part| matches!(part, Component::Normal(_)));
        components.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect()
    };
    let (from, to) = (names(from), names(to));
    let n_shared = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..", from.len() - n_shared);
    up.chain(to[n_shared..].iter().map(String::as_str)).collect::<Vec<_>>().join("/")
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn check_place(to: &Path) -> Result<(), Error> {
    let is_inside =
        to.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if is_inside { Ok(()) } else { Err(Error::Outside { place: to.to_path_buf() }) }
}

fn add_data(root: &Root, from: &Path, to: &Path, copies: &mut Vec<Copy>) -> Result<(), Error> {
    check_place(to)?;
    if !from.is_dir() {
        copies.push(Copy { from: from.to_path_buf(), to: to.to_path_buf(), edit: Edit::None });
        return Ok(());
    }
    for entry in fs_err::read_dir(from)? {
        let entry = entry?;
        // A link that leads nowhere (its package is not installed) has no data to copy.
        let Ok(real) = root.real(&entry.path()) else { continue };
        add_data(root, &real, &to.join(entry.file_name()), copies)?;
    }
    Ok(())
}

/// Writes the tree at `destination`, which must not exist. It appears whole or not at all.
///
/// # Errors
/// When a file cannot be copied or edited, or the destination exists.
pub fn apply(plan: &Plan, destination: &Path) -> Result<(), Error> {
    if destination.exists() {
        return Err(Error::Exists { path: destination.to_path_buf() });
    }
    let parent = match destination.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    fs_err::create_dir_all(&parent)?;
    let beside = tempfile::Builder::new().prefix(".bundle-").tempdir_in(&parent)?;
    let tree = beside.path().join("tree");
    for copy in &plan.copies {
        let to = tree.join(&copy.to);
        if let Some(folder) = to.parent() {
            fs_err::create_dir_all(folder)?;
        }
        match edited(copy)? {
            Some(bytes) => {
                write_sparse(&to, &bytes)?;
                fs_err::set_permissions(&to, fs_err::metadata(&copy.from)?.permissions())?;
            }
            None => {
                fs_err::copy(&copy.from, &to)?;
            }
        }
    }
    fs_err::rename(&tree, destination)?;
    Ok(())
}

/// The changed bytes of a copy; none when it is copied as it is.
fn edited(copy: &Copy) -> Result<Option<Vec<u8>>, Error> {
    match &copy.edit {
        Edit::None => Ok(None),
        Edit::Rpath(rpath) => set_rpath(&copy.from, &fs_err::read(&copy.from)?, rpath),
        Edit::MachO(change) => {
            macho::change(&copy.from, &fs_err::read(&copy.from)?, change).map(Some)
        }
    }
}

/// Writes a file with holes where whole blocks are zero: padding takes no room on disk.
fn write_sparse(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    use std::io::{Seek as _, SeekFrom, Write as _};
    const BLOCK: usize = 4096;
    let mut file = fs_err::File::create(path)?;
    for (index, block) in bytes.chunks(BLOCK).enumerate() {
        if block.iter().any(|byte| *byte != 0) {
            file.seek(SeekFrom::Start((index * BLOCK) as u64))?;
            file.write_all(block)?;
        }
    }
    file.set_len(bytes.len() as u64)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_to_the_libraries_is_relative() {
        let check = |folder: &str, libraries: &str, expect: &str| {
            assert_eq!(origin(Path::new(folder), Path::new(libraries)), expect);
        };
        check("", "lib", "$ORIGIN/lib");
        check("bin", "bin/lib", "$ORIGIN/lib");
        check("lib", "lib", "$ORIGIN");
        check("lib/qemu", "lib", "$ORIGIN/..");
        check("bin/glibc-hwcaps/x86-64-v3", "lib", "$ORIGIN/../../../lib");
    }

    #[test]
    fn nothing_is_placed_outside_the_tree() {
        for place in ["../x", "/etc/passwd", "a/../../b"] {
            let error = check_place(Path::new(place)).unwrap_err();
            assert_eq!(error.to_string(), format!("The place `{place}` lies outside the tree"));
        }
        check_place(Path::new("lib/a.so")).unwrap();
    }
}

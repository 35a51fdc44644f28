//! Which libraries of the subject an ELF file finds: the rules of glibc's and musl's loaders.
//!
//! glibc: ld.so(8); musl: `ldso/dynlink.c`. Only search paths that begin at `$ORIGIN` can lead into
//! the subject.

use crate::{
    inspect::{Elf, Libc},
    verdict::{
        place::{clean, folder, installed},
        reach::{Hit, Loader},
    },
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

pub(super) struct Elves<'a> {
    files: Vec<(PathBuf, &'a Elf)>,
    by_place: HashMap<PathBuf, Vec<usize>>,
}

impl<'a> Elves<'a> {
    pub(super) fn new(files: &[(&'a Path, &'a Elf)]) -> Self {
        let files: Vec<(PathBuf, &Elf)> =
            files.iter().map(|(path, elf)| (installed(path), *elf)).collect();
        let mut by_place: HashMap<PathBuf, Vec<usize>> = HashMap::new();
        for (index, (place, _)) in files.iter().enumerate() {
            by_place.entry(place.clone()).or_default().push(index);
        }
        Self { files, by_place }
    }

    /// All names that a file loads: what it needs, then what it loads itself.
    pub(super) fn names(elf: &Elf) -> impl Iterator<Item = &str> {
        let later = elf.dlopened.iter().flat_map(|library| &library.names);
        elf.needed.iter().chain(later).map(String::as_str)
    }

    /// The folders that are searched for the first file of the chain.
    fn folders(&self, chain: &[usize]) -> Vec<PathBuf> {
        let libc = chain.iter().rev().find_map(|file| self.files[*file].1.libc());
        let own = self.files[chain[0]].1;
        let mut folders = Vec::new();
        let mut add = |file: usize, texts: &[String]| {
            let place = &self.files[file].0;
            folders.extend(texts.iter().filter_map(|text| beside(place, text)));
        };
        if libc == Some(Libc::Musl) {
            // Both tags alike, and both inherited.
            for file in chain {
                add(*file, self.files[*file].1.own_search());
            }
            return folders;
        }
        // DT_RPATH is inherited by what a file needs, DT_RUNPATH is not.
        if own.runpath.is_none() {
            for file in chain.iter().filter(|file| self.files[**file].1.runpath.is_none()) {
                add(*file, &self.files[*file].1.rpath);
            }
        }
        add(chain[0], own.runpath.as_deref().unwrap_or_default());
        folders
    }
}

impl Loader for Elves<'_> {
    fn n_files(&self) -> usize {
        self.files.len()
    }

    fn starts(&self, file: usize) -> bool {
        let (place, elf) = &self.files[file];
        let name = place.file_name().unwrap_or_default().to_string_lossy();
        // An interpreter loads extension modules, also those that others are linked with.
        let is_module =
            name.contains(".cpython-") || name.contains(".abi3.") || name.contains(".pypy");
        elf.is_executable || is_module
    }

    fn n_needs(&self, file: usize) -> usize {
        Self::names(self.files[file].1).count()
    }

    fn find(&self, need: usize, chain: &[usize], loaded: &[usize]) -> Hit {
        let asking = self.files[chain[0]].1;
        let Some(name) = Self::names(asking).nth(need).filter(|name| !name.contains('/')) else {
            return Hit::Nothing;
        };
        // What is loaded under this name already is not searched again.
        let is_it = |(order, file): &(usize, &usize)| {
            let (place, elf) = &self.files[**file];
            let has_name = *order > 0 && place.file_name().is_some_and(|other| other == name);
            elf.arch == asking.arch && (has_name || elf.soname.as_deref() == Some(name))
        };
        if let Some((_, file)) = loaded.iter().enumerate().find(is_it) {
            return Hit::File(*file);
        }
        // A file of another machine is passed over.
        let at = |folder: &PathBuf| {
            let files = self.by_place.get(&clean(&folder.join(name)))?;
            files.iter().copied().find(|file| self.files[*file].1.arch == asking.arch)
        };
        self.folders(chain).iter().find_map(at).map_or(Hit::Nothing, Hit::File)
    }
}

/// The folder that a search path with `$ORIGIN` names, inside the subject.
pub(super) fn beside(place: &Path, text: &str) -> Option<PathBuf> {
    let rest = text.strip_prefix("$ORIGIN").or_else(|| text.strip_prefix("${ORIGIN}"))?;
    let is_whole = rest.is_empty() || rest.starts_with('/');
    is_whole.then(|| clean(&folder(place).join(rest.trim_start_matches('/'))))
}

//! Which libraries of the subject a Mach-O slice finds: dyld's rules, for one machine.
//!
//! dyld(1): `@loader_path` is the folder of the file that asks, `@executable_path` that of the program,
//! and `@rpath` stands for the LC_RPATHs of the file and of all that loaded it.

use crate::{
    inspect::MachOSlice,
    verdict::{
        place::{clean, folder, installed},
        reach::{Hit, Loader},
    },
};
use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

pub(super) struct Slices<'a> {
    files: Vec<(PathBuf, &'a MachOSlice)>,
    by_place: HashMap<PathBuf, usize>,
}

impl<'a> Slices<'a> {
    pub(super) fn new(slices: &[(&'a Path, &'a MachOSlice)]) -> Self {
        let files: Vec<(PathBuf, &MachOSlice)> =
            slices.iter().map(|(path, slice)| (installed(path), *slice)).collect();
        let by_place =
            files.iter().enumerate().map(|(index, (place, _))| (place.clone(), index)).collect();
        Self { files, by_place }
    }

    /// The place inside the subject that a name or search path of `file` leads to.
    fn expand(&self, text: &str, file: usize, start: usize) -> Option<PathBuf> {
        let (program, program_slice) = &self.files[start];
        let (from, rest) = if let Some(rest) = text.strip_prefix("@loader_path") {
            (&self.files[file].0, rest)
        } else if let Some(rest) = text.strip_prefix("@executable_path") {
            // Of a module of Python the program is the interpreter, wherever that lies.
            (program_slice.is_executable.then_some(program)?, rest)
        } else {
            return None;
        };
        let is_whole = rest.is_empty() || rest.starts_with('/');
        is_whole.then(|| clean(&folder(from).join(rest.trim_start_matches('/'))))
    }
}

impl Loader for Slices<'_> {
    fn n_files(&self) -> usize {
        self.files.len()
    }

    fn starts(&self, file: usize) -> bool {
        let (place, slice) = &self.files[file];
        slice.is_executable || place.extension().is_some_and(|extension| extension == "so")
    }

    fn n_needs(&self, file: usize) -> usize {
        self.files[file].1.needed.len()
    }

    fn find(&self, need: usize, chain: &[usize], loaded: &[usize]) -> Hit {
        let Some(name) = self.files[chain[0]].1.needed.get(need) else { return Hit::Nothing };
        if name.starts_with("/usr/lib/") || name.starts_with("/System/Library/") {
            return Hit::Outside;
        }
        let has_name =
            |file: &&usize| self.files[**file].1.install_name.as_deref() == Some(name.as_str());
        if let Some(file) = loaded.iter().find(has_name) {
            return Hit::File(*file);
        }
        let start = chain[chain.len() - 1];
        let at = |place: PathBuf| self.by_place.get(&clean(&place)).copied();
        let Some(rest) = name.strip_prefix("@rpath/") else {
            let place = self.expand(name, chain[0], start);
            return place.and_then(at).map_or(Hit::Nothing, Hit::File);
        };
        let mut places = chain.iter().flat_map(|file| {
            let rpaths = self.files[*file].1.rpaths.iter();
            rpaths.filter_map(|rpath| Some(self.expand(rpath, *file, start)?.join(rest)))
        });
        places.find_map(at).map_or(Hit::Nothing, Hit::File)
    }
}

//! Where files of sources lie: in the folder of downloads, which builds of QEMU use too, or with what is ours.

use crate::{Error, Index, Mirrors, SourceFile};
use anyhow::Result;
use fs_err as fs;
use image_builder::apt::Download;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use xtask_base::{context::Context, ui::Step};

/// The folder of downloads.
pub struct Store {
    downloads: PathBuf,
}

/// How many files are asked for at once.
const BATCH: usize = 16;

impl Store {
    pub fn open(context: &Context) -> Result<Self> {
        Ok(Self { downloads: context.cache.folder("downloads")? })
    }

    /// The name that a build of QEMU gives it, too.
    pub fn place(&self, wanted: &SourceFile) -> PathBuf {
        self.downloads.join(format!("{}-{}", &wanted.sha256[..16], wanted.name))
    }

    /// A file of this hash that is here without asking anybody: a patch of ours, a download of a build, a crate.
    pub fn own(&self, context: &Context, name: &str, sha256: &str) -> Result<Option<PathBuf>> {
        let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let cargo = cargo.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
        let registries = cargo.map(|home| home.join("registry/cache"));
        let registries = registries.and_then(|it| fs::read_dir(it).ok()).into_iter().flatten();
        let mut places = vec![
            context.root.join("qemu/patches").join(name),
            context.root.join("crates/quicksand-cli/src/view/novnc").join(name),
            self.downloads.join(format!("{}-{name}", sha256.get(..16).unwrap_or_default())),
        ];
        places.extend(registries.flatten().map(|it| it.path().join(name)));
        for place in places {
            if place.is_file() && sum_of(&place)? == sha256 {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Fetches what is not here, from the first address that has it.
    pub fn fetch(
        &self,
        step: &Step,
        context: &Context,
        index: &Index,
        mirrors: &[&Mirrors],
        wanted: &BTreeMap<String, SourceFile>,
    ) -> Result<()> {
        let is_absent = |it: &SourceFile| !self.place(it).is_file();
        let all: Vec<&SourceFile> = wanted.values().filter(|it| is_absent(it)).collect();
        if context.offline && !all.is_empty() {
            let packages = all.iter().map(|it| it.name.clone()).collect();
            return Err(Error::Gone { packages }.into());
        }
        step.expect(all.iter().map(|it| it.size / 1024).sum());
        let mut n_done = 0;
        for batch in all.chunks(BATCH) {
            let beside = tempfile::Builder::new().prefix(".part-").tempdir_in(&self.downloads)?;
            let addresses = |it: &SourceFile| -> Vec<String> {
                let of = |mirrors: &&Mirrors| {
                    it.paths.iter().flat_map(|path| mirrors.addresses(path)).collect::<Vec<_>>()
                };
                mirrors.iter().flat_map(of).collect()
            };
            let n_addresses = batch.iter().map(|it| addresses(it).len()).max().unwrap_or(0);
            for address in 0..n_addresses {
                let downloads: Vec<Download> = batch
                    .iter()
                    .filter(|it| is_absent(it))
                    .filter_map(|it| {
                        let path = beside.path().join(&it.sha256);
                        let uri = addresses(it).get(address)?.clone();
                        Some(Download { uri, path, sha256: it.sha256.clone() })
                    })
                    .collect();
                if downloads.is_empty() {
                    continue;
                }
                // One that fails is asked for at the next address; what is missing in the end is an error with its name.
                let _ = step.run(index.fetch(&downloads));
                for it in batch {
                    let arrived = beside.path().join(&it.sha256);
                    if arrived.is_file() && sum_of(&arrived)? == it.sha256 {
                        host_platform::rename_whole(&arrived, &self.place(it))?;
                    }
                }
            }
            n_done += batch.iter().map(|it| it.size / 1024).sum::<u64>();
            step.reach(n_done);
        }
        let packages: Vec<String> =
            all.iter().filter(|it| is_absent(it)).map(|it| it.name.clone()).collect();
        match packages.is_empty() {
            true => Ok(()),
            false => Err(Error::Gone { packages }.into()),
        }
    }
}

fn sum_of(path: &Path) -> Result<String> {
    Ok(checksum::sha256_of(fs::File::open(path)?)?)
}

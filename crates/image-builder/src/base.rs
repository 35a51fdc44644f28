//! An installed image as something to bake on: its finished files, and what its metadata says of them.

use crate::{
    tree::Tree,
    wheel::{self, AGENT_TEXTS},
};
use bill_of_materials::image::{self, Component};
use fs_err as fs;
use host_platform::Arch;
use std::{collections::BTreeSet, path::PathBuf};

/// An installed image to bake on.
#[derive(Clone, Debug)]
pub struct Base {
    pub name: String,
    pub version: String,
    /// Its architecture.
    pub arch: Arch,
    pub kernel: PathBuf,
    /// Its initrd, with the agent.
    pub initrd: PathBuf,
    /// Its disks, the bottom one first.
    pub chain: Vec<PathBuf>,
    /// The distribution that pip must install with an overlay on it, as in
    /// `quicksand-debian==0.1.0`; none where the base is not installed as a package.
    pub requirement: Option<String>,
    /// The folder of that distribution's metadata (`dist-info`), which says what the kernel is.
    pub info: Option<PathBuf>,
}

impl Base {
    /// The kernel as the base's bill of materials names it, and its copyright file; else what its
    /// modules say. `below` is the base's tree.
    pub(crate) fn kernel(&self, below: &Tree) -> (Component, Option<String>) {
        let modules = below.iter().find_map(|(path, _)| {
            let release = path.strip_prefix(b"usr/lib/modules/")?;
            Some(String::from_utf8_lossy(release).into_owned())
        });
        let unknown = Component {
            name: "linux".to_owned(),
            version: modules.unwrap_or_default(),
            kind: "operating-system",
            licences: BTreeSet::from(["GPL-2.0-only".to_owned()]),
            ..Component::default()
        };
        let read = |folder: &str, end: &str| self.metadata_file(folder, end);
        let known = read("sboms", ".cdx.json").and_then(|bill| image::kernel(&bill));
        let kernel = known.unwrap_or(unknown);
        let texts = read("licenses", "COPYRIGHT-packages.txt").unwrap_or_default();
        let text = wheel::copyright_of(&texts, &kernel.name).map(str::to_owned);
        (kernel, text)
    }

    /// What is compiled into the agent, as the base's bill of materials says, and the licence texts of that.
    pub(crate) fn agent(&self) -> (Vec<Component>, Option<String>) {
        let bill = self.metadata_file("sboms", ".cdx.json").unwrap_or_default();
        (image::compiled_into(&bill, wheel::AGENT), self.metadata_file("licenses", AGENT_TEXTS))
    }

    /// The text of a file in a folder of the base's metadata, by the end of its name.
    fn metadata_file(&self, folder: &str, end: &str) -> Option<String> {
        let files = fs::read_dir(self.info.as_ref()?.join(folder)).ok()?;
        let mut paths = files.flatten().map(|entry| entry.path());
        let path = paths.find(|path| path.to_string_lossy().ends_with(end))?;
        fs::read_to_string(path).ok()
    }
}

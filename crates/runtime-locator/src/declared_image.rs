//! An image whose package tells its files, because they are not laid out as those of ours.
//!
//! Whoever runs Python asks the object of such a package's entry point; here its files are opened.

use crate::{Error, Folder, ImageFiles, ImageFind, Source};
use host_platform::Arch;
use std::{fs::File, io, path::Path, path::PathBuf, sync::Arc};

/// What the object of an entry point answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeclaredImage {
    /// The image's name.
    pub name: String,
    /// The guest's architecture.
    pub arch: Arch,
    pub kernel: PathBuf,
    /// The initial RAM disk.
    pub initrd: PathBuf,
    /// The disks, the base first.
    pub chain: Vec<PathBuf>,
}

impl DeclaredImage {
    /// The image with its files open.
    pub(crate) fn find(&self) -> Result<ImageFind, Error> {
        if self.chain.is_empty() {
            let reason = "its package tells of no disk".to_owned();
            return Err(Error::Broken { path: self.kernel.clone(), reason });
        }
        let disks = self.chain.iter().map(|path| opened(path).map(Arc::new));
        Ok(ImageFind {
            name: self.name.clone(),
            version: String::new(),
            arch: self.arch,
            kernel: self.kernel.clone(),
            initrd: self.initrd.clone(),
            chain: self.chain.clone(),
            base: self.name.clone(),
            base_name: self.name.clone(),
            n_base_disks: self.chain.len(),
            defaults: serde_json::Map::new(),
            source: Source::Wheel(self.name.clone()),
            tried: Vec::new(),
            notice: None,
            files: ImageFiles {
                memory: None,
                chain: disks.collect::<Result<_, _>>()?,
                kernel: Arc::new(opened(&self.kernel)?),
                initrd: Arc::new(opened(&self.initrd)?),
                manifest: None,
                below: Vec::new(),
            },
        })
    }
}

/// A regular file, which is no link.
fn opened(path: &Path) -> Result<File, Error> {
    let name = path.file_name().and_then(|name| name.to_str());
    let file = match (path.parent(), name) {
        (Some(folder), Some(name)) => Folder::open(folder).and_then(|folder| folder.file(name)),
        _ => Err(io::ErrorKind::InvalidFilename.into()),
    };
    file.map_err(|source| Error::Io { path: path.to_owned(), source })
}

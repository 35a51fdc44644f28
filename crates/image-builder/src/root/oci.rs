//! Reads OCI image layouts, as folders or packed in a tar: index, manifest, layers. Every blob is
//! checked against the digest that names it; what layers do to each other is `files`' matter.
//! <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>

use super::{
    Brought, MAX_BYTES, at,
    container::Config,
    files::{Files, Whiteouts},
    unpacked,
};
use crate::{Error, RootError, tree::Tree};
use fs_err as fs;
use host_platform::Arch;
use serde::{Deserialize, de::DeserializeOwned};
use std::{path::Path, sync::Arc};

/// The most that a JSON document of a layout may hold, in bytes.
const MAX_DOCUMENT: usize = 4 << 20;
/// How deep indexes may name indexes.
const MAX_DEPTH: usize = 4;

/// Reads the image for `arch`, the only one or the one of this platform.
pub(super) fn read(path: &Path, arch: Arch) -> Result<Brought, Error> {
    let layout = Layout::open(path)?;
    let index: Document = layout.parse(&layout.file("index.json")?)?;
    let digest = layout.manifest(index, arch, 0)?;
    layers(&layout, &digest)
}

/// Reads the image of this manifest, whatever platform it is for.
pub(super) fn read_manifest(path: &Path, digest: &str) -> Result<Brought, Error> {
    layers(&Layout { path, packed: None }, digest)
}

/// Lays the layers of a manifest on each other.
fn layers(layout: &Layout, digest: &str) -> Result<Brought, Error> {
    let path = layout.path;
    let manifest: Document = layout.parse(&layout.blob(digest)?)?;
    let mut files = Files::new();
    let mut left = MAX_BYTES;
    for layer in &manifest.layers {
        let packed = layout.blob(&layer.digest)?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut unpacked(&packed, left)?, &mut bytes)
            .map_err(|error| layout.bad(format!("the layer {}: {error}", layer.digest)))?;
        left -= bytes.len() as u64;
        files.add(bytes.as_slice(), Whiteouts::Remove).map_err(|error| at(path, error))?;
    }
    if manifest.layers.is_empty() {
        return Err(layout.bad("its manifest names no layers"));
    }
    let mut tree = files.into_tree().map_err(|error| at(path, error))?;
    if let Some(config) = &manifest.config {
        let config: Config = layout.parse(&layout.blob(&config.digest)?)?;
        config.settle(&mut tree)?;
    }
    Ok(Brought { tree, sha256: digest.trim_start_matches("sha256:").to_owned() })
}

/// An index, or a manifest: the fields of both that count here.
#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    config: Option<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

/// Where the files of a layout are.
struct Layout<'a> {
    path: &'a Path,
    packed: Option<Tree>,
}

impl<'a> Layout<'a> {
    fn open(path: &'a Path) -> Result<Self, Error> {
        if path.is_dir() {
            return Ok(Self { path, packed: None });
        }
        let bytes = fs::read(path)?;
        let mut tree = Tree::new(0);
        tree.add_tar_stream(unpacked(&bytes, MAX_BYTES)?)
            .map_err(|error| at(path, error.into()))?;
        Ok(Self { path, packed: Some(tree) })
    }

    fn bad(&self, detail: impl Into<String>) -> Error {
        Error::Root(RootError::BadRoot { path: self.path.to_owned(), detail: detail.into() })
    }

    fn file(&self, name: &str) -> Result<Arc<[u8]>, Error> {
        let found = match &self.packed {
            Some(tree) => tree.read(name)?,
            None => {
                let path = self.path.join(name);
                path.is_file().then(|| fs::read(path)).transpose()?.map(Into::into)
            }
        };
        found.ok_or_else(|| self.bad(format!("`{name}` is missing; it is no OCI layout")))
    }

    fn blob(&self, digest: &str) -> Result<Arc<[u8]>, Error> {
        let is_hex = |text: &str| {
            text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        };
        let hex = digest
            .strip_prefix("sha256:")
            .filter(|hex| is_hex(hex))
            .ok_or_else(|| self.bad(format!("`{digest}` is no sha256 digest")))?;
        let bytes = self.file(&format!("blobs/sha256/{hex}"))?;
        match crate::sha256(&bytes) == hex {
            true => Ok(bytes),
            false => Err(self.bad(format!("the bytes of `{digest}` are others than that"))),
        }
    }

    fn parse<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, Error> {
        if bytes.len() > MAX_DOCUMENT {
            return Err(self.bad("a document of it is larger than 4 MiB"));
        }
        serde_json::from_slice(bytes).map_err(|error| self.bad(format!("its JSON: {error}")))
    }

    /// The digest of the manifest for an architecture. An index may name further indexes.
    fn manifest(&self, index: Document, arch: Arch, depth: usize) -> Result<String, Error> {
        if depth == MAX_DEPTH {
            return Err(self.bad("its indexes name each other without end"));
        }
        let is_fit = |platform: &Platform| {
            platform.os == "linux" && platform.architecture == arch.image_name()
        };
        let n_all = index.manifests.len();
        let mut fit: Vec<Descriptor> = index
            .manifests
            .into_iter()
            .filter(|one| one.platform.as_ref().is_none_or(is_fit))
            .collect();
        fit.dedup_by(|a, b| a.digest == b.digest);
        let one = match (fit.pop(), fit.is_empty()) {
            (Some(one), true) => one,
            (None, _) => {
                let arch = arch.image_name();
                return Err(self.bad(format!("none of its {n_all} images is for {arch}")));
            }
            (Some(_), false) => {
                return Err(self.bad("it holds several images; bring a layout with one"));
            }
        };
        let document: Document = self.parse(&self.blob(&one.digest)?)?;
        match document.manifests.is_empty() {
            true => Ok(one.digest),
            false => self.manifest(document, arch, depth + 1),
        }
    }
}

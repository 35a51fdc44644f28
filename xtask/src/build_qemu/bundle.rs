//! The bundle in the build cache: executables, firmware, and the record of what they are made of.
//!
//! ```text
//! ENTRY/bin/qemu-system-x86_64 ...      stripped executables, all for this host
//! ENTRY/share/qemu/...                  firmware
//! ENTRY/licences/COMPONENT/...          licence texts
//! ENTRY/record.json                     [`Record`]
//! ```

use super::{
    compile::{self, Workshop},
    fetch::{Fetched, PrivateApt},
    linked::{self, Owners},
    pins::Licences,
    source,
};
use crate::{context::Context, ui::Step};
use anyhow::{Context as _, Result};
use binary_bundler::{Component, How};
use duct::cmd;
use fs_err as fs;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

/// Where the executables lie in an entry.
pub const BIN: &str = "bin";
/// Where the firmware lies in an entry.
pub const FIRMWARE: &str = "share/qemu";
/// Where the licence texts lie in an entry, one folder for each component.
pub const LICENCES: &str = "licences";
const RECORD: &str = "record.json";

/// The firmware of the `seabios` package that a guest of ours loads: the PC firmware, and the VGA
/// BIOS of virtio-vga.
const SEABIOS: &[&str] = &["bios-256k.bin", "vgabios-virtio.bin"];

/// What a bundle was made of.
#[derive(Debug, Serialize, Deserialize)]
pub struct Record {
    /// QEMU's version, as its own VERSION file says.
    pub qemu_version: String,
    /// How QEMU's source was chosen, in words.
    pub chosen: String,
    /// For each file of the bundle, by its path in the entry, the components in it.
    pub files: BTreeMap<String, Vec<Component>>,
}

impl Record {
    /// Reads the record of an entry.
    pub fn read(entry: &Path) -> Result<Self> {
        Ok(serde_json::from_slice(&fs::read(entry.join(RECORD))?)?)
    }

    /// Writes the record into an entry.
    pub fn write(&self, entry: &Path) -> Result<()> {
        Ok(fs::write(entry.join(RECORD), serde_json::to_vec_pretty(self)?)?)
    }

    /// The components of some of the entry's files, each once.
    pub fn components<'a>(&self, files: impl IntoIterator<Item = &'a str>) -> Vec<Component> {
        let mut merged: BTreeMap<(String, String), Component> = BTreeMap::new();
        for component in files.into_iter().filter_map(|file| self.files.get(file)).flatten() {
            let key = (component.name.clone(), component.version.clone());
            let known = merged
                .entry(key)
                .or_insert_with(|| Component { files: vec![], ..component.clone() });
            known.files.extend(component.files.iter().cloned());
            known.files.sort();
            known.files.dedup();
        }
        let mut components: Vec<Component> = merged.into_values().collect();
        components.sort_by(|a, b| (a.how, &a.name).cmp(&(b.how, &b.name)));
        components
    }
}

/// The sources that a bundle is made from.
pub struct Sources {
    /// The name of QEMU's tarball, as its publisher gave it.
    pub qemu_name: String,
    /// Its SHA-256.
    pub qemu_sha256: String,
    /// The distribution's version, when it is the distribution's package.
    pub qemu_package: Option<String>,
    /// Our changes to QEMU.
    pub patches: Vec<PathBuf>,
    /// How the source was chosen, in words.
    pub chosen: String,
    /// User networking.
    pub libslirp: Fetched,
    /// The package with the PC firmware.
    pub seabios: Fetched,
}

/// Gathers the built files of `shop` into the cache entry `entry`, with the record of their parts.
pub fn gather(
    context: &Context,
    shop: &Workshop,
    step: &Step,
    apt: &PrivateApt,
    sources: &Sources,
    licences: &Licences,
    entry: &Path,
) -> Result<()> {
    let firmware = entry.join(FIRMWARE);
    fs::create_dir_all(entry.join(BIN))?;
    compile::firmware(shop, step, &firmware)?;
    let qemu_version = fs::read_to_string(shop.qemu().join("VERSION"))?.trim().to_owned();
    let own = OwnParts { shop, sources, licences, qemu_version: &qemu_version };
    let mut files = BTreeMap::new();
    for name in files_below(&firmware)? {
        let part = if name == "qboot.rom" { "qboot" } else { "qemu" };
        let path = format!("{FIRMWARE}/{name}");
        files.insert(path.clone(), vec![own.component(part, vec![path])?]);
    }
    let unpacked = shop.root.join("seabios");
    step.run(cmd!("dpkg-deb", "--extract", &sources.seabios.file, &unpacked))?;
    for name in SEABIOS {
        let path = format!("{FIRMWARE}/{name}");
        fs::copy(unpacked.join("usr/share/seabios").join(name), entry.join(&path))?;
        files.insert(path.clone(), vec![own.component("seabios", vec![path])?]);
    }
    own.copy_texts(entry, &unpacked)?;

    step.say("reading what was linked in");
    if let Err(error) = apt.update(context, step) {
        // What was linked is known by the hashes of its archives all the same.
        let warning =
            "warning: the hashes of the linked libraries' source packages stay out of SOURCES";
        context.ui.line(&format!("{warning}: {error}"));
    }
    let mut owners = Owners::default();
    let mut linked_packages = BTreeSet::new();
    for name in compile::executables() {
        let path = format!("{BIN}/{name}");
        compile::strip(step, &shop.executable(&name), &entry.join(&path))?;
        let linked = linked::linked(&shop.link_map(&name), &shop.root, &mut owners)?;
        let mut parts = vec![own.component("qemu", vec![path.clone()])?];
        if linked.own.iter().any(|file| file.starts_with(shop.prefix())) {
            parts.push(own.component("libslirp", vec![path.clone()])?);
        }
        for (source, part) in linked.packages {
            parts.push(Component {
                license: licences.of_linked(&source.name)?,
                sources: apt.source_files(&source.name, &source.version)?,
                name: source.name.clone(),
                version: source.version,
                how: How::StaticallyLinked,
                distributor: Some(distributor()?),
                files: part.files.into_iter().collect(),
                patches: vec![],
            });
            linked_packages
                .extend(part.packages.into_iter().map(|package| (source.name.clone(), package)));
        }
        files.insert(path, parts);
    }
    for (source, package) in linked_packages {
        let bare = package.split(':').next().unwrap_or(&package);
        let text = PathBuf::from("/usr/share/doc").join(bare).join("copyright");
        copy_text(entry, &source, &text, &format!("{bare}.copyright"))?;
    }
    Record { qemu_version, chosen: sources.chosen.clone(), files }.write(entry)
}

/// The host's distribution by its name in `os-release(5)`: whose libraries were linked in.
fn distributor() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release")?;
    let id = text.lines().find_map(|line| line.strip_prefix("ID="));
    Ok(id.context("/etc/os-release names no distribution")?.trim_matches(['"', '\'']).to_owned())
}

/// The components that are built or bundled here.
struct OwnParts<'a> {
    shop: &'a Workshop,
    sources: &'a Sources,
    licences: &'a Licences,
    qemu_version: &'a str,
}

impl OwnParts<'_> {
    fn component(&self, name: &str, files: Vec<String>) -> Result<Component> {
        let sources = self.sources;
        let mut component = Component {
            name: name.to_owned(),
            version: String::new(),
            how: How::Built,
            license: self.licences.of_bundled(name)?,
            distributor: Some("debian".to_owned()),
            files,
            sources: vec![],
            patches: vec![],
        };
        let of_pin = |fetched: &Fetched| {
            let pin = &fetched.pin;
            let debian = pin.debian.as_ref().map(|file| (&file.path, &file.sha256));
            std::iter::once((&pin.path, &pin.sha256))
                .chain(debian)
                .map(|(path, sha256)| (base_name(path), sha256.as_str().to_owned()))
                .collect::<Vec<_>>()
        };
        match name {
            "seabios" => {
                component.how = How::Bundled;
                component.version.clone_from(&sources.seabios.pin.version);
                component.sources = of_pin(&sources.seabios);
            }
            "libslirp" => {
                component.how = How::StaticallyLinked;
                component.version.clone_from(&sources.libslirp.pin.version);
                component.sources = of_pin(&sources.libslirp);
            }
            // QEMU, and qboot, which is a folder of QEMU's source.
            _ => {
                // No distribution has a source package of qboot: it is known by QEMU's release.
                let package = sources.qemu_package.as_deref().filter(|_| name == "qemu");
                component.version = package.unwrap_or(self.qemu_version).to_owned();
                component.distributor = package.map(|_| "debian".to_owned());
                component.sources = vec![(sources.qemu_name.clone(), sources.qemu_sha256.clone())];
                for patch in &sources.patches {
                    let name = base_name(&patch.display().to_string());
                    component.patches.push((name, source::sha256_of(patch)?));
                }
            }
        }
        Ok(component)
    }

    fn copy_texts(&self, entry: &Path, seabios: &Path) -> Result<()> {
        for name in ["COPYING", "COPYING.LIB", "LICENSE"] {
            copy_text(entry, "qemu", &self.shop.qemu().join(name), name)?;
        }
        copy_text(entry, "qboot", &self.shop.qemu().join("roms/qboot/LICENSE"), "LICENSE")?;
        copy_text(entry, "libslirp", &self.shop.libslirp().join("COPYRIGHT"), "COPYRIGHT")?;
        let copyright = self.shop.libslirp().join("debian/copyright");
        copy_text(entry, "libslirp", &copyright, "debian.copyright")?;
        let copyright = seabios.join("usr/share/doc/seabios/copyright");
        copy_text(entry, "seabios", &copyright, "copyright")
    }
}

/// The name of a file without its folders.
fn base_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

fn copy_text(entry: &Path, component: &str, from: &Path, name: &str) -> Result<()> {
    let folder = entry.join(LICENCES).join(component);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), fs::read(from)?)?;
    Ok(())
}

/// The files below a folder, by relative path with `/`, sorted.
pub fn files_below(folder: &Path) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for found in walkdir::WalkDir::new(folder).sort_by_file_name() {
        let found = found?;
        if found.file_type().is_file() {
            files.push(found.path().strip_prefix(folder)?.to_string_lossy().into_owned());
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn component(name: &str, file: &str) -> Component {
        Component {
            name: name.to_owned(),
            version: "1".to_owned(),
            how: How::StaticallyLinked,
            license: "MIT".to_owned(),
            distributor: None,
            files: vec![file.to_owned()],
            sources: vec![],
            patches: vec![],
        }
    }

    #[test]
    fn only_the_components_of_the_given_files_count_each_once() {
        let files = [
            ("bin/a", vec![component("zlib", "libz.a"), component("glib", "libglib.a")]),
            ("bin/b", vec![component("zlib", "libz2.a")]),
            ("bin/c", vec![component("pixman", "libpixman.a")]),
        ];
        let record = Record {
            qemu_version: "10".to_owned(),
            chosen: "apt".to_owned(),
            files: files.map(|(file, parts)| (file.to_owned(), parts)).into(),
        };
        let found = record.components(["bin/a", "bin/b"]);
        let names: Vec<&str> = found.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["glib", "zlib"]);
        assert_eq!(found[1].files, ["libz.a", "libz2.a"]);
    }
}

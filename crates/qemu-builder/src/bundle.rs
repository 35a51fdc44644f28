//! The bundle in the build cache: executables, firmware, and the record of what they are made of.
//!
//! ```text
//! ENTRY/bin/qemu-system-x86_64 ...      stripped executables, all for this host
//! ENTRY/share/qemu/...                  firmware
//! ENTRY/licences/COMPONENT/...          licence texts
//! ENTRY/record.json                     [`Record`]
//! ```

use super::{
    choice::Choice,
    compile::{self, Workshop},
    emulator::Emulator,
    fetch::{Fetched, PrivateApt},
    libraries::{self, Chosen},
    linked::{self, Linked, Owners},
    pins::{Licences, Pin},
    source,
    sysroot::Sysroot,
    zig,
};
use anyhow::{Context as _, Result};
use bill_of_materials::{Component, How};
use duct::cmd;
use fs_err as fs;
use host_platform::Arch;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};
use xtask_base::{
    context::Context,
    ui::{Step, hinted},
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
    /// What compiled and linked it, in words; empty where it is not known.
    #[serde(default)]
    pub compiled_with: String,
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

/// What a bundle is made from.
pub struct Sources {
    /// QEMU's source.
    pub choice: Choice,
    /// Our changes to QEMU.
    pub patches: Vec<PathBuf>,
    /// The package with the PC firmware.
    pub seabios: Fetched,
    /// What QEMU is linked from.
    pub libraries: Vec<Chosen>,
    /// The licences of everything else.
    pub licences: Licences,
}

/// Gathers the built programs of `shop` into the cache entry `entry`, with the firmware that belongs to
/// them and the record of their parts.
pub fn gather(
    context: &Context,
    shop: &Workshop,
    step: &Step,
    apt: &PrivateApt,
    sources: &Sources,
    emulator: Emulator,
    entry: &Path,
) -> Result<()> {
    fs::create_dir_all(entry.join(BIN))?;
    let qemu_version = fs::read_to_string(shop.qemu().join("VERSION"))?.trim().to_owned();
    let own = OwnParts { shop, sources, qemu_version: &qemu_version };
    let mut files = firmware(&own, step, emulator, entry)?;
    step.say("reading what was linked in");
    let mut owners = Owners::default();
    let sysroot = shop.sysroot.as_ref();
    let mut of_sysroot = sysroot.map(|it| Owners::from_database(it.database()));
    for name in emulator.programs(shop.target) {
        let path = format!("{BIN}/{name}");
        compile::strip(shop, step, &name, &entry.join(&path))?;
        let files_of_link = match shop.zig {
            Some(_) => compile::link_inputs(shop, &name)?.into_iter().collect(),
            None => linked::files(&shop.link_map(&name))?,
        };
        let foreign = sysroot.map(Sysroot::root).zip(of_sysroot.as_mut());
        let linked = linked::linked(files_of_link, &shop.root, &mut owners, foreign)?;
        let mut parts = vec![own.component("qemu", vec![path.clone()])?];
        parts.extend(library_components(context, shop, sources, &linked, &path, entry)?);
        parts.extend(toolchain_components(apt, sources, sysroot, linked, entry)?);
        if shop.zig.is_some() {
            parts.push(zig_component(shop, sources, &path, entry)?);
        }
        files.insert(path, parts);
    }
    let compiled_with = shop.toolchain.words()?;
    Record { qemu_version, chosen: sources.choice.words(), compiled_with, files }.write(entry)
}

/// What zig adds by itself: MinGW's C library and the compiler's own.
fn zig_component(
    shop: &Workshop,
    sources: &Sources,
    program: &str,
    entry: &Path,
) -> Result<Component> {
    let (name, version) = zig::REQUIREMENT.split_once("==").context("zig has a version")?;
    let texts = shop.zig.as_ref().context("Another compiler")?.join("licences");
    libraries::copy_tree(&texts, &entry.join(LICENCES).join(name))?;
    Ok(Component {
        name: name.to_owned(),
        version: version.to_owned(),
        how: How::StaticallyLinked,
        license: sources.licences.for_toolchain(name).context("zig has no licence in the table")?,
        distributor: None,
        files: vec![program.to_owned()],
        sources: vec![],
        patches: vec![],
    })
}

/// Gathers the firmware.
fn firmware(
    own: &OwnParts<'_>,
    step: &Step,
    emulator: Emulator,
    entry: &Path,
) -> Result<BTreeMap<String, Vec<Component>>> {
    let folder = entry.join(FIRMWARE);
    own.copy_texts("qemu", entry)?;
    compile::keymap(own.shop, &folder)?;
    if emulator.guest(own.shop.target) == Arch::Amd64 {
        compile::firmware(own.shop, step, &folder)?;
        own.copy_texts("qboot", entry)?;
        let unpacked = own.shop.root.join("seabios");
        step.run(cmd!("dpkg-deb", "--extract", &own.sources.seabios.file, &unpacked))?;
        for name in SEABIOS {
            fs::copy(unpacked.join("usr/share/seabios").join(name), folder.join(name))?;
        }
        let copyright = unpacked.join("usr/share/doc/seabios/copyright");
        copy_text(entry, "seabios", &copyright, "copyright")?;
    }
    let mut files = BTreeMap::new();
    for name in files_below(&folder)? {
        let part = match name.as_str() {
            "qboot.rom" => "qboot",
            name if SEABIOS.contains(&name) => "seabios",
            _ => "qemu",
        };
        let path = format!("{FIRMWARE}/{name}");
        files.insert(path.clone(), vec![own.component(part, vec![path])?]);
    }
    Ok(files)
}

/// The libraries that a program was linked from.
fn library_components(
    context: &Context,
    shop: &Workshop,
    sources: &Sources,
    linked: &Linked,
    program: &str,
    entry: &Path,
) -> Result<Vec<Component>> {
    let linked_libraries = linked.own.iter().filter(|file| file.starts_with(shop.libraries()));
    let archives: BTreeSet<_> = linked_libraries.filter_map(|file| file.file_name()).collect();
    let mut parts = vec![];
    for library in &sources.libraries {
        let built = library.entry(context)?;
        if !archives.iter().any(|name| built.join("prefix/lib").join(name).is_file()) {
            continue;
        }
        let pin = &library.pin;
        // Only with its changes is it the distribution's version: who reads the number would believe
        // in fixes that are not in it.
        let upstream = pin.upstream.clone().filter(|_| pin.debian.is_none());
        parts.push(Component {
            name: library.name().to_owned(),
            distributor: upstream.is_none().then(|| "debian".to_owned()),
            version: upstream.unwrap_or_else(|| pin.version.clone()),
            how: How::StaticallyLinked,
            license: library.licence().to_owned(),
            files: vec![program.to_owned()],
            sources: files_of(pin),
            patches: hashes(&library.patches())?,
        });
        let place = entry.join(LICENCES).join(library.name());
        libraries::copy_tree(&built.join("licences"), &place)?;
    }
    Ok(parts)
}

/// What the linker took of the host's compiler and C library. Anything else of the host is an error:
/// another host has another version of it, or none.
fn toolchain_components(
    apt: &PrivateApt,
    sources: &Sources,
    sysroot: Option<&Sysroot>,
    linked: Linked,
    entry: &Path,
) -> Result<Vec<Component>> {
    let mut parts = vec![];
    for (source, part) in linked.packages {
        let license = sources.licences.for_toolchain(&source.name).ok_or_else(|| {
            let files: Vec<&str> = part.files.iter().map(String::as_str).collect();
            hinted(
                format!("Something of the host was linked in: {}", files.join(", ")),
                "add the library to qemu/libraries.toml, or switch off the feature of QEMU that \
                 takes it",
            )
        })?;
        for package in &part.packages {
            let bare = package.split(':').next().unwrap_or(package);
            let place = Path::new("usr/share/doc").join(bare).join("copyright");
            let of_sysroot = sysroot.map(|it| it.root().join(&place)).filter(|it| it.is_file());
            let text = of_sysroot.unwrap_or_else(|| Path::new("/").join(&place));
            copy_text(entry, &source.name, &text, &format!("{bare}.copyright"))?;
        }
        parts.push(Component {
            license,
            sources: apt.source_files(&source.name, &source.version)?,
            name: source.name,
            version: source.version,
            how: How::StaticallyLinked,
            distributor: Some(distributor()?),
            files: part.files.into_iter().collect(),
            patches: vec![],
        });
    }
    Ok(parts)
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
    qemu_version: &'a str,
}

impl OwnParts<'_> {
    /// QEMU, qboot, which is a folder of QEMU's source, or seabios.
    fn component(&self, name: &str, files: Vec<String>) -> Result<Component> {
        let Sources { choice, seabios, licences, patches, .. } = self.sources;
        let is_qemu = name != "seabios";
        Ok(Component {
            name: name.to_owned(),
            // QEMU is upstream's release: Debian's changes are not in it.
            version: if is_qemu { self.qemu_version } else { &seabios.pin.version }.to_owned(),
            how: if is_qemu { How::Built } else { How::Bundled },
            license: licences.for_bundled(name)?,
            distributor: (!is_qemu).then(|| "debian".to_owned()),
            files,
            sources: match is_qemu {
                true => vec![(choice.name(), choice.sha256.clone())],
                false => files_of(&seabios.pin),
            },
            patches: if is_qemu { hashes(patches)? } else { vec![] },
        })
    }

    fn copy_texts(&self, name: &str, entry: &Path) -> Result<()> {
        let qemu = self.shop.qemu();
        if name == "qboot" {
            return copy_text(entry, name, &qemu.join("roms/qboot/LICENSE"), "LICENSE");
        }
        for text in ["COPYING", "COPYING.LIB", "LICENSE"] {
            copy_text(entry, name, &qemu.join(text), text)?;
        }
        Ok(())
    }
}

/// The files of a pin, as (name, sha256).
fn files_of(pin: &Pin) -> Vec<(String, String)> {
    let debian = pin.debian.as_ref().map(|file| (&file.path, &file.sha256));
    std::iter::once((&pin.path, &pin.sha256))
        .chain(debian)
        .map(|(path, sha256)| (base_name(path), sha256.as_str().to_owned()))
        .collect()
}

/// Our patches, as (name, sha256).
fn hashes(patches: &[PathBuf]) -> Result<Vec<(String, String)>> {
    let hash =
        |patch: &PathBuf| Ok((base_name(&patch.display().to_string()), source::sha256_of(patch)?));
    patches.iter().map(hash).collect()
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
            compiled_with: String::new(),
            files: files.map(|(file, parts)| (file.to_owned(), parts)).into(),
        };
        let found = record.components(["bin/a", "bin/b"]);
        let names: Vec<&str> = found.iter().map(|part| part.name.as_str()).collect();
        assert_eq!(names, ["glib", "zlib"]);
        assert_eq!(found[1].files, ["libz.a", "libz2.a"]);
    }
}

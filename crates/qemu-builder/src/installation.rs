//! `cargo xtask bundle`: makes an installed QEMU relocatable, in the layout of our own wheel.
//!
//! Finds the installation's parts (programs, firmware, modules); `binary-bundler` does the rest. The
//! installation may be this system's, another system's unpacked tree, Homebrew's prefix or the folder
//! of the Windows installer, on any host.

use anyhow::{Context as _, Result};
use binary_bundler::{
    closure::{Options, Root},
    inspect::{Format, inspect_file},
    macho,
    relocate::{self, Placed, Request},
};
use host_platform::Arch;
use std::{
    collections::BTreeSet,
    io::Read as _,
    path::{Path, PathBuf},
};
use xtask_base::{context::Context, ui::hinted};

/// What to bundle.
#[derive(clap::Args)]
pub struct Args {
    /// `system`, or the folder of an installation: a root with usr/bin, a prefix with bin, or the
    /// folder with qemu-img.exe.
    #[arg(long, default_value = "system", value_name = "system|DIR")]
    from: String,

    /// The machines to take the emulators of, in QEMU's words.
    #[arg(long = "target", default_value = "x86_64", value_name = "ARCH")]
    targets: Vec<String>,

    /// Modules to take, by their file names (with * and ?).
    #[arg(long = "module", value_name = "PATTERN", default_values = MODULES)]
    modules: Vec<String>,

    /// The folder to make, which must not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// The modules that a sandbox can use: accelerators, and the display that an emulator keeps apart.
pub const MODULES: [&str; 2] = ["accel-*.so", "hw-display-virtio-*.so"];

/// Where the parts of an installation are.
#[derive(Debug)]
pub struct Installation {
    /// The system that it belongs to.
    pub root: Root,
    /// The folder of the programs, as a path of the root.
    programs: PathBuf,
    /// The end of programs' names.
    suffix: &'static str,
    /// Folders with firmware and keymaps; the first that has a name wins.
    firmware: Vec<PathBuf>,
    /// A pattern for the folder of modules.
    modules: Option<PathBuf>,
}

/// Makes the tree, reads it again, and asks the loader where that is this host's.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let installation = find(&args.from)?;
    let request = request(&installation, &args.targets, &args.modules)?;
    let plan = make(context, &request, &args.out)?;
    println!("{}", args.out.display());
    eprintln!("{} libraries, {} files", plan.n_libraries(&request), plan.copies.len());
    Ok(())
}

/// Makes the tree `out` and proves it: every file is read again, and this host's loader is asked.
pub fn make(context: &Context, request: &Request, out: &Path) -> Result<relocate::Plan> {
    let plan = relocate::plan(request).map_err(wheel_audit::with_hint)?;
    context.ui.step("Relocate QEMU", |step| {
        step.say(format!("{} files", plan.copies.len()));
        relocate::apply(&plan, out).map_err(wheel_audit::with_hint)?;
        step.say("read every file again");
        relocate::verify(&plan, out).map_err(wheel_audit::with_hint)
    })?;
    for program in request.files.iter().filter(|file| file.to.starts_with("bin")) {
        if cfg!(target_os = "linux") && is_of_this_host(&out.join(&program.to))? {
            match relocate::ask_loader(&out.join(&program.to)) {
                Ok(listed) => check_list(&std::path::absolute(out)?, &plan, &listed)?,
                // Another system's C library can be newer than this host's.
                Err(error) if request.root.path() != Path::new("/") => {
                    context
                        .ui
                        .line(&format!("warning: this host's loader cannot prove it: {error}"));
                }
                Err(error) => return Err(wheel_audit::with_hint(error)),
            }
        }
    }
    Ok(plan)
}

/// The loader must take what the system does not have from the tree.
fn check_list(
    tree: &Path,
    plan: &relocate::Plan,
    listed: &std::collections::BTreeMap<String, PathBuf>,
) -> Result<()> {
    let tree = fs_err::canonicalize(tree)?;
    for (name, path) in listed {
        let is_ours = fs_err::canonicalize(path)?.starts_with(&tree);
        if !is_ours && !plan.system.contains(name) {
            return Err(hinted(
                format!("The loader takes `{name}` from `{}`", path.display()),
                "this is a fault of the bundler: please report it with the program",
            ));
        }
    }
    Ok(())
}

fn is_of_this_host(program: &Path) -> Result<bool> {
    let binary = inspect_file(program).map_err(wheel_audit::with_hint)?;
    Ok(binary.is_some_and(|binary| match binary.format {
        Format::Elf(elf) => {
            let has_loader = elf.interpreter.is_some_and(|loader| Path::new(&loader).exists());
            elf.arch == std::env::consts::ARCH && has_loader
        }
        _ => false,
    }))
}

/// The installation in a folder, or this system's.
pub fn find(from: &str) -> Result<Installation> {
    if from != "system" {
        let folder = std::path::absolute(from)?;
        return installation_at(&folder, &["usr/bin", "bin", ""]).ok_or_else(|| {
            hinted(
                format!("No QEMU is installed in `{}`", folder.display()),
                "name a root with usr/bin, a prefix with bin, or the folder with qemu-img.exe",
            )
        });
    }
    let places = ["/usr", "/opt/homebrew", "/usr/local", "C:/Program Files/qemu"];
    places.iter().find_map(|place| installation_at(Path::new(place), &["bin", ""])).ok_or_else(
        || {
            hinted(
                "No QEMU is installed on this system",
                "install qemu-system-x86, or use build-qemu",
            )
        },
    )
}

/// The installation whose programs are in one of these folders below `base`.
fn installation_at(base: &Path, folders: &[&str]) -> Option<Installation> {
    let base = &fs_err::canonicalize(base).ok()?;
    for folder in folders {
        let programs = base.join(folder);
        let names: Vec<String> = fs_err::read_dir(&programs)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("qemu-system-"))
            .collect();
        let Some(first) = names.first() else { continue };
        let suffix = if first.ends_with(".exe") { ".exe" } else { "" };
        let is_root = *folder == "usr/bin";
        let prefix = if is_root { base.join("usr") } else { base.to_path_buf() };
        // Debian keeps the BIOS and the network boot code of their own packages apart.
        let firmware = match suffix {
            ".exe" => vec![prefix.join("share"), prefix.to_path_buf()],
            _ => ["share/qemu", "share/seabios", "lib/ipxe/qemu"]
                .map(|part| prefix.join(part))
                .into(),
        };
        return Some(Installation {
            root: if is_root { Root::at(base).ok()? } else { Root::host() },
            programs,
            suffix,
            firmware,
            modules: suffix.is_empty().then(|| prefix.join("lib")),
        });
    }
    None
}

impl Installation {
    /// The machine that its programs run on.
    pub fn arch(&self) -> Result<Arch> {
        let mut arches = Vec::new();
        // Some of the names are scripts.
        for entry in fs_err::read_dir(&self.programs)? {
            let entry = entry?;
            if !entry.file_name().to_string_lossy().starts_with("qemu-system-") {
                continue;
            }
            let program = self.root.real(&entry.path()).map_err(wheel_audit::with_hint)?;
            match inspect_file(&program).map_err(wheel_audit::with_hint)?.map(|it| it.format) {
                Some(Format::Elf(elf)) => arches.push(elf.arch),
                Some(Format::Pe(pe)) => arches.push(pe.arch),
                Some(Format::MachO(macho)) => {
                    arches.extend(macho.slices.into_iter().map(|slice| slice.arch));
                }
                None => {}
            }
        }
        let known: Vec<Arch> = arches.iter().filter_map(|arch| arch.parse().ok()).collect();
        let own = host_platform::native_arch();
        match known.as_slice() {
            [] => Err(hinted(
                format!(
                    "No emulator in `{}` is for a known machine: {}",
                    self.programs.display(),
                    arches.join(", ")
                ),
                "known are x86_64 and aarch64",
            )),
            several if several.contains(&own) => Ok(own),
            [first, ..] => Ok(*first),
        }
    }
}

/// What to take of an installation: emulators of `targets`, modules by pattern, the rest whole.
pub fn request(
    installation: &Installation,
    targets: &[String],
    modules: &[String],
) -> Result<Request> {
    let mut files = Vec::new();
    for target in targets {
        let name = format!("qemu-system-{target}{}", installation.suffix);
        files.push(Placed {
            from: installation.programs.join(&name),
            to: Path::new("bin").join(name),
        });
    }
    let image_tool = format!("qemu-img{}", installation.suffix);
    let from = installation.programs.join(&image_tool);
    if from.exists() {
        files.push(Placed { from, to: Path::new("bin").join(image_tool) });
    }
    files.extend(find_modules(installation, modules)?);
    Ok(Request {
        root: installation.root.clone(),
        files,
        data: firmware(installation)?,
        library_folder: "bin/lib".into(),
        options: Options::default(),
        entitlements: vec![macho::HYPERVISOR.to_owned()],
    })
}

/// QEMU looks for its modules in the same place relative to its program as when it was installed:
/// `lib/qemu`, or `lib/TRIPLET/qemu` on Debian.
fn find_modules(installation: &Installation, patterns: &[String]) -> Result<Vec<Placed>> {
    let Some(libraries) = &installation.modules else { return Ok(Vec::new()) };
    let mut folders = vec![PathBuf::from("qemu")];
    if let Ok(entries) = fs_err::read_dir(libraries) {
        let triplets = entries.flatten().map(|entry| PathBuf::from(entry.file_name()).join("qemu"));
        folders.extend(triplets);
    }
    let mut placed = Vec::new();
    for folder in folders.iter().filter(|folder| libraries.join(folder).is_dir()) {
        for pattern in patterns {
            let whole = libraries.join(folder).join(pattern);
            let inside = whole.strip_prefix(installation.root.path())?;
            let pattern = inside.to_str().context("A path of the installation is not UTF-8")?;
            // Another build of QEMU may have no module of a default pattern: that is no fault.
            match relocate::modules(&installation.root, pattern, &Path::new("lib").join(folder)) {
                Ok(found) => placed.extend(found),
                Err(binary_bundler::Error::NoMatch { .. }) => {}
                Err(error) => return Err(wheel_audit::with_hint(error)),
            }
        }
    }
    Ok(placed)
}

/// Every file of the firmware folders, the first of each name.
fn firmware(installation: &Installation) -> Result<Vec<Placed>> {
    let mut seen = BTreeSet::new();
    let mut placed = Vec::new();
    for folder in &installation.firmware {
        let Ok(entries) = fs_err::read_dir(folder) else { continue };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let text = name.to_string_lossy().into_owned();
            // The Windows installer's own folder holds the programs and DLLs too.
            let is_program =
                [".exe", ".dll"].iter().any(|end| text.to_ascii_lowercase().ends_with(end));
            let Ok(file) = installation.root.real(&entry.path()) else { continue };
            if !is_program && !is_for_another_machine(&file) && seen.insert(name.clone()) {
                placed.push(Placed {
                    from: entry.path(),
                    to: Path::new("bin/share/qemu").join(name),
                });
            }
        }
    }
    Ok(placed)
}

/// Whether a file is an ELF program for a machine that no guest of ours is. Some firmware is one, down to the loader
/// that it names, and no wheel with it could have a tag.
fn is_for_another_machine(path: &Path) -> bool {
    /// 386, ARM, x86-64, AArch64: elf(5), `e_machine`.
    const GUESTS: [u16; 4] = [3, 40, 62, 183];
    let mut head = [0; 20];
    let read = fs_err::File::open(path).and_then(|mut file| file.read_exact(&mut head));
    if read.is_err() || !head.starts_with(b"\x7fELF") {
        return false;
    }
    let machine = [head[18], head[19]];
    let is_big_endian = head[5] == 2;
    let machine = if is_big_endian { u16::from_be_bytes } else { u16::from_le_bytes }(machine);
    !GUESTS.contains(&machine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_of_other_machines_is_known_by_its_elf_header() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("firmware");
        let elf = |order: u8, machine: [u8; 2]| {
            let mut file = [0; 64];
            file[..4].copy_from_slice(b"\x7fELF");
            file[5] = order;
            file[18..20].copy_from_slice(&machine);
            file
        };
        // PA-RISC, S/390; x86-64, AArch64; 62 in the other order is no x86-64.
        for (order, machine, expect) in [
            (2, [0, 15], true),
            (2, [0, 22], true),
            (1, [62, 0], false),
            (1, [183, 0], false),
            (2, [62, 0], true),
        ] {
            fs_err::write(&path, elf(order, machine)).unwrap();
            assert_eq!(is_for_another_machine(&path), expect, "{order} {machine:?}");
        }
        for no_elf in [&b"\x55\xaa"[..], b"", &[0; 64]] {
            fs_err::write(&path, no_elf).unwrap();
            assert!(!is_for_another_machine(&path));
        }
    }

    #[test]
    fn an_installation_is_known_by_its_layout() {
        let folder = tempfile::tempdir().unwrap();
        let make = |name: &str| {
            let path = folder.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, "").unwrap();
        };
        make("root/usr/bin/qemu-system-x86_64");
        make("root/usr/share/seabios/bios.bin");
        make("root/usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so");
        make("brew/bin/qemu-system-aarch64");
        make("win/qemu-system-x86_64.exe");
        make("win/share/bios.bin");
        let at = |name: &str| find(folder.path().join(name).to_str().unwrap()).unwrap();
        let root = at("root");
        assert_eq!(root.suffix, "");
        assert_eq!(firmware(&root).unwrap()[0].to, Path::new("bin/share/qemu/bios.bin"));
        let modules = find_modules(&root, &["accel-*.so".to_owned()]).unwrap();
        assert_eq!(modules[0].to, Path::new("lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so"));
        assert!(at("brew").programs.ends_with("bin"));
        assert_eq!(at("win").suffix, ".exe");
        let error = find("/nowhere/at/all").unwrap_err();
        assert_eq!(error.to_string(), "No QEMU is installed in `/nowhere/at/all`");
    }
}

//! Compiles QEMU from unpacked source and built libraries: the emulators, `qemu-img`, and the firmware
//! that is part of QEMU's own source.

use super::{
    configure::{self, TARGETS},
    link_log, precompiled,
    source_tree::{self, Places, text},
    sysroot::Sysroot,
    target::Target,
    toolchain::{CLibrary, Toolchain},
    zig,
};
use anyhow::Result;
use duct::cmd;
use fs_err as fs;
use std::path::{Path, PathBuf};
use xtask_base::ui::Step;

/// The option ROMs of QEMU's own source that a guest of ours loads, found by removing each in turn:
/// `linuxboot_dma.bin` for `-kernel`, `pvh.bin` for an uncompressed kernel (without it QEMU waits for
/// ever), `kvmvapic.bin` for q35 itself.
const OPTION_ROMS: &[&str] = &["linuxboot_dma.bin", "kvmvapic.bin", "pvh.bin"];

/// The folders of one build.
pub struct Workshop {
    /// Everything is below this folder.
    pub root: PathBuf,
    /// The Python tools' `bin` folder.
    pub tools: PathBuf,
    /// What QEMU is to run on.
    pub target: Target,
    /// What compiles for it.
    pub toolchain: Toolchain,
    /// Its C library, where the compiler is not one for this host.
    pub sysroot: Option<Sysroot>,
    /// zig's programs and archives, where it is the compiler: a folder of this build's own.
    pub zig: Option<PathBuf>,
    /// The folders with the headers of its C library.
    pub headers: Vec<PathBuf>,
    /// The same of this host, whose compiler makes the firmware.
    pub host_headers: Vec<PathBuf>,
    /// How many compilers run side by side.
    pub n_jobs: usize,
}

impl Workshop {
    /// QEMU's unpacked source.
    pub fn qemu(&self) -> PathBuf {
        self.root.join("qemu")
    }

    /// Headers and archives of the libraries.
    pub fn libraries(&self) -> PathBuf {
        self.root.join("libraries")
    }

    fn build(&self) -> PathBuf {
        self.root.join("build")
    }

    /// An executable as the linker left it.
    pub fn executable(&self, name: &str) -> PathBuf {
        self.build().join(name)
    }

    /// The linker's map of an executable.
    pub fn link_map(&self, name: &str) -> PathBuf {
        self.root.join("maps").join(format!("{name}.map"))
    }

    /// Where programs are found first.
    pub fn programs(&self) -> Vec<PathBuf> {
        let zig = self.zig.iter().map(|folder| folder.join("bin"));
        std::iter::once(self.tools.clone()).chain(zig).collect()
    }

    fn command(
        &self,
        folder: &Path,
        program: impl duct::IntoExecutablePath,
        args: &[String],
    ) -> Result<duct::Expression> {
        let headers: &[PathBuf] = match self.toolchain.c_library() {
            // The compiler is told by its command line.
            Some(CLibrary::Mingw) => &[],
            _ => &self.headers,
        };
        self.command_with(headers, folder, program, args)
    }

    /// A command of this host's compiler.
    fn on_host(
        &self,
        folder: &Path,
        program: impl duct::IntoExecutablePath,
        args: &[String],
    ) -> Result<duct::Expression> {
        self.command_with(&self.host_headers, folder, program, args)
    }

    fn command_with(
        &self,
        headers: &[PathBuf],
        folder: &Path,
        program: impl duct::IntoExecutablePath,
        args: &[String],
    ) -> Result<duct::Expression> {
        let (programs, libraries) = (self.programs(), self.libraries());
        let places = Places { programs: &programs, libraries: &libraries, headers };
        source_tree::command(folder, program, args, places)
    }

    fn ninja(&self, folder: &Path, targets: &[&str]) -> Result<duct::Expression> {
        let mut args = vec![format!("-j{}", self.n_jobs)];
        args.extend(targets.iter().map(|target| (*target).to_owned()));
        self.command(folder, self.tools.join("ninja"), &args)
    }

    /// Flags that keep this machine's paths out of the executables.
    fn prefix_map(&self) -> Result<String> {
        Ok(format!("-ffile-prefix-map={}=.", text(&self.root)?))
    }
}

/// Configures QEMU with the device lists of `devices`.
pub fn configure(shop: &Workshop, step: &Step, devices: &Path) -> Result<()> {
    for target in TARGETS {
        let list = format!("{target}-softmmu");
        let place = shop.qemu().join("configs/devices").join(&list).join("sandbox.mak");
        let all = fs::read_to_string(devices.join(format!("{list}.mak")))?;
        fs::write(place, configure::devices(&all, shop.target, &shop.toolchain))?;
    }
    fs::create_dir_all(shop.root.join("maps"))?;
    fs::create_dir_all(shop.build())?;
    if let Some(zig) = &shop.zig {
        // It looks for archives beside its programs.
        super::libraries::copy_tree(&shop.libraries().join("lib"), &zig::archives(zig))?;
    }
    let sysroot = shop.sysroot.as_ref().map(Sysroot::root).unwrap_or_default();
    let headers: Vec<String> = shop.headers.iter().map(|it| text(it)).collect::<Result<_>>()?;
    let args = configure::arguments(
        shop.target,
        &shop.toolchain,
        &configure::Places {
            python: &text(&shop.tools.join("python3"))?,
            prefix_map: &shop.prefix_map()?,
            maps: &text(&shop.root.join("maps"))?,
            libraries: &text(&shop.libraries())?,
            sysroot: &text(&sysroot)?,
            headers: &headers,
            zig_flags: &shop.zig.as_deref().map(zig::linker_flags).unwrap_or_default(),
        },
    );
    // By a relative path, so that the paths in QEMU's messages are the same wherever it is built; a
    // shell resolves it in the build's folder, duct would do so in ours.
    let mut line =
        vec!["-c".to_owned(), "exec ../qemu/configure \"$@\"".to_owned(), "configure".to_owned()];
    line.extend(args);
    step.run(shop.command(&shop.build(), "sh", &line)?)
}

/// Compiles some of the programs.
pub fn programs(shop: &Workshop, step: &Step, names: &[String]) -> Result<()> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    // What AArch64's patch says at the end of the header, of visibility, is not part of a precompiled one.
    if shop.toolchain.is_gcc() && shop.toolchain.c_library() != Some(CLibrary::Sysroot) {
        precompile(shop, step, &names)?;
    }
    step.run(shop.ninja(&shop.build(), &names)?)?;
    link_log::check(&String::from_utf8_lossy(&fs::read(step.log())?))
}

/// The files that the linker was given for an executable, as ninja has them, of a linker that writes no
/// map.
pub fn link_inputs(shop: &Workshop, name: &str) -> Result<Vec<PathBuf>> {
    let line = shop.ninja(&shop.build(), &["-t", "commands", "-s", name])?.read()?;
    Ok(link_log::archives(&line, &shop.build()))
}

/// Precompiles QEMU's first header for the programs that are compiled next.
fn precompile(shop: &Workshop, step: &Step, names: &[&str]) -> Result<()> {
    // The header includes this one, which is generated.
    step.run(shop.ninja(&shop.build(), &["config-poison.h"])?)?;
    let commands = shop.ninja(&shop.build(), &[&["-t", "commands"], names].concat())?.read()?;
    fs::create_dir_all(shop.qemu().join(format!("{}.gch", precompiled::HEADER)))?;
    for line in precompiled::plan(&commands, &format!("../qemu/{}", precompiled::HEADER)) {
        let Some((compiler, args)) = line.split_first() else { continue };
        step.run(shop.command(&shop.build(), compiler, args)?)?;
    }
    Ok(())
}

/// Writes a stripped executable to `place`.
pub fn strip(shop: &Workshop, step: &Step, name: &str, place: &Path) -> Result<()> {
    let from = shop.executable(name);
    if shop.toolchain.c_library() == Some(CLibrary::OfCompiler) {
        // zig's linker has stripped it already.
        fs::copy(from, place)?;
        return Ok(());
    }
    step.run(cmd!(&shop.toolchain.strip, "--strip-all", "-o", place, from))
}

/// Copies the one keymap that VNC needs.
pub fn keymap(shop: &Workshop, place: &Path) -> Result<()> {
    fs::create_dir_all(place.join("keymaps"))?;
    fs::copy(shop.qemu().join("pc-bios/keymaps/en-us"), place.join("keymaps/en-us"))?;
    Ok(())
}

/// Builds the firmware of QEMU's own source into `place`: the option ROMs, and the small firmware
/// `qboot.rom`.
pub fn firmware(shop: &Workshop, step: &Step, place: &Path) -> Result<()> {
    let roms = shop.root.join("optionrom");
    fs::create_dir_all(&roms)?;
    let python = text(&shop.tools.join("python3"))?;
    // Relative for the same reason as above; make reads this file from its own folder.
    let settings = format!("TOPSRC_DIR=../qemu\nCC=cc\nOBJCOPY=objcopy\nPYTHON={python}\n");
    fs::write(roms.join("config.mak"), settings)?;
    let mut args = vec!["-f".to_owned(), "../qemu/pc-bios/optionrom/Makefile".to_owned()];
    args.extend(OPTION_ROMS.iter().map(|rom| (*rom).to_owned()));
    step.run(shop.on_host(&roms, "make", &args)?)?;
    for rom in OPTION_ROMS {
        fs::copy(roms.join(rom), place.join(rom))?;
    }
    let qboot = shop.root.join("qboot-build");
    let source = text(&shop.qemu().join("roms/qboot"))?;
    let setup = ["setup".to_owned(), text(&qboot)?, source, "--buildtype=release".to_owned()];
    step.run(shop.on_host(&shop.root, shop.tools.join("meson"), &setup)?)?;
    let jobs = [format!("-j{}", shop.n_jobs)];
    step.run(shop.on_host(&qboot, shop.tools.join("ninja"), &jobs)?)?;
    fs::copy(qboot.join("bios.bin"), place.join("qboot.rom"))?;
    Ok(())
}

//! Compiles QEMU from unpacked source and built libraries: the emulators, `qemu-img`, and the firmware
//! that is part of QEMU's own source.

use super::{
    libraries::PREFIX,
    precompiled,
    source_tree::{self, Places, text},
    toolchain::NO_OTHER_HEADERS,
};
use crate::ui::Step;
use anyhow::Result;
use duct::cmd;
use fs_err as fs;
use std::path::{Path, PathBuf};

/// The emulators, by QEMU's name of the guest's architecture.
pub const TARGETS: &[&str] = &["x86_64", "aarch64"];

/// What is left when every default is off. Each line is something that a sandbox uses:
/// <https://www.qemu.org/docs/master/system/introduction.html>.
const FEATURES: &[&str] = &[
    "--without-default-features",
    "--without-default-devices",
    "--enable-system",
    "--enable-tools",
    // Accelerators.
    "--enable-tcg",
    "--enable-kvm",
    // Network, shared folders (whose extended attributes are the C library's), vhost.
    "--enable-slirp",
    "--enable-virtfs",
    "--enable-attr",
    "--enable-vhost-kernel",
    "--enable-vhost-net",
    "--enable-vhost-user",
    // Desktop; nettle is what checks VNC's passwords.
    "--enable-vnc",
    "--enable-pixman",
    "--enable-nettle",
    // Disks.
    "--enable-zstd",
    "--enable-linux-io-uring",
    // Confinement and hardening: the guest is hostile.
    "--enable-seccomp",
    "--enable-stack-protector",
    // The virt machine's device tree.
    "--enable-fdt=system",
    "--enable-malloc-trim",
    // Nobody reads trace events of a released QEMU, and each is code.
    "--enable-trace-backends=nop",
    "--disable-docs",
    "--disable-user",
    "--disable-guest-agent",
    "--disable-debug-info",
    "--disable-qom-cast-debug",
    "--disable-werror",
    "--disable-install-blobs",
    "--disable-download",
];

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
    /// The host's headers.
    pub headers: PathBuf,
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

    fn command(
        &self,
        folder: &Path,
        program: impl duct::IntoExecutablePath,
        args: &[String],
    ) -> Result<duct::Expression> {
        let libraries = self.libraries();
        let (tools, headers) = (self.tools.as_path(), self.headers.as_path());
        source_tree::command(
            folder,
            program,
            args,
            Places { tools, libraries: &libraries, headers },
        )
    }

    fn ninja(&self, folder: &Path, targets: &[&str]) -> Result<duct::Expression> {
        let mut args = vec![format!("-j{}", self.n_jobs)];
        args.extend(targets.iter().map(|target| (*target).to_owned()));
        self.command(folder, self.tools.join("ninja"), &args)
    }

    fn meson(&self, source: &Path, build: &Path, options: &[&str]) -> Result<duct::Expression> {
        let mut args = vec!["setup".to_owned(), text(build)?, text(source)?];
        args.extend(options.iter().map(|option| (*option).to_owned()));
        self.command(&self.root, self.tools.join("meson"), &args)
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
        fs::copy(devices.join(format!("{list}.mak")), place)?;
    }
    fs::create_dir_all(shop.root.join("maps"))?;
    fs::create_dir_all(shop.build())?;
    let python = text(&shop.tools.join("python3"))?;
    let args = configure_args(&python, &shop.prefix_map()?, &text(&shop.root.join("maps"))?);
    // By a relative path, so that the paths in QEMU's messages are the same wherever it is built; a
    // shell resolves it in the build's folder, duct would do so in ours.
    let mut line =
        vec!["-c".to_owned(), "exec ../qemu/configure \"$@\"".to_owned(), "configure".to_owned()];
    line.extend(args);
    step.run(shop.command(&shop.build(), "sh", &line)?)
}

/// The arguments of QEMU's configure; the three values are places of this machine.
pub fn configure_args(python: &str, prefix_map: &str, maps: &str) -> Vec<String> {
    let targets: Vec<String> = TARGETS.iter().map(|target| format!("{target}-softmmu")).collect();
    let mut args = vec![
        format!("--python={python}"),
        "--static".to_owned(),
        format!("--prefix={PREFIX}"),
        format!("--bindir={PREFIX}/bin"),
        format!("--datadir={PREFIX}/bin/share"),
        format!("--target-list={}", targets.join(",")),
        // Unused sections are dropped: with few devices a third of the code goes. Some compilers set
        // the level of _FORTIFY_SOURCE themselves. Of the precompiled headers most do not fit a file.
        format!(
            "--extra-cflags=-ffunction-sections -fdata-sections -U_FORTIFY_SOURCE \
             -D_FORTIFY_SOURCE=2 -Wno-invalid-pch {NO_OTHER_HEADERS} {prefix_map}"
        ),
        format!("--extra-ldflags=-Wl,--gc-sections -Wl,--build-id=none -Wl,-Map={maps}"),
    ];
    args.extend(TARGETS.iter().map(|target| format!("--with-devices-{target}=sandbox")));
    args.extend(FEATURES.iter().map(|feature| (*feature).to_owned()));
    args
}

/// Compiles some of the programs.
pub fn programs(shop: &Workshop, step: &Step, names: &[String]) -> Result<()> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    precompile(shop, step, &names)?;
    step.run(shop.ninja(&shop.build(), &names)?)
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
pub fn strip(step: &Step, from: &Path, place: &Path) -> Result<()> {
    step.run(cmd!("strip", "--strip-all", "-o", place, from))
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
    step.run(shop.command(&roms, "make", &args)?)?;
    for rom in OPTION_ROMS {
        fs::copy(roms.join(rom), place.join(rom))?;
    }
    let qboot = shop.root.join("qboot-build");
    step.run(shop.meson(&shop.qemu().join("roms/qboot"), &qboot, &["--buildtype=release"])?)?;
    step.run(shop.ninja(&qboot, &[])?)?;
    fs::copy(qboot.join("bios.bin"), place.join("qboot.rom"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build_qemu::tests::qemu_folder;

    #[test]
    fn every_target_has_a_list_of_devices() {
        let args = configure_args("python3", "-ffile-prefix-map=/x=.", "/x/maps");
        for target in TARGETS {
            let list = qemu_folder().join("devices").join(format!("{target}-softmmu.mak"));
            let text = fs::read_to_string(&list).unwrap();
            for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
                assert!(line.starts_with("CONFIG_") && line.ends_with("=y"), "{line}");
            }
            assert!(args.contains(&format!("--with-devices-{target}=sandbox")));
        }
        assert!(args.contains(&"--static".to_owned()));
    }

    #[test]
    fn data_lies_below_the_executables() {
        // The wheel's layout: `bin/share/qemu` beside `bin/qemu-system-*`.
        let args = configure_args("python3", "", "");
        let value =
            |name: &str| args.iter().find_map(|arg| arg.strip_prefix(name)).unwrap().to_owned();
        assert_eq!(value("--datadir="), value("--bindir=") + "/share");
    }
}

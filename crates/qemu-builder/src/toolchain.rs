//! What compiles for a target: the programs, what they are called with, and what they consist of.
//! Knows nothing of the libraries or of QEMU.

use super::{target::Target, zig};
use anyhow::{Context as _, Result};
use duct::cmd;
use host_platform::Arch;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use wheel_retag::Runner;
use xtask_base::cache::Key;

/// The programs that compile for one target, and how the target is called.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Toolchain {
    /// The target's system, by meson's name.
    pub system: String,
    /// The C compiler.
    pub cc: String,
    /// The archiver.
    pub ar: String,
    /// What writes an archive's index.
    pub ranlib: String,
    /// What removes symbols.
    pub strip: String,
    /// Flags of the compiler that the target needs.
    #[serde(default)]
    pub cflags: Vec<String>,
    /// What the target is called when it is not the machine that compiles.
    pub cross: Option<Cross>,
}

/// The names of a target that is not the machine that compiles, and what belongs to it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cross {
    /// GNU's name.
    pub triple: String,
    /// meson's name of the processor's family.
    pub cpu_family: String,
    /// meson's name of the processor.
    pub cpu: String,
    /// What begins the names of QEMU's other tools.
    pub prefix: String,
    /// Where the C library and its headers come from.
    pub c_library: CLibrary,
    /// What of the compiler and of the C library may end up in a program.
    pub linked: Vec<String>,
}

/// Where a target's C library comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CLibrary {
    /// The distribution's packages for that architecture, unpacked (see `sysroot`).
    Sysroot,
    /// MinGW's package of this host.
    Mingw,
    /// The compiler brings it along.
    OfCompiler,
}

/// What the linker takes of the compiler and of the C library for a static program, as far as there is
/// code in it.
const LINKED: &[&str] = &[
    "rcrt1.o",
    "crti.o",
    "crtn.o",
    "crtbeginS.o",
    "crtendS.o",
    "libgcc.a",
    "libgcc_eh.a",
    "libc.a",
];

/// The same for Windows; import libraries are of the version of the others.
const LINKED_OF_MINGW: &[&str] = &[
    "crt2.o",
    "crtbegin.o",
    "crtend.o",
    "libgcc.a",
    "libgcc_eh.a",
    "libmingw32.a",
    "libmingwex.a",
    "libmsvcrt.a",
    "libwinpthread.a",
    "libssp.a",
];

/// What Debian compiles its own packages with: the libraries read what the guest sends.
const HARDENED: &[&str] = &["-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"];

/// What makes MinGW's linker find what hardened code calls.
pub const MINGW_HARDENED: &str = "-fstack-protector-strong";

/// Packages whose headers are compiled in, and no others' (see `headers`); the rest of the C library is of
/// the same version.
pub const HEADERS: &[&str] = &["libc6-dev", "linux-libc-dev"];

/// The same for Windows.
pub const HEADERS_OF_MINGW: &[&str] = &["mingw-w64-common", "mingw-w64-x86-64-dev"];

/// The compiler is to look for headers where it is told to, and nowhere else.
pub const NO_OTHER_HEADERS: &str = "-nostdinc";

/// Windows 10, which is the oldest that is still maintained: what is newer is not called.
pub const WINDOWS_10: &str = "-D_WIN32_WINNT=0x0A00";

/// The versions of packages of this host, a line each.
pub fn versions(packages: &[&str]) -> Result<String> {
    let args = [&["--show", "--showformat", "${Package} ${Version}\n"], packages].concat();
    cmd("dpkg-query", args).read().context("Failed to ask dpkg")
}

/// The packages that compile for a target, beside those of every build.
pub fn packages(target: Target) -> &'static [&'static str] {
    if target.is_host() {
        return &[];
    }
    match target.runner() {
        Runner::LinuxArm64 => &["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
        Runner::WindowsX64 => &["gcc-mingw-w64-x86-64-posix", "mingw-w64-x86-64-dev"],
        Runner::LinuxX64 | Runner::WindowsArm64 | Runner::MacosArm64 => &[],
    }
}

impl Toolchain {
    /// What compiles for a target where [`Target::is_built_on`] says that it is built; for macOS, what
    /// Apple's compiler would be called with.
    pub fn for_target(target: Target) -> Self {
        match target.runner() {
            Runner::MacosArm64 => Self::for_apple(),
            _ if target.is_host() => Self::for_host(),
            Runner::LinuxX64 => Self::for_linux(Arch::Amd64),
            Runner::LinuxArm64 => Self::for_linux(Arch::Arm64),
            Runner::WindowsX64 => Self::for_mingw(),
            Runner::WindowsArm64 => for_zig(),
        }
    }

    /// The compiler of the machine that compiles, for itself.
    pub fn for_host() -> Self {
        let [cc, ar, ranlib, strip] = ["cc", "ar", "ranlib", "strip"].map(str::to_owned);
        let system = std::env::consts::OS.to_owned();
        let cflags = HARDENED.iter().chain([&NO_OTHER_HEADERS]).map(|flag| (*flag).to_owned());
        let cflags = cflags.collect();
        Self { system, cc, ar, ranlib, strip, cflags, cross: None }
    }

    /// The distribution's compiler for another architecture.
    fn for_linux(arch: Arch) -> Self {
        let triple = format!("{}-linux-gnu", arch.qemu_name());
        let [cc, ar, ranlib, strip] =
            ["gcc", "gcc-ar", "gcc-ranlib", "strip"].map(|tool| format!("{triple}-{tool}"));
        let cross = Cross {
            cpu_family: arch.qemu_name().to_owned(),
            cpu: arch.qemu_name().to_owned(),
            prefix: format!("{triple}-"),
            c_library: CLibrary::Sysroot,
            linked: LINKED.iter().map(|name| (*name).to_owned()).collect(),
            triple,
        };
        Self {
            system: "linux".to_owned(),
            cc,
            ar,
            ranlib,
            strip,
            cross: Some(cross),
            ..Self::for_host()
        }
    }

    /// MinGW's, of the distribution.
    fn for_mingw() -> Self {
        let triple = "x86_64-w64-mingw32".to_owned();
        let [cc, ar, ranlib, strip] =
            ["gcc-posix", "ar", "ranlib", "strip"].map(|tool| format!("{triple}-{tool}"));
        let mut cflags = Self::for_host().cflags;
        cflags.push(WINDOWS_10.to_owned());
        let cross = Cross {
            cpu_family: "x86_64".to_owned(),
            cpu: "x86_64".to_owned(),
            prefix: format!("{triple}-"),
            c_library: CLibrary::Mingw,
            linked: LINKED_OF_MINGW.iter().map(|name| (*name).to_owned()).collect(),
            triple,
        };
        Self { system: "windows".to_owned(), cc, ar, ranlib, strip, cflags, cross: Some(cross) }
    }

    /// Apple's, on the machine that it compiles for. Its headers lie in an SDK of their own.
    fn for_apple() -> Self {
        let [cc, ar, ranlib, strip] = ["cc", "ar", "ranlib", "strip"].map(str::to_owned);
        let flags = [HARDENED[0], "-mmacosx-version-min=11.0"];
        let cflags = flags.map(str::to_owned).into();
        Self { system: "darwin".to_owned(), cc, ar, ranlib, strip, cflags, cross: None }
    }

    /// Where the target's C library comes from when it is not this host's.
    pub fn c_library(&self) -> Option<CLibrary> {
        self.cross.as_ref().map(|cross| cross.c_library)
    }

    /// Whether the compiler is GCC.
    pub fn is_gcc(&self) -> bool {
        self.c_library() != Some(CLibrary::OfCompiler) && self.system != "darwin"
    }

    /// Adds everything of the tools that decides what they make.
    pub fn add_to(&self, key: &mut Key) -> Result<()> {
        key.add("toolchain", format!("{self:?}").as_bytes());
        if self.c_library() == Some(CLibrary::OfCompiler) {
            // One package of a pinned version has all of it.
            key.add("program", zig::REQUIREMENT.as_bytes());
            return Ok(());
        }
        for name in [&self.cc, &self.ar, &self.strip] {
            key.add("program", cmd!(name, "--version").read()?.as_bytes());
        }
        for part in ["as", "ld"] {
            let program = cmd!(&self.cc, format!("-print-prog-name={part}")).read()?;
            key.add("program", cmd!(program.trim(), "--version").read()?.as_bytes());
        }
        let linked: Vec<&str> = match &self.cross {
            Some(cross) => cross.linked.iter().map(String::as_str).collect(),
            None => LINKED.to_vec(),
        };
        for name in linked {
            if let Some(path) = self.file(name)? {
                key.add_file(&path)?;
            }
        }
        let headers = match self.c_library() {
            Some(CLibrary::Mingw) => versions(HEADERS_OF_MINGW)?,
            Some(CLibrary::Sysroot | CLibrary::OfCompiler) => String::new(),
            None => versions(HEADERS)?,
        };
        key.add("headers", headers.as_bytes());
        Ok(())
    }

    /// Where the compiler has a file or folder of its own, or of the C library.
    pub fn file(&self, name: &str) -> Result<Option<PathBuf>> {
        let path = cmd!(&self.cc, format!("-print-file-name={name}")).read()?;
        // The compiler repeats the name of a file that it does not find.
        Ok(Some(Path::new(path.trim()).to_owned()).filter(|path| path.is_absolute()))
    }

    /// What compiled, in words.
    pub fn words(&self) -> Result<String> {
        if self.c_library() == Some(CLibrary::OfCompiler) {
            return Ok(format!("zig ({})", zig::REQUIREMENT));
        }
        let first = |text: String| text.lines().next().unwrap_or_default().to_owned();
        let linker = cmd!(&self.cc, "-print-prog-name=ld").read()?;
        let linker = first(cmd!(linker.trim(), "--version").read()?);
        Ok(format!("{}; {linker}", first(cmd!(&self.cc, "--version").read()?)))
    }
}

/// What compiles for Windows on Arm.
fn for_zig() -> Toolchain {
    let [cc, ar, ranlib, strip] =
        ["gcc", "ar", "ranlib", "strip"].map(|tool| format!("{}-{tool}", zig::TRIPLE));
    let cross = Cross {
        triple: zig::TRIPLE.to_owned(),
        cpu_family: "aarch64".to_owned(),
        cpu: "aarch64".to_owned(),
        prefix: format!("{}-", zig::TRIPLE),
        c_library: CLibrary::OfCompiler,
        linked: vec![],
    };
    Toolchain {
        system: "windows".to_owned(),
        cc,
        ar,
        ranlib,
        strip,
        cflags: vec![],
        cross: Some(cross),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn another_flag_is_another_toolchain() {
        let digest = |toolchain: &Toolchain| {
            let mut key = Key::new("test");
            toolchain.add_to(&mut key).map(|()| key.digest())
        };
        let plain = Toolchain::for_host();
        // A host without a compiler or dpkg has nothing to compare.
        let Ok(first) = digest(&plain) else { return };
        assert_eq!(digest(&plain).unwrap(), first);
        let other = Toolchain { cflags: vec!["-O3".to_owned()], ..plain };
        assert_ne!(digest(&other).unwrap(), first);
    }
}

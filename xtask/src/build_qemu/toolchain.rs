//! What compiles for a target: the programs, what they are called with, and what they consist of.
//! Knows nothing of the libraries or of QEMU.

use crate::cache::Key;
use anyhow::{Context as _, Result};
use duct::cmd;
use serde::Deserialize;
use std::path::Path;

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

/// The names of a target that is not the machine that compiles.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cross {
    /// GNU's name.
    pub triple: String,
    /// meson's name of the processor's family.
    pub cpu_family: String,
    /// meson's name of the processor.
    pub cpu: String,
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

/// What Debian compiles its own packages with: the libraries read what the guest sends.
const HARDENED: &[&str] = &["-fstack-protector-strong", "-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"];

/// Packages whose headers are compiled in, and no others' (see `headers`); the rest of the C library is of
/// the same version.
pub const HEADERS: &[&str] = &["libc6-dev", "linux-libc-dev"];

/// The compiler is to look for headers where it is told to, and nowhere else.
pub const NO_OTHER_HEADERS: &str = "-nostdinc";

/// The versions of these packages, a line each.
pub fn header_versions() -> Result<String> {
    let args = [&["--show", "--showformat", "${Package} ${Version}\n"], HEADERS].concat();
    cmd("dpkg-query", args).read().context("Failed to ask dpkg")
}

impl Toolchain {
    /// The compiler of the machine that compiles, for itself.
    pub fn of_host() -> Self {
        let [cc, ar, ranlib, strip] = ["cc", "ar", "ranlib", "strip"].map(str::to_owned);
        let system = std::env::consts::OS.to_owned();
        let cflags = HARDENED.iter().chain([&NO_OTHER_HEADERS]).map(|flag| (*flag).to_owned());
        let cflags = cflags.collect();
        Self { system, cc, ar, ranlib, strip, cflags, cross: None }
    }

    /// Adds everything of the tools that decides what they make.
    pub fn add_to(&self, key: &mut Key) -> Result<()> {
        key.add("toolchain", format!("{self:?}").as_bytes());
        for name in [&self.cc, &self.ar, &self.strip] {
            key.add("program", cmd!(name, "--version").read()?.as_bytes());
        }
        for part in ["as", "ld"] {
            let program = cmd!(&self.cc, format!("-print-prog-name={part}")).read()?;
            key.add("program", cmd!(program.trim(), "--version").read()?.as_bytes());
        }
        for name in LINKED {
            // The compiler repeats the name of a file that it does not find.
            let path = cmd!(&self.cc, format!("-print-file-name={name}")).read()?;
            let path = Path::new(path.trim());
            if path.is_absolute() {
                key.add_file(path)?;
            }
        }
        key.add("headers", header_versions()?.as_bytes());
        Ok(())
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
        let plain = Toolchain::of_host();
        // A host without a compiler or dpkg has nothing to compare.
        let Ok(first) = digest(&plain) else { return };
        assert_eq!(digest(&plain).unwrap(), first);
        let other = Toolchain { cflags: vec!["-O3".to_owned()], ..plain };
        assert_ne!(digest(&other).unwrap(), first);
    }
}

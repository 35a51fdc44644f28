//! What is compiled into the guest agent, for the bills of the images that it is in: crates, the standard
//! library, and the static libraries of the C compiler, each with its licence and version.

use super::{Compiler, linker, target};
use crate::{
    crates::{self, Linked},
    cross_compiler::CrossCompiler,
};
use anyhow::{Context as _, Result};
use bill_of_materials::{Component, How};
use duct::cmd;
use fs_err as fs;
use host_platform::Arch;
use image_builder::bake::AgentBill;
use qemu_builder::linked::Owners;
use std::path::{Path, PathBuf};
use xtask_base::context::Context;

/// The libraries that a static program is linked with, and the SPDX expression of each. The words are those
/// by which the linker's driver finds them.
const LIBRARIES: [(&str, &str); 2] =
    [("libc.a", "LGPL-2.1-or-later"), ("libgcc_eh.a", "GPL-3.0-or-later WITH GCC-exception-3.1")];

/// Writes them into a folder.
pub fn write(context: &Context, arch: Arch, compiler: Compiler, folder: &Path) -> Result<()> {
    let rustc = match compiler {
        Compiler::Unpacked => {
            let unpacked = CrossCompiler::ready(context)?;
            cmd!(unpacked.rustc(), "--version", "--verbose").read()?
        }
        Compiler::Native | Compiler::Linked => rustc(context)?,
    };
    let linked = crates::linked(context, &["guest-agent"], &rustc, target(arch))?;
    let (libraries, texts) = libraries(&linker_of(arch, compiler))?;
    write_papers(&linked, libraries, &texts, folder)
}

fn write_papers(
    linked: &Linked,
    libraries: Vec<Component>,
    texts: &str,
    folder: &Path,
) -> Result<()> {
    let bill = AgentBill {
        parts: linked.components.iter().cloned().chain(libraries).collect(),
        texts: linked.texts("the guest agent")? + texts,
    };
    fs::write(folder.join(AgentBill::FILE), bill.to_json()?)?;
    Ok(())
}

/// What the toolchain's compiler says of itself.
pub fn rustc(context: &Context) -> Result<String> {
    Ok(cmd!("rustc", "--version", "--verbose").dir(&context.root).read()?)
}

/// The driver of the linker.
pub fn linker_of(arch: Arch, compiler: Compiler) -> String {
    match compiler {
        Compiler::Native => "cc".to_owned(),
        Compiler::Linked | Compiler::Unpacked => linker(target(arch)),
    }
}

/// The static libraries of a linker's driver by the packages that they come from, and those packages'
/// copyright files.
fn libraries(linker: &str) -> Result<(Vec<Component>, String)> {
    let mut owners = Owners::default();
    let mut parts = Vec::new();
    let mut texts = String::new();
    for (library, license) in LIBRARIES {
        let place = cmd!(linker, format!("-print-file-name={library}")).read()?;
        let place = fs::canonicalize(place.trim())
            .with_context(|| format!("`{linker}` has no static `{library}`"))?;
        let owner = owners.owner_of(&place)?;
        // A library for another architecture is called by its package's name alone.
        let package = owner.package.split(':').next().unwrap_or_default();
        let (name, version) = (owner.source.name, owner.source.version);
        let copyright = PathBuf::from("/usr/share/doc").join(package).join("copyright");
        if let Ok(text) = fs::read(&copyright) {
            let text = String::from_utf8_lossy(&text).trim().to_owned();
            let line = "=".repeat(72);
            texts += &format!("\n{line}\n{name} {version}\n{line}\n\n{text}\n");
        }
        parts.push(Component {
            name,
            version,
            how: How::StaticallyLinked,
            license: license.to_owned(),
            distributor: Some(distributor(&fs::read_to_string("/etc/os-release")?)?),
            files: vec![format!("{package}: {library}")],
            sources: vec![],
            patches: vec![],
        });
    }
    Ok((parts, texts))
}

/// The distribution with the number of its release, as in `debian-13`, from os-release(5); the name alone of
/// one that is not released.
fn distributor(os_release: &str) -> Result<String> {
    let field = |key: &str| {
        let value = os_release.lines().find_map(|line| line.strip_prefix(key));
        value.map(|value| value.trim_matches(['"', '\'']).to_owned())
    };
    let id = field("ID=").context("/etc/os-release names no distribution")?;
    Ok(match field("VERSION_ID=") {
        Some(release) => format!("{id}-{release}"),
        None => id,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distribution_is_named_with_its_release() {
        let check = |text: &str, expect: &str| assert_eq!(distributor(text).unwrap(), expect);
        check("NAME=x\nID=debian\nVERSION_ID=\"12\"\n", "debian-12");
        check("ID=\"ubuntu\"\nVERSION_ID=\"24.04\"\n", "ubuntu-24.04");
        check("ID=debian\n", "debian");
        assert!(distributor("NAME=x\n").is_err());
    }

    /// Against the compiler and dpkg of this host, where both are.
    #[test]
    fn the_c_library_is_named_by_its_source() {
        if cmd!("dpkg-query", "--version").stdout_null().stderr_null().run().is_err() {
            eprintln!("skipped: this host has no dpkg");
            return;
        }
        let (parts, texts) = libraries("cc").unwrap();
        let (libc, gcc) = (&parts[0], &parts[1]);
        assert!(["glibc", "eglibc"].contains(&libc.name.as_str()), "{libc:?}");
        assert!(libc.purl().contains("&distro="), "{}", libc.purl());
        assert!(gcc.name.starts_with("gcc"), "{gcc:?}");
        assert!(texts.contains("Lesser General Public"), "{texts}");
    }
}

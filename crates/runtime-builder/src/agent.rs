//! The guest agent's binary for an image: static, small, built once for each state of its sources.

mod bill;

use crate::{
    compiled_paths,
    cross_compiler::{CrossCompiler, is_target_installed},
};
use anyhow::Result;
use cache_key::{
    Key,
    code::{self, Reading},
    tools,
};
use duct::{Expression, cmd};
use fs_err as fs;
use host_platform::Arch;
use image_builder::bake::Agent;
use std::path::{Path, PathBuf};
use xtask_base::context::Context;
use xtask_host::{
    preflight::{Needs, Registry, Room},
    setup,
};

/// Seconds of one processor, and room: with the toolchain, and with a compiler that is fetched and
/// makes the standard library too.
const NATIVE: (f64, Room) = (100.0, Room { cache: 300, target: 0, temporary: 0 });
const UNPACKED: (f64, Room) = (300.0, Room { cache: 2000, target: 0, temporary: 400 });

/// One static file: it is the initrd's /init, where no library is.
const FLAGS: [&str; 2] = ["-C", "target-feature=+crt-static"];

/// Which compiler makes the binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compiler {
    /// The toolchain, for this host.
    Native,
    /// The toolchain, which has the target, with the distribution's linker for it.
    Linked,
    /// The one that is unpacked in the cache, with the same linker.
    Unpacked,
}

/// Raise it when what is said of the parts changes.
const BILL: &str = "1";

/// The agent: its binary, and what is compiled into it.
///
/// # Errors
/// It cannot be compiled, or a licence is not known.
pub fn agent(context: &Context, arch: Arch) -> Result<Agent> {
    let binary = binary(context, arch)?;
    let compiler = compiler(context, arch);
    let mut key = key(&context.root, target(arch), compiler)?;
    key.add("bill", BILL.as_bytes());
    let bill = context
        .cache
        .entry("agent-bill", &key, |folder| bill::write(context, arch, compiler, folder))?;
    Ok(Agent { binary, bill: Some(bill) })
}

/// The path of the binary.
///
/// # Errors
/// It cannot be compiled.
pub fn binary(context: &Context, arch: Arch) -> Result<PathBuf> {
    let target = target(arch);
    let compiler = compiler(context, arch);
    let key = key(&context.root, target, compiler)?;
    let entry = context.cache.entry("agent", &key, |folder| {
        let target_dir = context.cache.target("agent", &context.root)?;
        let build = command(context, arch, compiler)?.env("CARGO_TARGET_DIR", &target_dir);
        context.ui.step(&format!("Build the guest agent for {}", arch.image_name()), |step| {
            step.run(if context.offline { build.env("CARGO_NET_OFFLINE", "true") } else { build })?;
            let made = target_dir.join(target).join("agent/quicksand-agent");
            compiled_paths::check(&made, &[&target_dir, &context.cache.folder("cross-compiler")?])?;
            fs::copy(made, folder.join("agent"))?;
            Ok(())
        })
    })?;
    Ok(entry.join("agent"))
}

/// The hash of all that a binary is made from: its code and that of its libraries, the compiler, the linker and
/// the C library that is linked in.
fn key(root: &Path, target: &str, compiler: Compiler) -> Result<Key> {
    let mut key = Key::new("agent");
    key.add("target", target.as_bytes());
    key.add("compiler", format!("{compiler:?} {FLAGS:?}").as_bytes());
    key.add("code", code::digest(root, &["guest-agent"], Reading::Exact)?.as_bytes());
    for variable in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"] {
        key.add(variable, std::env::var_os(variable).unwrap_or_default().as_encoded_bytes());
    }
    let linker = match compiler {
        Compiler::Native => "cc".to_owned(),
        Compiler::Linked | Compiler::Unpacked => linker(target),
    };
    if compiler != Compiler::Unpacked {
        let rustc = cmd!("rustc", "--version", "--verbose").dir(root).read()?;
        key.add("rustc", rustc.as_bytes());
    }
    tools::add(&mut key, &[&linker, "ld"]);
    // Where the linker finds the static C library; its name alone where it finds none.
    let library = cmd!(&linker, "-print-file-name=libc.a").stderr_null().unchecked().read();
    let library = PathBuf::from(library.unwrap_or_default().trim());
    key.add("libc", &fs::read(&library).unwrap_or_default());
    Ok(key)
}

/// The distribution's linker for another architecture.
fn linker(target: &str) -> String {
    format!("{}-linux-gnu-gcc", target.split('-').next().unwrap_or(target))
}

/// What it needs; nothing when it is built already.
pub fn needs(context: &Context, arch: Arch) -> Needs {
    if binary(&context.looking(), arch).is_ok() {
        return Needs::default();
    }
    let name = format!("the guest agent for {}", arch.image_name());
    let mut needs = Needs { compiles: true, ..Needs::default() };
    let compiler = compiler(context, arch);
    if compiler != Compiler::Native {
        needs = needs.packages(&linker_packages(arch));
    }
    if compiler == Compiler::Unpacked {
        needs = needs.fetch("a compiler for other systems", Registry::Host);
    }
    let (seconds, room) = if compiler == Compiler::Unpacked { UNPACKED } else { NATIVE };
    needs.build(name, seconds, room)
}

/// The command that builds it.
fn command(context: &Context, arch: Arch, compiler: Compiler) -> Result<Expression> {
    const ARGS: [&str; 5] = ["build", "--package", "guest-agent", "--profile", "agent"];
    let target = target(arch);
    let with_toolchain =
        || cmd("cargo", ARGS.into_iter().chain(["--target", target])).dir(&context.root);
    if compiler == Compiler::Native {
        return compiled_paths::hide(with_toolchain(), &FLAGS, None);
    }
    setup::ensure_packages(context, &linker_packages(arch))?;
    let (command, at) = match compiler {
        Compiler::Unpacked => {
            let unpacked = CrossCompiler::ready(context)?;
            let command = unpacked.command(context, unpacked.cargo(), target, &ARGS);
            (command, Some(unpacked.root().to_owned()))
        }
        _ => (with_toolchain(), None),
    };
    let variable = format!("CARGO_TARGET_{}_LINKER", target.to_uppercase().replace('-', "_"));
    let command = command.env(variable, linker(target));
    compiled_paths::hide(command, &FLAGS, at.as_deref())
}

fn compiler(context: &Context, arch: Arch) -> Compiler {
    if arch == host_platform::native_arch() {
        return Compiler::Native;
    }
    match is_target_installed(context, target(arch)) {
        true => Compiler::Linked,
        false => Compiler::Unpacked,
    }
}

/// The target that the agent is compiled for.
fn target(arch: Arch) -> &'static str {
    match arch {
        Arch::Amd64 => "x86_64-unknown-linux-gnu",
        Arch::Arm64 => "aarch64-unknown-linux-gnu",
    }
}

/// The distribution's linker for another architecture, with a static C library.
fn linker_packages(arch: Arch) -> [&'static str; 2] {
    match arch {
        Arch::Amd64 => ["gcc-x86-64-linux-gnu", "libc6-dev-amd64-cross"],
        Arch::Arm64 => ["gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross"],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_is_its_code_its_target_and_its_compiler() {
        let root = &Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let digest = |arch, compiler| key(root, target(arch), compiler).unwrap().digest();
        let first = digest(Arch::Amd64, Compiler::Native);
        assert_eq!(first, digest(Arch::Amd64, Compiler::Native));
        assert_ne!(first, digest(Arch::Arm64, Compiler::Native));
        assert_ne!(first, digest(Arch::Amd64, Compiler::Linked));
        assert_ne!(first, digest(Arch::Amd64, Compiler::Unpacked));
    }
}

//! The compiler's call for the runtime that ships: this host's toolchain, or for another machine the one of
//! `cross_compiler` where the toolchain lacks its standard library. On Linux zig links.

use crate::{
    compiled_paths,
    cross_compiler::{CrossCompiler, is_target_installed},
};
use anyhow::Result;
use duct::{Expression, cmd};
use host_platform::Os;
use qemu_builder::Target;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use xtask_base::context::Context;
use xtask_host::setup;

/// The crates that end up in the wheel.
pub(crate) const CRATES: &[&str] = &["quicksand-python", "quicksand-cli"];

/// The oldest glibc that Rust's own standard library runs with, and every distribution of today has. zig's
/// linker knows the libraries of each glibc; the host's would bind symbols to the host's.
const GLIBC: &str = "2.17";

/// The linker, and the cargo command that knows how to call it.
pub(crate) const ZIG: &[&str] = &["cargo-zigbuild==0.24.0", "ziglang==0.17.1"];

/// Who compiles.
pub enum Compiler {
    Toolchain,
    /// The one that is unpacked in the cache, which makes its standard library too.
    Unpacked(CrossCompiler),
}

impl Compiler {
    /// The compiler for a machine.
    pub fn for_target(context: &Context, target: Target) -> Result<Self> {
        if target.is_host() {
            return Ok(Self::Toolchain);
        }
        match is_target_installed(context, triple(target)) {
            true => Ok(Self::Toolchain),
            false => CrossCompiler::ready(context).map(Self::Unpacked),
        }
    }

    /// What it is, for keys and bills.
    pub fn version(&self, context: &Context) -> Result<String> {
        let rustc = match self {
            // A name, which is looked for: a path would be one of the working folder's.
            Self::Toolchain => OsStr::new("rustc"),
            Self::Unpacked(compiler) => compiler.rustc().as_os_str(),
        };
        Ok(cmd!(rustc, "--version", "--verbose").dir(&context.root).read()?)
    }

    /// The call that compiles module and command into the folder `to`.
    pub fn command(&self, context: &Context, target: Target, to: &Path) -> Result<Expression> {
        let os = target.os();
        let mut packages = vec!["--release"];
        CRATES.iter().for_each(|name| packages.extend(["--package", name]));
        let triple = match os {
            Os::Linux => format!("{}.{GLIBC}", triple(target)),
            Os::Macos | Os::Windows => triple(target).to_owned(),
        };
        let (call, compiler) = match self {
            Self::Toolchain => {
                let mut args = vec![if os == Os::Linux { "zigbuild" } else { "build" }, "--locked"];
                if os == Os::Linux {
                    args.extend(["--target", &triple]);
                }
                args.extend(&packages);
                if context.offline {
                    args.push("--offline");
                }
                let program = match os {
                    Os::Linux => zigbuild(context)?,
                    Os::Macos | Os::Windows => PathBuf::from("cargo"),
                };
                (cmd(program, args).dir(&context.root), None)
            }
            Self::Unpacked(compiler) => {
                let args = [&["zigbuild"], packages.as_slice()].concat();
                let call = compiler.command(context, &zigbuild(context)?, &triple, &args);
                (call, Some(compiler.root().to_owned()))
            }
        };
        let call = match os {
            Os::Linux => with_zig(context, call)?,
            Os::Macos => call.env("MACOSX_DEPLOYMENT_TARGET", "11.0"),
            Os::Windows => call,
        };
        let call = call
            .env("CARGO_TARGET_DIR", to)
            // The stable interface needs no interpreter to build against.
            .env("PYO3_NO_PYTHON", "1");
        // A clean Windows has no C runtime of the compiler's, and a program does not look into Python's folder.
        let flags: &[&str] = match os {
            Os::Windows => &["-C", "target-feature=+crt-static"],
            Os::Linux | Os::Macos => &[],
        };
        compiled_paths::hide(call, flags, compiler.as_deref())
    }
}

/// Rust's name of a machine.
pub fn triple(target: Target) -> &'static str {
    use wheel_retag::Runner;
    match target.runner() {
        Runner::LinuxX64 => "x86_64-unknown-linux-gnu",
        Runner::LinuxArm64 => "aarch64-unknown-linux-gnu",
        Runner::MacosArm64 => "aarch64-apple-darwin",
        Runner::WindowsX64 => "x86_64-pc-windows-msvc",
        Runner::WindowsArm64 => "aarch64-pc-windows-msvc",
    }
}

/// The cargo command that knows how to call zig.
fn zigbuild(context: &Context) -> Result<PathBuf> {
    Ok(setup::python_tools(context, ZIG)?.join("cargo-zigbuild"))
}

/// A call that finds zig as linker and C compiler.
fn with_zig(context: &Context, call: Expression) -> Result<Expression> {
    let bin = setup::python_tools(context, ZIG)?;
    let ask = "import ziglang; print(ziglang.__path__[0] + '/zig')";
    let zig = cmd!(bin.join("python"), "-c", ask).read()?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([bin].into_iter().chain(std::env::split_paths(&path)))?;
    Ok(call.env("PATH", path).env("CARGO_ZIGBUILD_ZIG_PATH", zig))
}

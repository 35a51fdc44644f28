//! `cargo xtask check --cross`: the workspace for systems that this host is not.
//!
//! Builds `quicksand.exe` and runs it under Wine, where the registry says Arm and x86_64 in turn, then
//! type-checks the workspace for Windows and macOS, with the host's toolchain where it has the target and
//! else with the compiler that `runtime-builder` unpacks. MinGW's GCC links for Windows; linking for macOS
//! needs Apple's SDK, so nothing is run there, and zig's clang compiles the C code of dependencies.

use anyhow::Result;
use duct::{Expression, cmd};
use fs_err as fs;
use runtime_builder::{CrossCompiler, is_target_installed};
use std::path::PathBuf;
use xtask_base::context::Context;
use xtask_host::{preflight::Needs, setup};

pub mod machines;
mod wine;

/// Linker and C compiler for Windows.
const MINGW: &str = "gcc-mingw-w64-x86-64-posix";
const MINGW_GCC: &str = "x86_64-w64-mingw32-gcc-posix";

/// C compiler for macOS, and the cargo command that knows how to call it.
const ZIG: &[&str] = &["cargo-zigbuild==0.24.0", "ziglang==0.17.1"];

const WINDOWS: &str = "x86_64-pc-windows-gnu";

/// A target with the members that are for other systems only.
const TARGETS: &[(&str, &[&str])] = &[(WINDOWS, LINUX_ONLY), ("aarch64-apple-darwin", LINUX_ONLY)];

/// Init and agent of a Linux guest; what boots it in tests; what measures by `/proc`.
const LINUX_ONLY: &[&str] = &["guest-agent", "vm-tests", "quicksand-bench"];

/// Builds and runs, then type-checks.
///
/// # Errors
/// Something does not compile, or says another thing under Wine than on Windows.
pub fn run(context: &Context) -> Result<()> {
    let targets: Vec<&str> = TARGETS.iter().map(|(target, _)| *target).collect();
    let tools = Tools::ready(context, &targets)?;
    let built = tools.target_dir.join(WINDOWS).join("debug");
    context.ui.step("Build for Windows", |step| {
        let example = ["build", "--package", "host-platform", "--example", "host"];
        step.run(tools.cargo(context, WINDOWS, &example))?;
        step.run(tools.cargo(context, WINDOWS, &["build", "--package", "quicksand-cli"]))
    })?;
    wine::run(context, &built.join("examples/host.exe"), &built.join("quicksand.exe"))?;
    for (target, without) in TARGETS {
        context.ui.step(&format!("Type-check for {target}"), |step| {
            let mut args = vec!["check", "--workspace", "--all-targets", "--keep-going"];
            without.iter().for_each(|member| args.extend(["--exclude", member]));
            step.run(tools.cargo(context, target, &args))
        })?;
    }
    Ok(())
}

pub fn needs(context: &Context) -> Needs {
    setup::needs_of_python_tools(context, ZIG).packages(&[MINGW])
}

/// The compiler and its helpers.
struct Tools {
    /// The compiler with its own standard library, and what it wants at both ends of a program for
    /// Windows; none where the toolchain has all targets.
    unpacked: Option<(CrossCompiler, PathBuf)>,
    /// cargo-zigbuild and the compiler.
    path: Vec<PathBuf>,
    zigbuild: PathBuf,
    zig: PathBuf,
    target_dir: PathBuf,
}

impl Tools {
    fn ready(context: &Context, targets: &[&str]) -> Result<Self> {
        setup::ensure_packages(context, &[MINGW])?;
        let zig_bin = setup::python_tools(context, ZIG)?;
        let zig = cmd!(
            zig_bin.join("python"),
            "-c",
            "import ziglang; print(ziglang.__path__[0] + '/zig')"
        );
        let zig = PathBuf::from(zig.read()?);
        let folder = context.cache.folder("cross")?;
        let is_unpacked = targets.iter().any(|target| !is_target_installed(context, target));
        let unpacked = match is_unpacked {
            true => {
                let compiler = CrossCompiler::ready(context)?;
                let files = start_files(&compiler, folder.join("start-files"))?;
                Some((compiler, files))
            }
            false => None,
        };
        Ok(Self {
            unpacked,
            zigbuild: zig_bin.join("cargo-zigbuild"),
            path: vec![folder.join("bin"), zig_bin],
            zig,
            target_dir: context.cache.target("cross", &context.root)?,
        })
    }

    /// cargo for a target, with the standard library built beside where the toolchain lacks it.
    fn cargo(&self, context: &Context, target: &str, args: &[&str]) -> Expression {
        let call = match &self.unpacked {
            Some((compiler, start_files)) => {
                let path = std::env::var_os("PATH").unwrap_or_default();
                let path = self.path.iter().cloned().chain(std::env::split_paths(&path));
                let path = std::env::join_paths(path).unwrap_or_default();
                let program = match target {
                    WINDOWS => compiler.cargo(),
                    _ => self.zigbuild.as_path(),
                };
                compiler.command(context, program, target, args).env("PATH", path).env(
                    "CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUSTFLAGS",
                    format!("-L native={}", start_files.display()),
                )
            }
            None => {
                let program = match target {
                    WINDOWS => PathBuf::from("cargo"),
                    _ => self.zigbuild.clone(),
                };
                let mut line = vec![args[0], "--locked", "--target", target];
                line.extend(&args[1..]);
                if context.offline {
                    line.push("--offline");
                }
                cmd(program, line).dir(&context.root)
            }
        };
        call.env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .env("CARGO_ZIGBUILD_ZIG_PATH", &self.zig)
            .env("CARGO_TARGET_DIR", &self.target_dir)
            .env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER", MINGW_GCC)
            .env("CC_x86_64_pc_windows_gnu", MINGW_GCC)
            // The stable interface of Python needs no Python of the target.
            .env("PYO3_NO_PYTHON", "1")
    }
}

/// The objects that a standard library made by cargo lacks: a whole toolchain has them ready.
fn start_files(compiler: &CrossCompiler, folder: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&folder)?;
    for entry in fs::read_dir(compiler.sources())? {
        let sources = entry?.path().join("library/rtstartup");
        for name in ["rsbegin", "rsend"] {
            let object = folder.join(name).with_extension("o");
            let source = sources.join(name).with_extension("rs");
            cmd!(compiler.rustc(), "--target", WINDOWS, "--emit=obj", "-o", object, source)
                .env("RUSTC_BOOTSTRAP", "1")
                .run()?;
        }
    }
    Ok(folder)
}

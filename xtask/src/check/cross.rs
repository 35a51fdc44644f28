//! `cargo xtask check --cross`: the workspace for systems that this host is not.
//!
//! Builds `quicksand.exe` and runs it under Wine, where the registry says Arm and x86_64 in turn, then
//! type-checks the workspace for Windows and macOS. A toolchain can lack other targets and the way to
//! get them, so Debian's packages of a compiler that has its own sources are unpacked into the cache
//! and the standard library is built from them. MinGW's GCC links for Windows; linking for macOS
//! needs Apple's SDK, so nothing is run there, and zig's clang compiles the C code of dependencies.

use crate::{
    cache::Key,
    context::Context,
    setup,
    ui::{Step, hinted},
};
use anyhow::{Context as _, Result, ensure};
use duct::{Expression, cmd};
use fs_err as fs;
use std::path::{Path, PathBuf};

mod wine;

/// Linker and C compiler for Windows.
const MINGW: &str = "gcc-mingw-w64-x86-64-posix";
const MINGW_GCC: &str = "x86_64-w64-mingw32-gcc-posix";

/// C compiler for macOS, and the cargo command that knows how to call it.
const ZIG: &[&str] = &["cargo-zigbuild==0.24.0", "ziglang==0.17.1"];

/// Debian's compiler that comes with the sources of its standard library.
const COMPILER: [&str; 2] = ["rustc-web", "rust-web-src"];

const WINDOWS: &str = "x86_64-pc-windows-gnu";

/// A target with the members that are for other systems only.
const TARGETS: &[(&str, &[&str])] = &[(WINDOWS, LINUX_ONLY), ("aarch64-apple-darwin", LINUX_ONLY)];

/// Init and agent of a Linux guest; what boots it in tests; what measures by `/proc`.
const LINUX_ONLY: &[&str] = &["guest-agent", "vm-tests", "quicksand-bench"];

/// Builds and runs, then type-checks.
pub fn run(context: &Context) -> Result<()> {
    let tools = Tools::ready(context)?;
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

/// The compiler and its helpers.
struct Tools {
    rustc: PathBuf,
    cargo: PathBuf,
    /// cargo-zigbuild and the compiler.
    path: Vec<PathBuf>,
    zig: PathBuf,
    /// What rustc wants at both ends of a program for Windows.
    start_files: PathBuf,
    target_dir: PathBuf,
}

impl Tools {
    fn ready(context: &Context) -> Result<Self> {
        setup::ensure_packages(context, &[MINGW])?;
        let compiler = compiler(context)?;
        let zig_bin = setup::python_tools(context, ZIG)?;
        let zig = cmd!(
            zig_bin.join("python"),
            "-c",
            "import ziglang; print(ziglang.__path__[0] + '/zig')"
        );
        let zig = PathBuf::from(zig.read()?);
        let cargo = cmd!("rustup", "which", "cargo").stderr_null().read();
        let folder = context.cache.folder("cross")?;
        let bin = folder.join("bin");
        fs::create_dir_all(&bin)?;
        let rustc = bin.join("rustc");
        write_script(&rustc, &compiler_script(&compiler))?;
        Ok(Self {
            start_files: start_files(&compiler, &rustc, folder.join("start-files"))?,
            rustc,
            cargo: cargo.map_or_else(|_| PathBuf::from("cargo"), PathBuf::from),
            path: vec![bin, zig_bin],
            zig,
            target_dir: folder.join("target"),
        })
    }

    /// cargo for a target, with the standard library built beside.
    fn cargo(&self, context: &Context, target: &str, args: &[&str]) -> Expression {
        let mut line: Vec<String> = vec![args[0].to_owned(), "--locked".into()];
        line.push("-Zbuild-std=std,panic_abort".into());
        line.extend(["--target".to_owned(), target.to_owned()]);
        line.extend(args[1..].iter().map(|arg| (*arg).to_owned()));
        if context.offline {
            line.push("--offline".into());
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = self.path.iter().cloned().chain(std::env::split_paths(&path));
        let path = std::env::join_paths(path).unwrap_or_default();
        let program = match target {
            WINDOWS => self.cargo.clone(),
            _ => PathBuf::from("cargo-zigbuild"),
        };
        cmd(program, line)
            .dir(&context.root)
            .env("PATH", path)
            .env("CARGO", &self.cargo)
            .env("CARGO_ZIGBUILD_ZIG_PATH", &self.zig)
            .env("CARGO_TARGET_DIR", &self.target_dir)
            .env("CARGO_TARGET_X86_64_PC_WINDOWS_GNU_LINKER", MINGW_GCC)
            .env(
                "CARGO_TARGET_X86_64_PC_WINDOWS_GNU_RUSTFLAGS",
                format!("-L native={}", self.start_files.display()),
            )
            .env("CC_x86_64_pc_windows_gnu", MINGW_GCC)
            .env("RUSTC", &self.rustc)
            // The standard library's own features are nightly's.
            .env("RUSTC_BOOTSTRAP", "1")
            // The stable interface of Python needs no Python of the target.
            .env("PYO3_NO_PYTHON", "1")
            .env_remove("RUSTFLAGS")
            .env_remove("RUSTUP_TOOLCHAIN")
    }
}

/// The objects that a standard library made by cargo lacks: a whole toolchain has them ready.
fn start_files(compiler: &Path, rustc: &Path, folder: PathBuf) -> Result<PathBuf> {
    fs::create_dir_all(&folder)?;
    for entry in fs::read_dir(compiler.join("usr/src"))? {
        let sources = entry?.path().join("library/rtstartup");
        for name in ["rsbegin", "rsend"] {
            let object = folder.join(name).with_extension("o");
            let source = sources.join(name).with_extension("rs");
            cmd!(rustc, "--target", WINDOWS, "--emit=obj", "-o", object, source)
                .env("RUSTC_BOOTSTRAP", "1")
                .run()?;
        }
    }
    Ok(folder)
}

/// Debian's compiler and what it needs beyond what is installed, unpacked in the cache.
fn compiler(context: &Context) -> Result<PathBuf> {
    let plan = || {
        let mut line = vec!["install", "--print-uris", "--yes", "--no-install-recommends"];
        line.extend(COMPILER);
        cmd("apt-get", line).stderr_null().read()
    };
    let text = plan().map_err(|_| {
        hinted(
            format!("apt knows no {}", COMPILER.join(" and ")),
            "they are packages of Debian (bookworm and later); apt-get update may be needed",
        )
    })?;
    let files = files_of(&text);
    let Some(version) = files.iter().find_map(|file| file.strip_prefix("rustc-web_")) else {
        // Whoever has it installed needs no copy.
        return Ok(PathBuf::from("/"));
    };
    let version = version.split("%2b").next().unwrap_or(version).split(['+', '_']).next();
    let mut key = Key::new("cross-compiler");
    files.iter().for_each(|file| key.add("file", file.as_bytes()));
    context.cache.entry("cross-compiler", &key, |place| {
        ensure!(!context.offline, "The compiler {version:?} is not in the cache");
        context.ui.step("Fetch a compiler for other systems", |step| {
            let packages = tempfile::tempdir()?;
            let mut line = vec!["download"];
            line.extend(files.iter().filter_map(|file| file.split('_').next()));
            step.run(cmd("apt-get", line).dir(packages.path()))?;
            unpack(step, packages.path(), place)
        })
    })
}

/// The file names of apt's list of addresses: `'URI' NAME SIZE HASH`.
fn files_of(text: &str) -> Vec<String> {
    let file = |line: &str| {
        let (_, rest) = line.strip_prefix('\'')?.split_once("' ")?;
        Some(rest.split(' ').next()?.to_owned())
    };
    text.lines().filter_map(file).collect()
}

fn unpack(step: &Step, packages: &Path, place: &Path) -> Result<()> {
    for entry in fs::read_dir(packages)? {
        let package = entry?.path();
        step.run(cmd!("dpkg-deb", "--extract", package, place))?;
    }
    Ok(())
}

/// Starts the unpacked compiler with its own libraries.
fn compiler_script(root: &Path) -> String {
    let root = root.display();
    let libraries =
        ["x86_64-linux-gnu", "aarch64-linux-gnu", "."].map(|dir| format!("$R/usr/lib/{dir}"));
    format!(
        "#!/bin/sh\nR='{root}'\n\
         for dir in \"$R\"/usr/lib/llvm-*/lib; do LD_LIBRARY_PATH=\"$dir:$LD_LIBRARY_PATH\"; done\n\
         export LD_LIBRARY_PATH=\"{}:$LD_LIBRARY_PATH\"\n\
         exec \"$R/usr/bin/rustc\" \"$@\"\n",
        libraries.join(":")
    )
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    }
    path.to_str().context("The cache's path is not UTF-8")?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apts_list_is_read() {
        let text = "Reading package lists...\n\
                    'http://mirror.example/pool/rustc-web_1.96.0%2bdfsg1-1_amd64.deb' rustc-web_1.96.0+dfsg1-1_amd64.deb 4450500 SHA256:8f\n";
        assert_eq!(files_of(text), ["rustc-web_1.96.0+dfsg1-1_amd64.deb"]);
        assert_eq!(files_of("E: Unable to locate package\n"), [""; 0]);
    }
}

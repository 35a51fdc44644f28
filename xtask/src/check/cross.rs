//! `cargo xtask check --cross`: the workspace for systems that this host is not.
//!
//! Builds `quicksand.exe` and runs it under Wine, where the registry says Arm and x86_64 in turn, then
//! type-checks the workspace for Windows and macOS. Nothing is installed for the compiler: Debian's packages of
//! one that has its own sources are unpacked into the cache, and the standard library is built from
//! them, because a toolchain can lack other targets and the way to get them. Linking for macOS needs
//! Apple's SDK, so nothing is run there.

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

/// Linker and C compiler for every target, and the cargo command that knows how to call it.
const ZIG: &[&str] = &["cargo-zigbuild==0.24.0", "ziglang==0.17.1"];

/// Debian's compiler that comes with the sources of its standard library.
const COMPILER: [&str; 2] = ["rustc-web", "rust-web-src"];

const WINDOWS: &str = "x86_64-pc-windows-gnu";

/// A target with the members that are for other systems only.
const TARGETS: &[(&str, &[&str])] = &[(WINDOWS, LINUX_ONLY), ("aarch64-apple-darwin", LINUX_ONLY)];

/// Init and agent of a Linux guest; what boots it in tests.
const LINUX_ONLY: &[&str] = &["guest-agent"];

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
            let mut args = vec!["check", "--workspace", "--all-targets"];
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
    /// cargo-zigbuild and our stand-in for dlltool.
    path: Vec<PathBuf>,
    zig: PathBuf,
    /// Empty libraries that Windows' linker is told to want.
    stubs: PathBuf,
    target_dir: PathBuf,
}

impl Tools {
    fn ready(context: &Context) -> Result<Self> {
        setup::ensure_packages(context, &["binutils"])?;
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
        let stubs = folder.join("stubs");
        fs::create_dir_all(&bin)?;
        fs::create_dir_all(&stubs)?;
        let script = |name: &str, text: &str| write_script(&bin.join(name), text);
        script("rustc", &compiler_script(&compiler))?;
        // rustc asks MinGW's dlltool for import libraries; zig's does the same job.
        script(
            "x86_64-w64-mingw32-dlltool",
            &format!("#!/bin/sh\nexec '{}' dlltool \"$@\"\n", zig.display()),
        )?;
        for name in ["libssp.a", "libssp_nonshared.a"] {
            fs::write(stubs.join(name), "!<arch>\n")?;
        }
        Ok(Self {
            rustc: bin.join("rustc"),
            cargo: cargo.map_or_else(|_| PathBuf::from("cargo"), PathBuf::from),
            path: vec![bin, zig_bin],
            zig,
            stubs,
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
        let flags = match target {
            WINDOWS => format!("-L native={}", self.stubs.display()),
            _ => String::new(),
        };
        cmd("cargo-zigbuild", line)
            .dir(&context.root)
            .env("PATH", path)
            .env("CARGO", &self.cargo)
            .env("CARGO_ZIGBUILD_ZIG_PATH", &self.zig)
            .env("CARGO_TARGET_DIR", &self.target_dir)
            .env("RUSTC", &self.rustc)
            // The standard library's own features are nightly's.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("RUSTFLAGS", flags)
            // The stable interface of Python needs no Python of the target.
            .env("PYO3_NO_PYTHON", "1")
            .env_remove("RUSTUP_TOOLCHAIN")
    }
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

//! A compiler for targets that this host's toolchain lacks, and may lack the way to get: Debian's,
//! whose packages hold the sources of the standard library, is unpacked in the cache, and cargo
//! builds the library for the target.

use anyhow::{Context as _, Result};
use duct::{Expression, cmd};
use fs_err as fs;
use std::path::{Path, PathBuf};
use xtask_base::context::Context;
use xtask_host::unpacked;

/// Debian's compiler that comes with the sources of its standard library.
const PACKAGES: unpacked::Packages = unpacked::Packages {
    kind: "cross-compiler",
    title: "Fetch a compiler for other systems",
    names: &["rustc-web", "rust-web-src"],
    main: "rustc-web",
    keep: &[],
};

/// Whether this host's own toolchain has the standard library of a target (`rustup target add`).
pub fn is_target_installed(context: &Context, target: &str) -> bool {
    // The folder of a target's libraries is there when the target is installed.
    let libraries = cmd!("rustc", "--print", "target-libdir", "--target", target);
    let folder = libraries.dir(&context.root).stderr_null().read();
    folder.is_ok_and(|folder| Path::new(folder.trim()).is_dir())
}

pub struct CrossCompiler {
    /// Where its packages are unpacked.
    root: PathBuf,
    /// The script that starts it.
    rustc: PathBuf,
    /// A cargo that asks no rustup.
    cargo: PathBuf,
}

impl CrossCompiler {
    /// Unpacks it where it is not yet.
    pub fn ready(context: &Context) -> Result<Self> {
        let root = unpacked::root(context, &PACKAGES)?;
        let bin = context.cache.folder("cross/bin")?;
        let rustc = bin.join("rustc");
        write_script(&rustc, &script(&root))?;
        let cargo = cmd!("rustup", "which", "cargo").stderr_null().read();
        Ok(Self {
            root,
            rustc,
            cargo: cargo.map_or_else(|_| PathBuf::from("cargo"), PathBuf::from),
        })
    }

    /// The folder that it is in, and that stands in what it compiles unless it is told otherwise.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the sources of Debian's compilers are.
    pub fn sources(&self) -> PathBuf {
        self.root.join("usr/src")
    }

    pub fn rustc(&self) -> &Path {
        &self.rustc
    }

    /// The cargo that goes with it.
    pub fn cargo(&self) -> &Path {
        &self.cargo
    }

    /// A cargo command for a target, with the standard library built beside. `program` is cargo or
    /// what is called in its stead.
    pub fn command(
        &self,
        context: &Context,
        program: &Path,
        target: &str,
        args: &[&str],
    ) -> Expression {
        let mut line: Vec<String> = vec![args[0].to_owned(), "--locked".into()];
        line.push("-Zbuild-std=std,panic_abort".into());
        line.extend(["--target".to_owned(), target.to_owned()]);
        line.extend(args[1..].iter().map(|arg| (*arg).to_owned()));
        if context.offline {
            line.push("--offline".into());
        }
        cmd(program, line)
            .dir(&context.root)
            .env("CARGO", &self.cargo)
            .env("RUSTC", &self.rustc)
            // The standard library's own features are nightly's.
            .env("RUSTC_BOOTSTRAP", "1")
            .env_remove("RUSTUP_TOOLCHAIN")
    }
}

/// Starts the unpacked compiler with its own libraries.
fn script(root: &Path) -> String {
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

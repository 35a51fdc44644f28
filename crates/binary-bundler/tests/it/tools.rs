//! Compilers for fixtures: the host's gcc, and zig for other systems.

use std::{ffi::OsStr, path::PathBuf};

/// Runs a command that must succeed.
pub fn run(program: impl AsRef<OsStr>, args: &[&str]) -> String {
    let program = program.as_ref();
    duct::cmd(program, args)
        .stderr_to_stdout()
        .read()
        .unwrap_or_else(|error| panic!("{} {args:?}: {error}", program.display()))
}

/// A fresh folder with the source of a tool that needs two levels of libraries.
pub struct Sources {
    pub folder: tempfile::TempDir,
}

impl Sources {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
        write("deep.c", "int deep(void) { return 40; }\n");
        write("wide.c", "int deep(void);\nint wide(void) { return deep() + 2; }\n");
        write("module.c", "int deep(void);\nint module(void) { return deep() + 1; }\n");
        write(
            "tool.c",
            "#include <stdio.h>\nint wide(void);\nint main(void) { printf(\"%d\\n\", wide()); return 0; }\n",
        );
        Self { folder }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn text(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }
}

/// zig, when the tests were started by `cargo xtask test it`, which installs it.
pub fn zig() -> Option<PathBuf> {
    let zig = std::env::var_os("QUICKSAND_ZIG").map(PathBuf::from);
    if zig.is_none() {
        eprintln!("skipped: QUICKSAND_ZIG names no zig; `cargo xtask test it` sets it");
    }
    zig
}

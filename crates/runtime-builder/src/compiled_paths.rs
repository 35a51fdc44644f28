//! Keeps the paths of this machine out of what is compiled, so that a program is the same bytes
//! whoever builds it and wherever.

use anyhow::{Context as _, Result, ensure};
use duct::Expression;
use fs_err as fs;
use std::path::{Path, PathBuf};

/// Compiles with these flags, and with the names that paths get in programs: `/cargo` for cargo's
/// home, `/rustc` for `compiler`, where one lies in a folder of its own. Members of the workspace are
/// compiled by paths relative to its root already; a flag that named that would compile all
/// dependencies again for each checkout.
pub fn hide(cargo: Expression, flags: &[&str], compiler: Option<&Path>) -> Result<Expression> {
    let home = cargo_home()?;
    let mut all: Vec<String> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    let renamed = [(home.as_path(), "/cargo")].into_iter().chain(compiler.map(|at| (at, "/rustc")));
    for (path, name) in renamed {
        all.push(format!("--remap-path-prefix={}={name}", path.display()));
    }
    // This variable comes before every other, and it alone can hold flags with spaces.
    Ok(cargo.env("CARGO_ENCODED_RUSTFLAGS", all.join("\u{1f}")))
}

/// Refuses a program that names where it was built: in cargo's home, or below `folders`.
pub fn check(program: &Path, folders: &[&Path]) -> Result<()> {
    let bytes = fs::read(program)?;
    let sources = cargo_home()?.join("registry");
    for folder in folders.iter().copied().chain([sources.as_path()]) {
        let name = folder.as_os_str().as_encoded_bytes();
        ensure!(
            memchr::memmem::find(&bytes, name).is_none(),
            "{} names a folder of this machine, {}, and would be other bytes elsewhere",
            program.display(),
            folder.display()
        );
    }
    Ok(())
}

fn cargo_home() -> Result<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(std::env::home_dir()?.join(".cargo")))
        .context("No home folder is known; set CARGO_HOME")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_names_its_place_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (place, program) = (folder.path().join("target"), folder.path().join("program"));
        fs::write(&program, format!("\0{}/out/x.rs\0", place.display())).unwrap();
        let error = check(&program, &[&place]).unwrap_err().to_string();
        assert!(error.contains(&*place.to_string_lossy()), "{error}");
        fs::write(&program, "\0/cargo/registry/x.rs\0src/main.rs\0").unwrap();
        check(&program, &[&place]).unwrap();
    }
}

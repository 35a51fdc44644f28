//! What `cargo xtask` starts: compares the compiler with the workspace's `rust-version`, then runs the
//! real `xtask`, or `xtask-check` where that is enough. cargo's own words for an old compiler are a list of each crate that it is too old for.
//! It depends on nothing and knows nothing of the tasks.

use std::process::ExitCode;

/// The workspace's manifest, which names the oldest compiler.
const MANIFEST: &str = include_str!("../../../Cargo.toml");

/// What compiled this, from the build script.
const RUSTC: &str = env!("XTASK_RUSTC");

fn main() -> ExitCode {
    if let Some(needed) = too_old(RUSTC, MANIFEST) {
        eprintln!("error: rustc {RUSTC} is too old: quicksand needs {needed} or newer");
        eprintln!(
            "hint: with rustup: `rustup update`; a distribution's own package is often older, and rustup can be \
             installed beside it (its cargo must then be the first in PATH)"
        );
        return ExitCode::FAILURE;
    }
    run()
}

/// Builds the real one with the same cargo and runs it, in place of this process where that is possible.
/// It is not started by cargo: what cargo sets for a program that it runs is an input of some build
/// scripts (ring's), which the tasks' own calls of cargo would then run again, and all that needs them.
#[allow(clippy::disallowed_methods, clippy::disallowed_types)] // It may have no dependencies.
fn run() -> ExitCode {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // Not quietly: the first time it compiles for minutes, and says how far it is.
    let mut build = without_cargos_variables(cargo);
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let package = package(&args);
    match build.args(["build", "--package", package]).status() {
        Ok(status) if status.success() => {}
        Ok(status) => return exit_code(status),
        Err(error) => return failed("cargo", &error),
    }
    let name = format!("{package}{}", std::env::consts::EXE_SUFFIX);
    let program = match std::env::current_exe() {
        Ok(front) => front.with_file_name(name),
        Err(error) => return failed("xtask", &error),
    };
    let mut command = without_cargos_variables(program.into());
    command.args(args);
    #[cfg(unix)]
    return failed("xtask", &std::os::unix::process::CommandExt::exec(&mut command));
    #[cfg(not(unix))]
    match command.status() {
        Ok(status) => exit_code(status),
        Err(error) => failed("xtask", &error),
    }
}

/// The checks that `xtask-check` runs, as its own list has them.
const LIGHT: [&str; 5] = ["fmt", "clippy", "tidy", "layering", "licences"];

/// The package that runs this command line: a small one for checks that need nothing but cargo, so that they wait
/// for none of the tasks to be compiled.
fn package(args: &[std::ffi::OsString]) -> &'static str {
    let words: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap_or_default()).collect();
    match words.as_slice() {
        ["check", rest @ ..] => {
            let mut names = rest.iter().filter(|word| **word != "--offline").peekable();
            let is_light = names.peek().is_some() && names.all(|name| LIGHT.contains(name));
            if is_light {
                "xtask-check"
            } else {
                "xtask"
            }
        }
        _ => "xtask",
    }
}

#[allow(clippy::disallowed_methods, clippy::disallowed_types)] // It may have no dependencies.
fn without_cargos_variables(program: std::ffi::OsString) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    for (name, _) in std::env::vars_os() {
        if is_cargos(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command
}

/// Whether cargo sets this variable for what it runs, and no user does.
fn is_cargos(name: &str) -> bool {
    ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| name.starts_with(start))
}

fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.map_or(ExitCode::FAILURE, ExitCode::from)
}

fn failed(what: &str, error: &std::io::Error) -> ExitCode {
    eprintln!("error: Failed to start {what}: {error}");
    ExitCode::FAILURE
}

/// The version that the manifest asks for, when the compiler is older. What cannot be read is the real
/// one's to judge.
fn too_old<'a>(rustc: &str, manifest: &'a str) -> Option<&'a str> {
    let line = manifest.lines().find_map(|line| line.strip_prefix("rust-version = "))?;
    let needed = line.trim().trim_matches('"');
    (numbers(rustc)? < numbers(needed)?).then_some(needed)
}

/// Major and minor number.
fn numbers(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_compiler_is_named_and_no_other() {
        let manifest = "[workspace.package]\nedition = \"2024\"\nrust-version = \"1.95\"\n";
        for (rustc, expected) in [
            ("1.85.0", Some("1.95")),
            ("1.94.1-beta.3", Some("1.95")),
            ("1.95.0", None),
            ("1.97.0-nightly", None),
            ("2.0.0", None),
            ("", None),
        ] {
            assert_eq!(too_old(rustc, manifest), expected, "{rustc}");
        }
        assert_eq!(too_old("1.0.0", ""), None);
    }

    #[test]
    fn checks_that_need_cargo_alone_are_the_small_packages() {
        for (line, expected) in [
            ("check fmt", "xtask-check"),
            ("check tidy layering --offline", "xtask-check"),
            ("check licences", "xtask-check"),
            ("check", "xtask"),
            ("check --offline", "xtask"),
            ("check fmt clippy", "xtask-check"),
            ("check fmt python", "xtask"),
            ("check --cross", "xtask"),
            ("check --help", "xtask"),
            ("--offline check fmt", "xtask"),
            ("test unit", "xtask"),
            ("", "xtask"),
        ] {
            let args: Vec<_> = line.split_whitespace().map(Into::into).collect();
            assert_eq!(package(&args), expected, "{line}");
        }
    }

    #[test]
    fn the_workspace_names_its_oldest_compiler() {
        assert!(too_old("1.0.0", MANIFEST).is_some());
        assert_eq!(too_old(RUSTC, MANIFEST), None);
    }
}

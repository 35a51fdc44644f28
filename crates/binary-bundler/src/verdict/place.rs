//! Where the files of a wheel or tree lie for a loader: paths without links, resolved by name.

pub(super) use crate::lexical::clean;
use std::path::{Component, Path, PathBuf};

/// The place of a wheel's entry after installation, as far as others can refer to it: what is below
/// `NAME.data/platlib` and `NAME.data/purelib` lands where the other entries do (the binary distribution
/// format, "The .data directory").
pub(super) fn installed(path: &Path) -> PathBuf {
    let mut parts = path.components();
    let is_data = matches!(
        parts.next(),
        Some(Component::Normal(name)) if name.to_string_lossy().ends_with(".data")
    );
    let is_library = matches!(
        parts.next(),
        Some(Component::Normal(name)) if name == "platlib" || name == "purelib"
    );
    if is_data && is_library { clean(parts.as_path()) } else { clean(path) }
}

/// Whether an installer puts the file elsewhere than among the packages: what lies around it is then
/// not known.
pub(super) fn is_apart(path: &Path) -> bool {
    let first = path.components().next();
    let is_data = matches!(
        first,
        Some(Component::Normal(name)) if name.to_string_lossy().ends_with(".data")
    );
    is_data && installed(path) == clean(path)
}

/// The folder of a file.
pub(super) fn folder(file: &Path) -> &Path {
    file.parent().unwrap_or(Path::new(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_after_installation() {
        let check = |path: &str, expect: &str| {
            assert_eq!(installed(Path::new(path)), Path::new(expect), "{path}");
        };
        check("pkg/a.so", "pkg/a.so");
        check("w-1.0.data/platlib/pkg/a.so", "pkg/a.so");
        check("w-1.0.data/scripts/tool", "w-1.0.data/scripts/tool");
        check("a/../b", "b");
        check("a/../../b", "../b");
        assert!(is_apart(Path::new("w-1.0.data/scripts/tool")));
        assert!(!is_apart(Path::new("w-1.0.data/platlib/a.so")));
        assert!(!is_apart(Path::new("pkg/a.so")));
    }
}

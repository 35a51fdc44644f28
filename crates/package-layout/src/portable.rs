//! What a file name must not be, so that it can be carried to every system.

/// Whether Windows keeps the name for a device. The names stay reserved with any extension, so
/// `nul.txt` is `NUL`:
/// <https://learn.microsoft.com/windows/win32/fileio/naming-a-file#naming-conventions>.
pub fn is_windows_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix).is_some_and(|n| n.len() == 1 && n.as_bytes()[0].is_ascii_digit())
    };
    ["CON", "PRN", "AUX", "NUL"].contains(&stem.as_str()) || numbered("COM") || numbered("LPT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_known_in_any_case_and_with_any_extension() {
        for device in ["con", "NUL.txt", "Aux .c", "prn", "com1", "LPT9.a.b"] {
            assert!(is_windows_device(device), "{device}");
        }
        for file in ["console", "com10", "com", "lptx", "nul_", "a.nul", ""] {
            assert!(!is_windows_device(file), "{file}");
        }
    }
}

//! The folders of `/etc/ld.so.conf` with its includes: see ldconfig(8).

use super::Root;
use std::path::{Path, PathBuf};

/// Includes deeper than this are a circle.
const MAX_DEPTH: usize = 16;

/// The folders in order, each once, as paths of the system.
pub(super) fn folders(root: &Root) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    read(root, Path::new("/etc/ld.so.conf"), 0, &mut folders);
    folders
}

fn read(root: &Root, file: &Path, depth: usize, folders: &mut Vec<PathBuf>) {
    // A file that is absent or not readable is what ldconfig warns about and passes over.
    let Some(text) = root.file(file).and_then(|real| fs_err::read_to_string(real).ok()) else {
        return;
    };
    if depth >= MAX_DEPTH {
        return;
    }
    for line in text.lines() {
        let line = line.split('#').next().unwrap_or_default().trim();
        if let Some(patterns) =
            line.strip_prefix("include").filter(|rest| rest.starts_with([' ', '\t']))
        {
            for pattern in patterns.split_whitespace() {
                for included in expand(root, file, pattern) {
                    read(root, &included, depth + 1, folders);
                }
            }
            continue;
        }
        // ldconfig ignores old `hwcap` lines too.
        if line.starts_with('/') {
            // A folder may carry `=TYPE` of the days of libc5.
            let folder = PathBuf::from(line.split('=').next().unwrap_or(line).trim_end());
            if !folders.contains(&folder) {
                folders.push(folder);
            }
        }
    }
}

/// The files of a pattern, sorted; a relative pattern starts at the including file's folder.
fn expand(root: &Root, file: &Path, pattern: &str) -> Vec<PathBuf> {
    let pattern = file.parent().unwrap_or(Path::new("/")).join(pattern);
    let escaped = glob::Pattern::escape(&root.path().to_string_lossy());
    let below = pattern.strip_prefix("/").unwrap_or(&pattern).to_string_lossy().into_owned();
    let Ok(paths) = glob::glob(&format!("{}/{below}", escaped.trim_end_matches('/'))) else {
        return Vec::new();
    };
    paths.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn includes_comments_and_repeats_are_understood() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path()).unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs_err::create_dir_all(path.parent().unwrap()).unwrap();
            fs_err::write(path, text).unwrap();
        };
        write("etc/ld.so.conf", "# first\n/opt/a\ninclude ld.so.conf.d/*.conf\n/opt/z # last\n");
        write("etc/ld.so.conf.d/2.conf", "/opt/c\ninclude /etc/ld.so.conf\n");
        write("etc/ld.so.conf.d/1.conf", "/opt/b\n/opt/a\n");
        let folders = folders(&root);
        let names: Vec<_> = folders.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(names, ["/opt/a", "/opt/b", "/opt/c", "/opt/z"]);
    }
}

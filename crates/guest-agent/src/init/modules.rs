//! Kernel modules, in the order that the image's maker wrote down.

use std::path::Path;

use super::console;

/// Loads every module of `folder/order`. A module that does not load is reported and passed over:
/// whether it was needed shows when the disk or the port is missing.
pub fn load_all(folder: &Path) {
    let Ok(order) = fs_err::read_to_string(folder.join("order")) else { return };
    for name in names(&order) {
        if let Err(error) = load(&folder.join(name)) {
            console::say(&format!("quicksand-agent: module `{name}`: {error}"));
        }
    }
}

/// File names, one a line; empty lines and comments are skipped, and paths are not followed.
fn names(order: &str) -> impl Iterator<Item = &str> {
    order.lines().map(str::trim).filter(|name| !name.is_empty() && !name.starts_with('#'))
}

fn load(path: &Path) -> std::io::Result<()> {
    let file = fs_err::File::open(path)?;
    match rustix::system::finit_module(&file, c"", 0) {
        // Built into the kernel, or loaded already; or for hardware that this machine lacks.
        Err(rustix::io::Errno::EXIST | rustix::io::Errno::NODEV) => Ok(()),
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_order_file_allows_comments_and_empty_lines() {
        let names: Vec<&str> = super::names("# first\nvirtio.ko\n\n  ext4.ko \n").collect();
        assert_eq!(names, ["virtio.ko", "ext4.ko"]);
    }
}

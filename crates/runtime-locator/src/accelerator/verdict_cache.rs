//! Keeps a verdict for the boot of the host, so that only the first start pays for the probe.
//!
//! The file is a hint and nothing more: whatever is wrong with it (owner, mode, contents), the
//! probe is run again, and failing to write it is no error.

use super::Finding;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Changes when the probe does, so that verdicts of an older release are not believed.
#[cfg(any(target_os = "linux", test))]
const PROBE_VERSION: u32 = 1;

/// What a verdict depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Key {
    probe_version: u32,
    boot_id: String,
    kernel_release: String,
    /// Device number and inode of `/dev/kvm`: another one when the module was loaded again or the
    /// folder of devices is another container's.
    device: (u64, u64),
}

#[derive(Serialize, Deserialize)]
struct Kept {
    key: Key,
    usable: bool,
    reason: String,
}

/// The file below our cache folder.
pub(super) fn file(cache_dir: &Path) -> PathBuf {
    cache_dir.join("accelerator.json")
}

/// The key of this boot; `None` where it is not known, and then nothing is kept.
#[cfg(target_os = "linux")]
pub(super) fn key() -> Option<Key> {
    use std::os::unix::fs::MetadataExt;
    let line = |path: &str| Some(fs_err::read_to_string(path).ok()?.trim().to_owned());
    let device = fs_err::metadata("/dev/kvm").ok()?;
    Some(Key {
        probe_version: PROBE_VERSION,
        boot_id: line("/proc/sys/kernel/random/boot_id")?,
        kernel_release: line("/proc/sys/kernel/osrelease")?,
        device: (device.rdev(), device.ino()),
    })
}

#[cfg(not(target_os = "linux"))]
pub(super) fn key() -> Option<Key> {
    None
}

/// The verdict that was kept for this key.
pub(super) fn read(file: &Path, key: &Key) -> Option<Finding> {
    if !is_ours_alone(file) {
        return None;
    }
    let kept: Kept = serde_json::from_str(&fs_err::read_to_string(file).ok()?).ok()?;
    (kept.key == *key).then(|| Finding::new(kept.usable, true, kept.reason))
}

/// Keeps a verdict: written beside and renamed, readable by its owner alone.
pub(super) fn write(file: &Path, key: &Key, finding: &Finding) {
    let kept = Kept { key: key.clone(), usable: finding.usable, reason: finding.reason.clone() };
    let Some(folder) = file.parent() else { return };
    if make_private_folder(folder).is_err() {
        return;
    }
    let Ok(json) = serde_json::to_vec(&kept) else { return };
    // Temporary files are made with mode 0600, which renaming keeps.
    if let Ok(temporary) = tempfile::NamedTempFile::new_in(folder)
        && fs_err::write(temporary.path(), json).is_ok()
    {
        // Another process may have kept the same verdict in the meantime: either is right.
        drop(temporary.persist(file));
    }
}

#[cfg(unix)]
fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_private_folder(folder: &Path) -> std::io::Result<()> {
    fs_err::create_dir_all(folder)
}

/// A small regular file that nobody else can have written.
#[cfg(unix)]
fn is_ours_alone(file: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    const SIZE_LIMIT: u64 = 16 << 10;
    // SAFETY: geteuid has no arguments and cannot fail.
    let user = unsafe { libc::geteuid() };
    fs_err::symlink_metadata(file).is_ok_and(|metadata| {
        metadata.is_file()
            && metadata.uid() == user
            && metadata.mode() & 0o077 == 0
            && metadata.len() <= SIZE_LIMIT
    })
}

#[cfg(not(unix))]
fn is_ours_alone(file: &Path) -> bool {
    file.is_file()
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn key_of(boot: &str) -> Key {
        Key {
            probe_version: PROBE_VERSION,
            boot_id: boot.to_owned(),
            kernel_release: "6.1".to_owned(),
            device: (1, 2),
        }
    }

    #[test]
    fn a_verdict_is_kept_for_its_boot_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(&folder.path().join("quicksand"));
        let key = key_of("boot one");
        assert!(read(&file, &key).is_none());
        write(&file, &key, &Finding::new(false, true, "it hangs"));
        let finding = read(&file, &key).unwrap();
        assert!(!finding.usable);
        assert_eq!(finding.reason, "it hangs");
        assert!(read(&file, &key_of("boot two")).is_none());
        let other_kernel = Key { kernel_release: "6.2".to_owned(), ..key.clone() };
        assert!(read(&file, &other_kernel).is_none());
        let other_device = Key { device: (1, 3), ..key.clone() };
        assert!(read(&file, &other_device).is_none());

        let mode = |path: &Path| fs_err::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&file), 0o600);
        assert_eq!(mode(file.parent().unwrap()), 0o700);
        write(&file, &key, &Finding::new(true, true, "it runs"));
        assert!(read(&file, &key).unwrap().usable, "a newer verdict replaces the old one");
    }

    #[test]
    fn a_bad_file_is_ignored_and_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = file(folder.path());
        let key = key_of("boot");
        let finding = Finding::new(true, true, "it runs");
        let spoil = |file: &Path, contents: &[u8], mode| {
            drop(fs_err::remove_file(file));
            fs_err::write(file, contents).unwrap();
            fs_err::set_permissions(file, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        write(&file, &key, &finding);
        let good = fs_err::read(&file).unwrap();
        let mut long = good.clone();
        long.resize(20 << 10, b' ');
        for (what, contents, mode) in [
            ("cut", &good[..good.len() / 2], 0o600),
            ("empty", &b""[..], 0o600),
            ("not JSON", &b"\xff\xfe\0"[..], 0o600),
            ("writable by others", &good[..], 0o622),
            ("readable by others", &good[..], 0o644),
            ("too long", &long[..], 0o600),
        ] {
            spoil(&file, contents, mode);
            assert!(read(&file, &key).is_none(), "{what}");
            write(&file, &key, &finding);
            assert!(read(&file, &key).is_some(), "{what}");
        }
        let elsewhere = folder.path().join("elsewhere");
        fs_err::rename(&file, &elsewhere).unwrap();
        fs_err::os::unix::fs::symlink(&elsewhere, &file).unwrap();
        assert!(read(&file, &key).is_none(), "a link");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_no_error() {
        let folder = tempfile::tempdir().unwrap();
        let in_the_way = folder.path().join("file");
        fs_err::write(&in_the_way, b"").unwrap();
        let file = file(&in_the_way.join("quicksand"));
        write(&file, &key_of("boot"), &Finding::new(true, true, "it runs"));
        assert!(read(&file, &key_of("boot")).is_none());
    }
}

//! File systems: those of the initrd, the disk, and the move into it.

use std::ffi::CString;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Access, Mode};
use rustix::mount::{MountFlags, mount as mount_at, mount_move};

use crate::config::CommandLine;
use crate::network::NAME_SERVER;
use crate::{Error, Result};

const NEW_ROOT: &str = "/newroot";
const DEFAULT_DEVICE: &str = "/dev/vda";
const DEFAULT_TYPE: &str = "ext4";
/// How long the disk may take to appear; the driver's own probe is over within milliseconds.
const DISK_TIME: Duration = Duration::from_secs(15);
const DISK_POLL: Duration = Duration::from_millis(1);

fn failed(step: impl Into<String>) -> impl FnOnce(io::Error) -> Error {
    let step = step.into();
    move |source| Error::Boot { step, source }
}

/// Mounts what the kernel offers.
///
/// # Errors
/// A kernel without one of them cannot be used.
pub fn mount_early() -> Result<()> {
    let quiet = MountFlags::NOSUID | MountFlags::NOEXEC | MountFlags::NODEV;
    for (kind, target, flags) in [
        (c"proc", "/proc", quiet),
        (c"sysfs", "/sys", quiet),
        (c"devtmpfs", "/dev", MountFlags::NOSUID),
    ] {
        make_folder(target);
        match mount_at(kind, target, kind, flags, c"") {
            // CONFIG_DEVTMPFS_MOUNT, or an initrd that is entered a second time.
            Err(rustix::io::Errno::BUSY) => {}
            result => result.map_err(|error| failed(format!("mount `{target}`"))(error.into()))?,
        }
    }
    Ok(())
}

/// Waits for the disk and mounts it.
///
/// # Errors
/// A disk that does not appear or does not mount.
pub fn mount(line: &CommandLine) -> Result<()> {
    let device = line.root.as_deref().filter(|root| root.starts_with("/dev/"));
    let device = device.unwrap_or(DEFAULT_DEVICE);
    let kind = line.root_type.as_deref().unwrap_or(DEFAULT_TYPE);
    let deadline = Instant::now() + DISK_TIME;
    while rustix::fs::access(device, Access::EXISTS).is_err() {
        if Instant::now() >= deadline {
            let step = format!("find the root disk `{device}` within {} s", DISK_TIME.as_secs());
            return Err(failed(step)(io::ErrorKind::NotFound.into()));
        }
        std::thread::sleep(DISK_POLL);
    }
    make_folder(NEW_ROOT);
    let flags = if line.read_only { MountFlags::RDONLY } else { MountFlags::empty() };
    let step = format!("mount the root disk `{device}` as `{kind}`");
    let options = CString::new(line.root_options.as_str()).unwrap_or_default();
    mount_at(device, NEW_ROOT, kind, flags, options.as_c_str())
        .map_err(|error| failed(step)(error.into()))
}

/// Makes the disk the root, with the kernel's file systems in it, and frees the initrd.
///
/// # Errors
/// A root without the folders, or a kernel that refuses the move.
pub fn switch(has_network: bool) -> Result<()> {
    remove_initrd();
    for name in ["proc", "sys", "dev"] {
        let target = format!("{NEW_ROOT}/{name}");
        make_folder(&target);
        mount_move(format!("/{name}"), &target)
            .map_err(|error| failed(format!("move `/{name}`"))(error.into()))?;
    }
    let enter = || {
        rustix::process::chdir(NEW_ROOT)?;
        mount_move(".", "/")?;
        rustix::process::chroot(".")?;
        rustix::process::chdir("/")
    };
    enter().map_err(|error| failed("enter the root disk")(error.into()))?;
    mount_late();
    set_host_name(Path::new("/etc/hostname"));
    if has_network {
        // A guest that resolves no names is of use all the same.
        let _ = write_resolver(Path::new("/etc/resolv.conf"));
    }
    Ok(())
}

/// What a distribution's init would mount and finds mounted; a minimal image has no other.
fn mount_late() {
    let device = MountFlags::NOSUID | MountFlags::NOEXEC;
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    let quiet = plain | MountFlags::NOEXEC;
    for (kind, target, flags, options) in [
        (c"tmpfs", "/run", plain, c"mode=755"),
        (c"devpts", "/dev/pts", device, c"gid=5,mode=620,ptmxmode=000"),
        (c"tmpfs", "/dev/shm", plain, c"mode=1777"),
    ] {
        make_folder(target);
        // Each is a convenience; the command that misses one says so itself.
        let _ = mount_at(kind, target, kind, flags, options);
    }
    // What systemd uses when it mounts the hierarchy itself; older kernels know less.
    for options in [c"nsdelegate,memory_recursiveprot", c"nsdelegate", c""] {
        if mount_at(c"cgroup2", "/sys/fs/cgroup", c"cgroup2", quiet, options).is_ok() {
            break;
        }
    }
}

/// Gives the machine its name before the first command asks for it: the distribution's init, which
/// would do so, has not run by then. See hostname(5).
fn set_host_name(path: &Path) {
    let text = fs_err::read_to_string(path).unwrap_or_default();
    let is_name = |line: &&str| !line.is_empty() && !line.starts_with('#') && line.len() <= 64;
    if let Some(name) = text.lines().map(str::trim).find(is_name) {
        // A guest without its name is of use all the same.
        let _ = rustix::system::sethostname(name.as_bytes());
    }
}

/// Points the resolver at the user network where the distribution has left no setting: no file, an
/// empty one, or a link to a file that a daemon of the running system would write.
fn write_resolver(path: &Path) -> io::Result<()> {
    let is_link = fs_err::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink());
    match fs_err::metadata(path) {
        Ok(metadata) if metadata.len() > 0 || !metadata.is_file() => return Ok(()),
        // A link into /run is systemd-resolved's matter: it must stay, and its target is made
        // when that daemon starts. Its folder in /run does not exist yet, so nothing is written.
        Err(_) if is_link => {
            let target = fs_err::read_link(path)?;
            let target = path.parent().unwrap_or(Path::new("/")).join(target);
            if let Some(parent) = target.parent() {
                fs_err::create_dir_all(parent)?;
            }
            return write_new(&target);
        }
        _ => {}
    }
    write_new(path)
}

fn write_new(path: &Path) -> io::Result<()> {
    fs_err::write(path, format!("nameserver {NAME_SERVER}\n"))
}

/// The agent goes on running from its file, whose memory is freed only when the agent ends; the
/// modules are in the kernel and their files waste memory.
fn remove_initrd() {
    for entry in fs_err::read_dir("/modules").into_iter().flatten().flatten() {
        let _ = rustix::fs::unlink(entry.path());
    }
    let _ = rustix::fs::rmdir("/modules");
    let _ = rustix::fs::unlink("/init");
}

fn make_folder(path: &str) {
    // That it exists is the usual case, and a mount says what is wrong otherwise.
    let _ = rustix::fs::mkdir(path, Mode::from_raw_mode(0o755));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_s_file_is_written_only_where_there_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        let check = |expect: &str| {
            write_resolver(&path).unwrap();
            assert_eq!(fs_err::read_to_string(&path).unwrap(), expect);
        };
        check("nameserver 10.0.2.3\n");
        fs_err::write(&path, "").unwrap();
        check("nameserver 10.0.2.3\n");
        fs_err::write(&path, "nameserver 9.9.9.9\n").unwrap();
        check("nameserver 9.9.9.9\n");
        fs_err::remove_file(&path).unwrap();
        fs_err::os::unix::fs::symlink("run/resolve/stub.conf", &path).unwrap();
        check("nameserver 10.0.2.3\n");
        assert!(fs_err::symlink_metadata(&path).unwrap().is_symlink());
    }
}

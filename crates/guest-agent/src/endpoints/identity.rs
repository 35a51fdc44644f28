//! `POST /identity`: a copy of a machine becomes a machine of its own.
//!
//! Machines that were copied from one frozen machine begin with the same memory: the same random
//! numbers to come, the same clock, the same names. What must differ comes from the host, and secrets
//! that the system made at its first start (host keys of SSH) from a program of the image, which makes them
//! again. Only when all of it is in place does the agent take the new token, and then it takes no other: a
//! copy that could not be made different answers nobody.
//!
//! See `random(4)` for `RNDADDENTROPY` and `RNDRESEEDCRNG`, and `machine-id(5)`.

use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use agent_protocol::{IdentityRequest, NEW_IDENTITY};
use hyper::Response;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount};

use crate::agent::Agent;
use crate::answer::answer;
use crate::body::Body;
use crate::network;
use crate::{Error, Result, clock, shares};

/// `RNDADDENTROPY` and `RNDRESEEDCRNG` (linux/random.h), whose numbers the libc crate does not have.
const RNDADDENTROPY: u32 = 0x4008_5203;
const RNDRESEEDCRNG: u32 = 0x5207;
/// The most random bytes of a request.
const MAX_ENTROPY: usize = 256;
/// Where a machine id may stand; the last one is often a link to the first.
const MACHINE_IDS: [&str; 3] = ["etc/machine-id", "run/machine-id", "var/lib/dbus/machine-id"];
const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";
/// How long the image's program may take. The host waits for five seconds more.
const PROGRAM_TIME: Duration = Duration::from_secs(15);
/// What is laid over the kernel's own boot id, which cannot be changed.
const OWN_BOOT_ID: &str = "run/quicksand-boot-id";

/// Takes the identity.
///
/// # Errors
/// Malformed values, a kernel that refuses, and a program of the image that fails. The old token stays in
/// force then.
pub async fn take(agent: Rc<Agent>, body: &[u8]) -> Result<Response<Body>> {
    let request = IdentityRequest::from_json(body)?;
    let entropy = request.check()?;
    let token = request.token.clone().into_bytes();
    // Here and first: each moment until a thread has begun would be missing from the time.
    clock::set(request.unix_nanos)
        .map_err(|source| Error::Boot { step: "set the clock".into(), source })?;
    let has_program = super::in_thread("take an identity", move || {
        let failed = |step: &str| {
            let step = step.to_owned();
            move |source| Error::Boot { step, source }
        };
        seed(&entropy).map_err(failed("seed the random generator"))?;
        // What another host process serves means nothing here.
        shares::end_all();
        let root = Path::new("/");
        // The machine itself, which goes back to a checkpoint: it keeps all that it is known by.
        if is_own(root, &request.boot_id) {
            return Ok(false);
        }
        network::set_address(request.mac).map_err(failed("set the address of eth0"))?;
        write_machine_id(root, &request.machine_id).map_err(failed("write the machine id"))?;
        cover_boot_id(root, &request.boot_id).map_err(failed("replace the boot id"))?;
        has_program(root).map_err(failed("look for what makes secrets anew"))
    })
    .await?;
    // After the seed: what it draws at random is this copy's own.
    if has_program {
        super::run_tool(&agent, &[NEW_IDENTITY], PROGRAM_TIME).await?;
    }
    agent.tokens.renew(token);
    Ok(answer(&clock::response()))
}

/// Whether this is the boot id that the machine has taken already.
fn is_own(root: &Path, boot_id: &str) -> bool {
    fs_err::read_to_string(root.join(OWN_BOOT_ID)).is_ok_and(|own| own.trim() == boot_id)
}

/// Adds random bytes to the kernel's generator, as good as they are long, and has it begin again.
fn seed(entropy: &[u8]) -> io::Result<()> {
    #[repr(C)]
    struct Pool {
        n_bits: libc::c_int,
        n_bytes: libc::c_int,
        bytes: [u8; MAX_ENTROPY],
    }
    let mut pool = Pool {
        n_bits: entropy.len() as i32 * 8,
        n_bytes: entropy.len() as i32,
        bytes: [0; MAX_ENTROPY],
    };
    pool.bytes[..entropy.len()].copy_from_slice(entropy);
    let file = fs_err::OpenOptions::new().write(true).open("/dev/urandom")?;
    // SAFETY: the structure is the kernel's `rand_pool_info` with its bytes; it only reads it.
    if unsafe { libc::ioctl(file.as_raw_fd(), RNDADDENTROPY as _, &pool) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is open; the command takes no argument.
    if unsafe { libc::ioctl(file.as_raw_fd(), RNDRESEEDCRNG as _) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Replaces the machine id in each place that has one. A link is followed by nobody: what it leads to
/// is replaced in its own place.
fn write_machine_id(root: &Path, id: &str) -> io::Result<()> {
    for place in MACHINE_IDS {
        let path = root.join(place);
        match fs_err::symlink_metadata(&path) {
            Ok(found) if found.is_file() && found.len() > 0 => {}
            _ => continue,
        }
        let beside = path.with_extension("quicksand-new");
        fs_err::write(&beside, format!("{id}\n"))?;
        fs_err::set_permissions(&beside, std::os::unix::fs::PermissionsExt::from_mode(0o444))?;
        fs_err::rename(&beside, &path)?;
    }
    Ok(())
}

/// Lays a file with another boot id over the kernel's, which has its own for as long as it runs.
fn cover_boot_id(root: &Path, id: &str) -> io::Result<()> {
    let (covered, own) = (root.join(BOOT_ID), root.join(OWN_BOOT_ID));
    if !fs_err::exists(&covered)? || !fs_err::exists(root.join("run"))? {
        return Ok(());
    }
    let flags =
        OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::open(&own, flags, Mode::from_raw_mode(0o444))?;
    io::Write::write_all(&mut std::fs::File::from(file), format!("{id}\n").as_bytes())?;
    // In a copy of a copy the file lies there already.
    if is_same_file(&own, &covered)? {
        return Ok(());
    }
    Ok(mount(&own, &covered, c"", MountFlags::BIND, None)?)
}

fn is_same_file(one: &Path, other: &Path) -> io::Result<bool> {
    let [one, other] = [fs_err::metadata(one)?, fs_err::metadata(other)?];
    Ok(one.dev() == other.dev() && one.ino() == other.ino())
}

/// Whether the image makes secrets of its own again. What cannot be looked at is not taken for absent.
fn has_program(root: &Path) -> io::Result<bool> {
    match fs_err::symlink_metadata(root.join(NEW_IDENTITY.trim_start_matches('/'))) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_id_is_replaced_where_there_is_one() {
        let root = tempfile::tempdir().unwrap();
        for folder in ["etc", "run", "var/lib/dbus"] {
            fs_err::create_dir_all(root.path().join(folder)).unwrap();
        }
        let place = |name: &str| root.path().join(name);
        fs_err::write(place("etc/machine-id"), "0123\n").unwrap();
        fs_err::write(place("run/machine-id"), "").unwrap();
        fs_err::os::unix::fs::symlink("../../../etc/machine-id", place("var/lib/dbus/machine-id"))
            .unwrap();
        write_machine_id(root.path(), "ff00").unwrap();
        assert_eq!(fs_err::read_to_string(place("etc/machine-id")).unwrap(), "ff00\n");
        // Empty ones are for the distribution's init to fill.
        assert_eq!(fs_err::read_to_string(place("run/machine-id")).unwrap(), "");
        assert!(fs_err::symlink_metadata(place("var/lib/dbus/machine-id")).unwrap().is_symlink());
    }

    #[test]
    fn a_program_that_is_there_in_any_form_is_to_be_run() {
        let root = tempfile::tempdir().unwrap();
        assert!(!has_program(root.path()).unwrap());
        let place = root.path().join("usr/lib/quicksand/new-identity");
        fs_err::create_dir_all(place.parent().unwrap()).unwrap();
        assert!(!has_program(root.path()).unwrap());
        // One that leads nowhere fails when it is run, and the copy with it.
        fs_err::os::unix::fs::symlink("nowhere", &place).unwrap();
        assert!(has_program(root.path()).unwrap());
        fs_err::remove_file(&place).unwrap();
        fs_err::write(&place, "").unwrap();
        assert!(has_program(root.path()).unwrap());
        // Nor is it absent where it cannot be looked for.
        fs_err::remove_dir_all(root.path().join("usr/lib")).unwrap();
        fs_err::write(root.path().join("usr/lib"), "").unwrap();
        assert!(has_program(root.path()).is_err());
    }

    #[test]
    fn a_machine_knows_the_boot_id_that_it_has_taken() {
        let root = tempfile::tempdir().unwrap();
        assert!(!is_own(root.path(), "one"));
        fs_err::create_dir(root.path().join("run")).unwrap();
        fs_err::write(root.path().join(OWN_BOOT_ID), "one\n").unwrap();
        assert!(is_own(root.path(), "one"));
        assert!(!is_own(root.path(), "two"));
    }

    #[test]
    fn a_boot_id_that_is_covered_already_only_changes_its_text() {
        let root = tempfile::tempdir().unwrap();
        let (own, covered) = (root.path().join(OWN_BOOT_ID), root.path().join(BOOT_ID));
        fs_err::create_dir_all(covered.parent().unwrap()).unwrap();
        fs_err::create_dir(root.path().join("run")).unwrap();
        fs_err::write(&own, "one\n").unwrap();
        // Stands in for the mount, which root alone can make.
        fs_err::hard_link(&own, &covered).unwrap();
        cover_boot_id(root.path(), "two").unwrap();
        assert_eq!(fs_err::read_to_string(&covered).unwrap(), "two\n");
        let mounts = fs_err::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(&*root.path().to_string_lossy()), "{mounts}");
    }

    #[test]
    fn a_root_without_proc_keeps_its_boot_id() {
        let root = tempfile::tempdir().unwrap();
        cover_boot_id(root.path(), "x").unwrap();
        assert_eq!(fs_err::read_dir(root.path()).unwrap().count(), 0);
    }
}

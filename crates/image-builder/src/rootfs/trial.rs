//! Tries whether an install mode works on this host, by doing a small piece of
//! what the installation does: a user namespace, a mount, a chroot. A file that permits something
//! (/etc/subuid) proves nothing: the kernel may refuse all the same. It must not know what is
//! installed, nor which mode is taken.

use super::InstallMode;
use duct::cmd;
use fs_err as fs;

/// What came of trying a mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trial {
    Works,
    /// It cannot be tried before these packages are installed.
    Lacks(&'static [&'static str]),
    /// It does not work; what was said.
    Fails(String),
}

/// A mount and a chroot, which every installation needs.
const MOUNT_AND_CHROOT: &str = "mount -t tmpfs tmpfs /tmp && chroot / true";

/// Tries a mode.
pub fn trial(mode: InstallMode) -> Trial {
    match mode {
        // mmdebstrap does without mounts where root may not make them, and never without this.
        InstallMode::Root => run(&["chroot", "/", "true"]),
        InstallMode::OneId => one_id(),
        InstallMode::UserNamespace => range_of_ids(),
    }
}

/// A namespace with the caller's id as the only one.
fn one_id() -> Trial {
    if !cfg!(target_os = "linux") {
        return Trial::Fails("only Linux has user namespaces".to_owned());
    }
    let namespaces = ["--map-root-user", "--mount", "--pid", "--fork"];
    let script = ["sh", "-c", MOUNT_AND_CHROOT];
    let line: Vec<&str> = ["unshare"].into_iter().chain(namespaces).chain(script).collect();
    run(&line)
}

/// A namespace with a range of ids, as the tool itself makes it: a system may allow that to this tool
/// and to no other (AppArmor's profiles do).
fn range_of_ids() -> Trial {
    let has = |program: &str| {
        let found = cmd!("sh", "-c", format!("command -v {program}"));
        found.stdin_null().stdout_null().stderr_null().run().is_ok()
    };
    if has("mmdebstrap") && has("newuidmap") {
        return run(&["mmdebstrap", "--unshare-helper", "sh", "-c", MOUNT_AND_CHROOT]);
    }
    // A kernel that refuses the namespace itself refuses it to every program.
    match run(&["unshare", "--user", "true"]) {
        Trial::Fails(said) => Trial::Fails(said),
        _ => Trial::Lacks(&["mmdebstrap", "uidmap"]),
    }
}

fn run(line: &[&str]) -> Trial {
    let command = cmd(line[0], &line[1..]).env("LC_ALL", "C").stdin_null();
    match command.stdout_null().stderr_capture().unchecked().run() {
        Ok(output) if output.status.success() => Trial::Works,
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let said = text.lines().map(str::trim).find(|line| !line.is_empty());
            let said = said.map_or_else(|| output.status.to_string(), str::to_owned);
            Trial::Fails(format!("{}: {}", line[0], said.trim_start_matches("E: ")))
        }
        Err(error) => Trial::Fails(format!("{}: {error}", line[0])),
    }
}

/// What a host says about user namespaces.
struct Refusal {
    /// /proc/sys/user/max_user_namespaces; none where there is no such file.
    max: Option<u64>,
    /// /proc/sys/kernel/unprivileged_userns_clone, which some distributions have.
    is_clone_allowed: Option<bool>,
    /// /proc/sys/kernel/apparmor_restrict_unprivileged_userns.
    is_apparmor_strict: bool,
    /// The root folder of this process is no mount, so that it is in a chroot.
    is_chroot: bool,
}

/// What to do where no user namespace can be made.
pub fn hint_of_host() -> String {
    let number = |path: &str| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    hint(&Refusal {
        max: number("/proc/sys/user/max_user_namespaces"),
        is_clone_allowed: number("/proc/sys/kernel/unprivileged_userns_clone").map(|n| n != 0),
        is_apparmor_strict: number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
            == Some(1),
        is_chroot: !mounts.is_empty() && !has_root(&mounts),
    })
}

/// Whether mountinfo of proc(5) names a mount at the root folder, which a chroot into a plain folder lacks.
fn has_root(mounts: &str) -> bool {
    mounts.lines().any(|line| line.split(' ').nth(4) == Some("/"))
}

fn hint(refusal: &Refusal) -> String {
    let cause = if refusal.max == Some(0) {
        "the kernel's setting user.max_user_namespaces is 0: raise it with sysctl"
    } else if refusal.is_clone_allowed == Some(false) {
        "the kernel's setting kernel.unprivileged_userns_clone is 0: set it to 1 with sysctl"
    } else if refusal.is_chroot {
        "the kernel refuses user namespaces in a chroot: enter the folder with systemd-nspawn or another tool that makes it the \
         root of a mount namespace (pivot_root)"
    } else if refusal.is_apparmor_strict {
        "AppArmor keeps user namespaces from programs without a profile: \
         kernel.apparmor_restrict_unprivileged_userns=0 with sysctl allows them"
    } else {
        "the kernel, or the container or chroot that this runs in, refuses user namespaces: allow them there"
    };
    format!("{cause}; or run the same command as root")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_own_hint() {
        let none = || Refusal {
            max: Some(9),
            is_clone_allowed: None,
            is_apparmor_strict: false,
            is_chroot: false,
        };
        for (refusal, word) in [
            (Refusal { max: Some(0), is_chroot: true, ..none() }, "max_user_namespaces"),
            (Refusal { is_clone_allowed: Some(false), ..none() }, "unprivileged_userns_clone"),
            (Refusal { is_chroot: true, is_apparmor_strict: true, ..none() }, "pivot_root"),
            (Refusal { is_apparmor_strict: true, ..none() }, "AppArmor"),
            (none(), "container"),
        ] {
            let hint = hint(&refusal);
            assert!(hint.contains(word) && hint.ends_with("as root"), "{hint}");
            assert!(!hint.contains("subuid"), "{hint}");
        }
    }

    #[test]
    fn a_chroot_into_a_folder_has_no_root_mount() {
        let line = |place: &str| format!("21 1 254:0 / {place} rw - ext4 /dev/vda rw\n");
        assert!(has_root(&(line("/proc") + &line("/"))));
        assert!(!has_root(&line("/proc")));
    }

    #[test]
    fn what_a_failed_program_says_is_kept() {
        let Trial::Fails(said) = run(&["sh", "-c", "echo >&2; echo 'E: not today' >&2; exit 3"])
        else {
            panic!("exit code 3 is a failure")
        };
        assert_eq!(said, "sh: not today");
        assert!(matches!(run(&["no-such-program-here"]), Trial::Fails(_)));
    }
}

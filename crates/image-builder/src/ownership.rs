//! Owners of files kept in a map instead of on disk, for hosts where a user namespace holds a single
//! id: every file is then the caller's on disk, and the programs that install packages see the
//! owners that they gave.
//!
//! Each program of the installation runs under a seccomp filter that hands its calls of chown and
//! stat to this process (`SECCOMP_RET_USER_NOTIF`, see seccomp_unotify(2)). A chown is written into
//! the map; a stat of a file in the map is answered with the owner from there; every other call goes
//! on as if nothing was. So what packs the tree up in the end, tar, writes the right owners.
//!
//! Differences from fakeroot: nothing is loaded into the programs, so that it does not matter which
//! libc they bring; a file is known by its inode and time of birth, so that no deletion needs to be
//! seen; files in a folder that gives its group to them (set-group-id) have that group. No process can
//! become another user: the kernel refuses it, and so the bake fails rather than get an owner wrong.
//!
//! This module must not know what is installed.

#[cfg(target_os = "linux")]
mod call;
#[cfg(target_os = "linux")]
mod filter;
#[cfg(target_os = "linux")]
mod keeper;
#[cfg(target_os = "linux")]
mod target;

use duct::Expression;
use std::path::Path;

/// Whether this system can keep owners in a map: a user namespace of one id can be made here.
pub fn is_possible() -> bool {
    cfg!(target_os = "linux")
        && duct::cmd!("unshare", "--map-root-user", "--mount", "--pid", "--fork", "true")
            .stdin_null()
            .stdout_null()
            .stderr_null()
            .run()
            .is_ok()
}

/// The command with a map of owners, which lives as long as its processes.
pub fn kept(command: &Expression) -> Expression {
    #[cfg(target_os = "linux")]
    return command.before_spawn(filter::attach);
    #[cfg(not(target_os = "linux"))]
    command.clone()
}

/// Runs the command line that follows it in a user namespace with the caller's id as root's and no other.
/// `folder` takes what that needs.
pub(crate) fn in_namespace(folder: &Path) -> Vec<String> {
    let folder = folder.join("one-id").to_string_lossy().into_owned();
    let namespaces = ["--map-root-user", "--mount", "--pid", "--ipc", "--uts"];
    ["unshare"]
        .into_iter()
        .chain(namespaces)
        // The first process of a namespace of processes ends all others when it goes.
        .chain(["--fork", "--kill-child", "--", "/bin/sh", "-euc", WITH_ONE_ID, &folder])
        .map(str::to_owned)
        .collect()
}

/// Starts a program where there is a single id. Terminals belong to group 5, which such a namespace
/// does not have, so a `mount` that leaves that out stands before the real one. `$0` is its folder.
const WITH_ONE_ID: &str = r#"
mkdir "$0"
cat > "$0/mount" << 'end'
#!/bin/sh
PATH=${PATH#*:}
for argument; do
  shift
  set -- "$@" "$(printf %s "$argument" | sed 's/,uid=5,/,/')"
done
exec mount "$@"
end
chmod 755 "$0/mount"
PATH=$0:$PATH exec "$@"
"#;

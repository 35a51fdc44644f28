//! Shares by 9p: what the guest's root makes there gives nobody a right on the host.

use duct::cmd;

const HOST: &str = env!("CARGO_BIN_EXE_vm-host");

/// Set-user-ID programs, devices and links are the guest's own, also where the host's file system has no
/// place for attributes to note them in (ramfs).
#[test]
fn no_privilege_comes_from_a_guest_by_9p() {
    vm_tests::search();
    let make = "cd /mnt/9p && cp /bin/true suid && chmod 6755 suid && mknod disk b 8 0 && \
                mkfifo pipe && ln -s /etc/passwd link && mkdir folder && chmod 3777 folder && \
                stat -c '%a %F %n' suid disk pipe link folder && ./suid && echo made";
    for kind in ["", "ramfs"] {
        let folder = tempfile::tempdir().unwrap();
        // A mount goes with the namespace, and that with its last process.
        let script = "set -e; [ -z \"$1\" ] || mount -t \"$1\" none \"$2\"; \
                      \"$3\" debian \"9p:$2\" \"$4\" </dev/null; \
                      find \"$2\" -mindepth 1 -printf 'on the host: %y %m %P\\n'";
        let mut line = vec!["--mount"];
        if !rustix::process::geteuid().is_root() {
            line.push("--map-root-user");
        }
        line.extend(["sh", "-c", script, "sh", kind, folder.path().to_str().unwrap(), HOST, make]);
        let seen = cmd("unshare", line).read().unwrap();
        println!("{kind}: {seen}");
        for own in ["6755 regular file suid", "block special file disk", "fifo pipe", "made"] {
            assert!(seen.contains(own), "{kind}: the guest does not see `{own}`: {seen}");
        }
        let on_the_host = || seen.lines().filter_map(|line| line.strip_prefix("on the host: "));
        for name in ["suid", "disk", "pipe", "link", "folder"] {
            assert!(on_the_host().any(|line| line.ends_with(name)), "{kind}: no {name}: {seen}");
        }
        for line in on_the_host() {
            let [file, mode, _] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
                panic!("{line}")
            };
            let mode = u32::from_str_radix(mode, 8).unwrap();
            assert!(matches!(file, "f" | "d") && mode & 0o6000 == 0, "{kind}: {line}: {seen}");
        }
    }
}

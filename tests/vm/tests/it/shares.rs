//! Shares by FUSE, which behave like a disk in every network mode.

use super::{execute, run};
use fs_err::os::unix::fs::symlink;
use sandbox::{Error, Mount, MountType, NetworkMode};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

fn text(path: impl AsRef<Path>) -> String {
    fs_err::read_to_string(path.as_ref()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_is_like_a_disk_without_any_network() {
    let (folder, readonly, hot) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let host = |name: &str| folder.path().join(name);
    fs_err::write(host("from the host"), "hello").unwrap();
    fs_err::write(readonly.path().join("file"), "hello").unwrap();
    fs_err::write(hot.path().join("app,a:b.conf"), "one").unwrap();
    let builder = vm_tests::minimal()
        .memory("192M")
        .network_mode(NetworkMode::None)
        .mount(Mount::new(folder.path(), "/mnt/rw"))
        .mount(Mount::new(readonly.path(), "/mnt/ro").readonly(true));
    let sandbox = vm_tests::started(builder).await;
    let kinds: Vec<_> = sandbox.active_mounts().iter().map(|handle| handle.mount.kind).collect();
    assert_eq!(kinds, [MountType::Fuse, MountType::Fuse]);
    let guest = async |command: &str| run(&sandbox, &format!("cd /mnt/rw; {command}")).await;

    assert_eq!(guest("cat 'from the host'").await, "hello");
    // Modes, links of both kinds, names of any bytes, times, holes.
    guest("echo '#!/bin/sh' > run; echo echo ran >> run; chmod 750 run; ./run").await;
    assert_eq!(host("run").metadata().unwrap().mode() & 0o7777, 0o750);
    guest("ln -s 'nowhere at all' link; ln run hard; mkdir -p a/b; mv run a/b/").await;
    assert_eq!(fs_err::read_link(host("link")).unwrap().to_str(), Some("nowhere at all"));
    assert_eq!(host("hard").metadata().unwrap().nlink(), 2);
    assert_eq!(guest("stat -c %h hard; stat -c %i hard a/b/run | uniq | wc -l").await, "2\n1");
    guest("echo odd > \"$(printf 'a:b?\\\\*\\377\\n')\"").await;
    let odd: &std::ffi::OsStr = std::os::unix::ffi::OsStrExt::from_bytes(b"a:b?\\*\xff");
    assert_eq!(text(folder.path().join(odd)), "odd\n");
    let time = std::time::UNIX_EPOCH + std::time::Duration::new(1_000_000_000, 123_456_789);
    let file = fs_err::File::options().write(true).open(host("hard")).unwrap();
    file.set_modified(time).unwrap();
    assert_eq!(guest("stat -c %y hard").await, "2001-09-09 01:46:40.123456789 +0000");
    guest("truncate -s 5G large; echo end >> large; sync").await;
    let large = host("large").metadata().unwrap();
    assert_eq!(large.len(), (5 << 30) + 4);
    assert!(large.blocks() < 1000, "{}", large.blocks());
    assert_eq!(guest("tail -c 4 large; stat -c %s large").await, "end\n5368709124");

    // Both see what the other does, at once.
    for round in 0..5 {
        fs_err::write(host("turn"), format!("host {round}")).unwrap();
        assert_eq!(guest("cat turn").await, format!("host {round}"));
        guest(&format!("echo guest {round} > turn")).await;
        assert_eq!(text(host("turn")), format!("guest {round}\n"));
    }
    fs_err::rename(host("a"), host("c")).unwrap();
    assert_eq!(guest("c/b/run; ls a 2>&1 | wc -l").await, "ran\n1");

    // Links of the host lead nowhere on the host, and deleting one deletes nothing else.
    let outside = tempfile::tempdir().unwrap();
    fs_err::write(outside.path().join("secret"), "secret").unwrap();
    symlink(outside.path(), host("out")).unwrap();
    fs_err::create_dir(host("releases")).unwrap();
    fs_err::write(host("releases/keep"), "keep").unwrap();
    symlink("releases", host("current")).unwrap();
    assert_ne!(execute(&sandbox, "cat /mnt/rw/out/secret").await.exit_code, 0);
    guest("rm -rf out current").await;
    assert_eq!(text(host("releases/keep")), "keep");
    assert_eq!(text(outside.path().join("secret")), "secret");

    // No device and no set-user-ID file of the host's comes from the guest.
    let result = execute(&sandbox, "mknod /mnt/rw/disk b 254 0").await;
    assert_ne!(result.exit_code, 0);
    guest("cp /bin/busybox suid; chmod 6755 suid").await;
    assert_eq!(host("suid").metadata().unwrap().mode() & 0o7777, 0o755);

    // Read-only on the host's side.
    execute(&sandbox, "mount -o remount,rw /mnt/ro").await;
    for attempt in ["echo x > /mnt/ro/x", "echo x >> /mnt/ro/file", "rm /mnt/ro/file"] {
        assert_ne!(execute(&sandbox, attempt).await.exit_code, 0, "{attempt}");
    }
    assert_eq!(text(readonly.path().join("file")), "hello");

    // One file, hot, in a path with characters that mean something elsewhere.
    let file = Mount::new(hot.path().join("app,a:b.conf"), "/etc/ünï, a:b/app.conf");
    let handle = sandbox.mount(file).await.unwrap();
    assert_eq!(run(&sandbox, "cat '/etc/ünï, a:b/app.conf'").await, "one");
    run(&sandbox, "echo two > '/etc/ünï, a:b/app.conf'").await;
    assert_eq!(text(hot.path().join("app,a:b.conf")), "two\n");
    sandbox.unmount(&handle, false).await.unwrap();
    assert_eq!(run(&sandbox, "cat '/etc/ünï, a:b/app.conf'").await, "");

    // Taken back while the guest uses it.
    let holder = "cd /mnt/rw; exec 3< 'from the host'; mount --bind /mnt/rw /tmp; umount -l /mnt/rw; \
        echo ready; while cat /tmp/'from the host' >/dev/null 2>&1; do sleep 0.1; done; echo gone";
    let handles = sandbox.active_mounts();
    let taken_back = async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        sandbox.unmount(&handles[0], false).await.unwrap();
    };
    let (held, ()) = tokio::join!(execute(&sandbox, holder), taken_back);
    assert_eq!(held.stdout_lossy(), "ready\ngone\n");
    assert!(matches!(sandbox.unmount(&handles[0], false).await, Err(Error::Mount { .. })));
    let handle = sandbox.mount(Mount::new(folder.path(), "/mnt/rw")).await.unwrap();
    assert_eq!(run(&sandbox, "cat '/mnt/rw/from the host'").await, "hello");
    sandbox.unmount(&handle, false).await.unwrap();
    assert!(sandbox.active_mounts().len() == 1);
}

/// Locks bytes 10 to 19 of a file with `fcntl` in the guest, says so, and then does something in Perl.
fn locker(command: &str, then: &str) -> String {
    format!(
        "perl -e 'open(F, \"+<\", \"/mnt/s/db\") or die; $l = pack(\"s s x4 q q i x4\", 1, 0, 10, 10, 0); \
         fcntl(F, {command}, $l) or do {{ print \"held\\n\"; exit }}; $| = 1; print \"locked\\n\"; \
         {then}'"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_and_appends_hold_between_programs_of_guest_and_host() {
    const SETLK: &str = "6";
    const SETLKW: &str = "7";
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("db"), "0123456789").unwrap();
    let builder = sandbox::SandboxConfig::builder("debian")
        .network_mode(NetworkMode::None)
        .mount(Mount::new(folder.path(), "/mnt/s"));
    let sandbox = vm_tests::started(builder).await;

    // Two processes of the guest, and one of the host.
    let both = format!(
        "touch /run/held; {} > /run/first & until grep -q . /run/first 2>/dev/null; do sleep 0.1; done; \
         {}; rm /run/held; wait; cat /run/first",
        locker(SETLK, "sleep 1 while -e \"/run/held\""),
        locker(SETLK, "")
    );
    assert_eq!(run(&sandbox, &both).await, "held\nlocked");
    let host = fs_err::File::options().write(true).open(folder.path().join("db")).unwrap();
    // As of another process: locks of this one are lost when it closes the file for the guest.
    let lock = |kind: i32| {
        // SAFETY: a structure of numbers, and a descriptor that is open.
        unsafe {
            let mut range: libc::flock = std::mem::zeroed();
            range.l_type = kind as _;
            libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&host), libc::F_OFD_SETLK, &mut range)
        }
    };
    assert_eq!(lock(libc::F_WRLCK), 0);
    assert_eq!(run(&sandbox, &locker(SETLK, "")).await, "held");
    let released = async {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        fs_err::write(folder.path().join("db"), "by the host").unwrap();
        assert_eq!(lock(libc::F_UNLCK), 0);
    };
    let waiting = locker(SETLKW, "print <F>");
    let (waited, ()) = tokio::join!(run(&sandbox, &waiting), released);
    assert_eq!(waited, "locked\nby the host");
    // A wait that is given up holds nothing.
    assert_eq!(lock(libc::F_WRLCK), 0);
    let given_up = format!("timeout 1 {}; echo $?", locker(SETLKW, ""));
    assert_eq!(run(&sandbox, &given_up).await, "124");
    assert_eq!(lock(libc::F_UNLCK), 0);
    assert_eq!(run(&sandbox, &locker(SETLK, "")).await, "locked");

    // Lines that many append are all there, whole.
    let append = "cd /mnt/s; for p in 1 2 3 4; do (i=0; while [ $i -lt 50 ]; do \
        echo \"guest $p $i\" >> log; i=$((i+1)); done) & done; wait";
    let host_appends = async {
        use std::io::Write as _;
        let options = fs_err::File::options().create(true).append(true).to_owned();
        let mut log = options.open(folder.path().join("log")).unwrap();
        for line in 0..100 {
            log.write_all(format!("host {line}\n").as_bytes()).unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::join!(run(&sandbox, append), host_appends);
    let log = text(folder.path().join("log"));
    assert_eq!(log.lines().count(), 300);
    assert!(log.lines().all(|line| line.starts_with("guest ") || line.starts_with("host ")));

    // A large folder is listed whole, and exclusive creation is.
    for index in 0..3000 {
        fs_err::write(folder.path().join(format!("many-{index}")), "").unwrap();
    }
    assert_eq!(run(&sandbox, "ls /mnt/s | grep -c many-").await, "3000");
    let exclusive = "cd /mnt/s; set -C; for p in 1 2 3 4; do (echo $p > one) 2>/dev/null && echo $p; done | wc -l";
    assert_eq!(run(&sandbox, exclusive).await, "1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_looks_at_more_than_its_budget_goes_on() {
    const N_MANY: usize = 50_000;
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let many = folder.path().join("many");
    fs_err::create_dir(&many).unwrap();
    for index in 0..N_MANY {
        fs_err::write(many.join(format!("file-{index}")), "x").unwrap();
    }
    for index in 0..300 {
        let deep = folder.path().join(format!("tree/{}/{index}", index % 40));
        fs_err::create_dir_all(&deep).unwrap();
        for name in ["a", "b", "c"] {
            fs_err::write(deep.join(name), name).unwrap();
        }
    }
    fs_err::write(other.path().join("file"), "other").unwrap();
    // Room for about 11,000 names.
    let builder = vm_tests::minimal()
        .memory("256M")
        .network_mode(NetworkMode::None)
        .limits(&sandbox::Limits::default().with_memory(8 << 20))
        .mount(Mount::new(folder.path(), "/mnt/s"))
        .mount(Mount::new(other.path(), "/mnt/other"));
    let sandbox = vm_tests::started(builder).await;
    let guest = async |command: &str| {
        let request = sandbox::ExecuteRequest::new(format!("cd /mnt/s/many && {command}"));
        let request = request.timeout(std::time::Duration::from_secs(600));
        let result = sandbox.execute(request).await.unwrap();
        assert_eq!(result.exit_code, 0, "{command}: {result:?}");
        result.stdout_lossy().trim_end().to_owned()
    };
    // A file that is open and a folder that is worked in stay what they are.
    let held = "cd /mnt/s/tree; exec 3< 0/0/a; (while [ ! -e /tmp/go ]; do sleep 0.2; done; \
        cat 0/0/b; cat <&3) > /tmp/found 2>&1 < /dev/null &";
    run(&sandbox, held).await;
    assert_eq!(guest("ls | wc -l").await, N_MANY.to_string());
    assert_eq!(guest("ls -l | grep -c -- -rw-r--r--").await, N_MANY.to_string());
    assert_eq!(guest("find /mnt/s/tree -type f | wc -l").await, "900");
    assert_eq!(guest("find /mnt/s/tree -type f -exec cat {} + | wc -c").await, "900");
    assert_eq!(guest("cat file-0 file-25000 file-49999 ../tree/19/299/c").await, "xxxc");
    assert_eq!(run(&sandbox, "cat /mnt/other/file").await, "other");
    run(&sandbox, "touch /tmp/go; while [ $(wc -c < /tmp/found) -lt 2 ]; do sleep 0.1; done").await;
    assert_eq!(run(&sandbox, "cat /tmp/found").await, "ba");
    // What the host makes beside them is there, and all can be removed.
    fs_err::write(many.join("new"), "new").unwrap();
    assert_eq!(guest("cat new; mv new newer; cat newer; rm newer").await, "newnew");
    guest("rm -rf ../tree").await;
    assert!(!folder.path().join("tree").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_goes_back_in_time_finds_its_shares_again() {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("file"), "one").unwrap();
    let builder = vm_tests::minimal()
        .network_mode(NetworkMode::None)
        .mount(Mount::new(folder.path(), "/mnt/s"));
    let sandbox = vm_tests::started(builder).await;
    // It reads and writes without a pause, and holds a file that has no name any more.
    let busy = "cd /mnt/s; echo held > held; exec 3< held; rm held; \
        (while :; do echo x > busy; cat busy file >/dev/null; done) </dev/null >/dev/null 2>&1 & \
        (while [ ! -e go ]; do sleep 0.1; done; cat <&3 > found) </dev/null >/dev/null 2>&1 &";
    run(&sandbox, busy).await;
    sandbox.checkpoint("before").await.unwrap();
    for round in 0..3 {
        run(&sandbox, "cd /mnt/s; mkdir -p a/b; echo later > a/b/later; cat file").await;
        fs_err::write(folder.path().join("file"), format!("round {round}")).unwrap();
        sandbox.revert("before").await.unwrap();
        assert_eq!(run(&sandbox, "cat /mnt/s/file").await, format!("round {round}"));
        assert_eq!(run(&sandbox, "cat /mnt/s/a/b/later; echo new > /mnt/s/new").await, "later");
        assert_eq!(text(folder.path().join("new")), "new\n");
    }
    fs_err::write(folder.path().join("go"), "").unwrap();
    super::eventually("the held file", std::time::Duration::from_secs(20), async || {
        fs_err::read(folder.path().join("found")).is_ok_and(|found| found == b"held\n")
    })
    .await;
}

//! Shares by FUSE, which behave like a disk in every network mode.

use super::{execute, run};
use sandbox::{Error, Mount, MountType, NetworkMode};
use std::os::unix::fs::{MetadataExt as _, symlink};
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

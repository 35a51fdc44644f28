//! Shares of the host, by the guest kernel's own SMB client.

use super::{execute, run};
use sandbox::{Error, Mount, MountType, NetworkMode, SandboxConfigBuilder};
use std::path::Path;

fn tree() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("from the host.txt"), "hello").unwrap();
    folder
}

fn text(path: impl AsRef<Path>) -> String {
    fs_err::read_to_string(path.as_ref()).unwrap()
}

/// One program of the guest locks `lock` in its folder, `/mnt/rw`, and another one tries to.
const HOLDS_A_LOCK: &str = "\
    (flock 9; touch /run/held; while [ -e /run/held ]; do sleep 0.1; done) 9>lock & \
    while [ ! -e /run/held ]; do sleep 0.1; done; \
    flock -n /mnt/rw/lock true && echo free || echo held; rm /run/held; wait";

#[tokio::test(flavor = "multi_thread")]
async fn shares_are_mounted_at_the_start_and_later() {
    let (writable, readonly, hot) = (tree(), tree(), tree());
    let builder = vm_tests::minimal()
        .memory("192M")
        .mount(Mount::new(writable.path(), "/mnt/rw").kind(MountType::Cifs))
        .mount(Mount::new(readonly.path(), "/mnt/ro").kind(MountType::Cifs).readonly(true));
    let sandbox = vm_tests::started(builder).await;
    assert_eq!(sandbox.active_mounts().len(), 2);
    assert_eq!(run(&sandbox, "cat '/mnt/rw/from the host.txt'").await, "hello");

    // Names, rename, folders, links of the guest, and what the host changes meanwhile.
    run(
        &sandbox,
        "cd /mnt/rw && echo grüße > 'ünï 😀.txt' && mkdir -p a/b && mv 'ünï 😀.txt' a/b/",
    )
    .await;
    assert_eq!(text(writable.path().join("a/b/ünï 😀.txt")), "grüße\n");
    run(&sandbox, "cd /mnt/rw && ln -s a/b link && cat 'link/ünï 😀.txt'").await;
    fs_err::write(writable.path().join("later"), "one").unwrap();
    assert_eq!(run(&sandbox, "cat /mnt/rw/later").await, "one");
    fs_err::write(writable.path().join("later"), "two and more").unwrap();
    super::eventually("the host's change", std::time::Duration::from_secs(20), async || {
        run(&sandbox, "cat /mnt/rw/later").await == "two and more"
    })
    .await;

    // A large file, whole on both sides; many small ones, and their removal.
    run(&sandbox, "dd if=/dev/urandom of=/mnt/rw/large bs=1M count=20 2>/dev/null").await;
    let sum = run(&sandbox, "md5sum < /mnt/rw/large").await;
    assert_eq!(fs_err::metadata(writable.path().join("large")).unwrap().len(), 20 << 20);
    run(&sandbox, "cp /mnt/rw/large /mnt/rw/copy").await;
    let (large, copy) = (writable.path().join("large"), writable.path().join("copy"));
    assert!(fs_err::read(large).unwrap() == fs_err::read(copy).unwrap());
    assert_eq!(run(&sandbox, "md5sum < /mnt/rw/copy").await, sum);
    run(&sandbox, "mkdir /mnt/rw/many; i=0; while [ $i -lt 200 ]; do echo $i > /mnt/rw/many/$i; i=$((i+1)); done").await;
    assert_eq!(fs_err::read_dir(writable.path().join("many")).unwrap().count(), 200);
    assert_eq!(run(&sandbox, "cat /mnt/rw/many/* | wc -l").await, "200");
    run(&sandbox, "rm -r /mnt/rw/many").await;
    assert!(!writable.path().join("many").exists());

    // Locks of one program keep another out.
    let locks = format!("cd /mnt/rw && touch lock && {HOLDS_A_LOCK}");
    assert_eq!(run(&sandbox, &locks).await, "held");

    // Programs of the host run, and everybody in the guest may read and write; modes on the host stay
    // the host's, whatever the guest says.
    use std::os::unix::fs::PermissionsExt as _;
    let program = writable.path().join("program");
    fs_err::write(&program, "#!/bin/sh\necho ran\n").unwrap();
    fs_err::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(run(&sandbox, "su -s /bin/sh nobody -c /mnt/rw/program").await, "ran");
    run(&sandbox, "chmod 777 /mnt/rw/program; chown nobody /mnt/rw/program || true").await;
    assert_eq!(fs_err::metadata(&program).unwrap().permissions().mode() & 0o7777, 0o700);
    // One file takes the place of another, open or not.
    run(&sandbox, "cd /mnt/rw && echo old > target && echo new > source && mv source target").await;
    assert_eq!(text(writable.path().join("target")), "new\n");
    assert!(!writable.path().join("source").exists());

    // Names that differ in case alone are two files, as on the host.
    run(&sandbox, "cd /mnt/rw && echo upper > Case && echo lower > case && ! cat CASE 2>&1").await;
    assert_eq!(run(&sandbox, "cd /mnt/rw && cat Case case").await, "upper\nlower");
    assert_eq!(text(writable.path().join("Case")), "upper\n");

    // Read-only on the host's side: a guest's root that mounts again cannot write either.
    assert_eq!(run(&sandbox, "cat '/mnt/ro/from the host.txt'").await, "hello");
    assert_ne!(execute(&sandbox, "echo x > /mnt/ro/x").await.exit_code, 0);
    execute(&sandbox, "mount -o remount,rw /mnt/ro").await;
    for attempt in [
        "echo x > /mnt/ro/x",
        "echo x >> '/mnt/ro/from the host.txt'",
        "rm '/mnt/ro/from the host.txt'",
        "mkdir /mnt/ro/folder",
        "mv '/mnt/ro/from the host.txt' /mnt/ro/y",
    ] {
        assert_ne!(execute(&sandbox, attempt).await.exit_code, 0, "{attempt}");
    }
    assert_eq!(fs_err::read_dir(readonly.path()).unwrap().count(), 1);
    assert_eq!(text(readonly.path().join("from the host.txt")), "hello");

    // No way out of the folder: neither by links that are in it, nor by names.
    let secret = tempfile::tempdir().unwrap();
    fs_err::write(secret.path().join("secret"), "secret").unwrap();
    fs_err::os::unix::fs::symlink(secret.path(), writable.path().join("out")).unwrap();
    for attempt in [
        "cat /mnt/rw/out/secret",
        "echo x > /mnt/rw/out/new",
        "cat /mnt/rw/../../..%2f..%2fetc/hostname",
        "cat '/mnt/rw/..\\..\\etc\\passwd'",
    ] {
        let result = execute(&sandbox, attempt).await;
        assert_ne!(result.exit_code, 0, "{attempt}: {result:?}");
        assert!(!result.stdout_lossy().contains("secret"), "{attempt}");
    }
    assert_eq!(fs_err::read_dir(secret.path()).unwrap().count(), 1);

    // Another while it runs, and away again.
    let handle = sandbox
        .mount(Mount::new(hot.path(), "/mnt/hot, with comma").kind(MountType::Cifs))
        .await
        .unwrap();
    assert_eq!(sandbox.active_mounts().len(), 3);
    assert_eq!(run(&sandbox, "cat '/mnt/hot, with comma/from the host.txt'").await, "hello");
    let twice = sandbox
        .mount(Mount::new(hot.path(), "/mnt/hot, with comma").kind(MountType::Cifs))
        .await
        .unwrap_err();
    assert!(twice.to_string().contains("already"), "{twice}");
    let busy = "cd '/mnt/hot, with comma' && (sleep 30 >/dev/null 2>&1 &)";
    run(&sandbox, busy).await;
    // Whoever uses it is not asked.
    sandbox.unmount(&handle, false).await.unwrap();
    assert_eq!(sandbox.active_mounts().len(), 2);
    assert_eq!(run(&sandbox, "ls '/mnt/hot, with comma'").await, "");
    assert!(sandbox.unmount(&handle, false).await.is_err());
    for handle in sandbox.active_mounts() {
        sandbox.unmount(&handle, false).await.unwrap();
    }
    assert_eq!(run(&sandbox, "grep -c cifs /proc/mounts || true").await, "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mapping_of_a_share_is_the_file() {
    let folder = tree();
    fs_err::write(folder.path().join("map"), vec![b'.'; 8192]).unwrap();
    let builder = sandbox::SandboxConfig::builder("debian")
        .mount(Mount::new(folder.path(), "/mnt/rw").kind(MountType::Cifs))
        .mount(Mount::new(folder.path(), "/mnt/ro").kind(MountType::Cifs).readonly(true));
    let sandbox = vm_tests::started(builder).await;
    // mmap(2) shared and writable; bytes go through the mapping by read(2) and write(2) on its address.
    let script = r#"
        open(F, "+<", "/mnt/rw/map") or die "open: $!";
        my $at = syscall(9, 0, 8192, 3, 1, fileno(F), 0);
        $at > 4096 or die "mmap: $!";
        pipe(R, W); syswrite(W, "written");
        syscall(0, fileno(R), $at + 5000, 7) == 7 or die "read: $!";
        syscall(26, $at, 8192, 4) == 0 or die "msync: $!";
        syscall(1, 1, $at + 4998, 11);
        open(G, "<", "/mnt/ro/map") or die "open: $!";
        syscall(9, 0, 8192, 3, 1, fileno(G), 0) < 0 or die "a read-only file is mapped to write";
        syscall(9, 0, 8192, 1, 1, fileno(G), 0) > 4096 or die "mmap to read: $!";
    "#;
    let result = sandbox.execute(sandbox::ExecuteRequest::new("perl").stdin(script)).await.unwrap();
    assert_eq!(result.stdout_lossy(), "..written..", "{result:?}");
    assert_eq!(result.exit_code, 0, "{result:?}");
    let bytes = fs_err::read(folder.path().join("map")).unwrap();
    assert_eq!(&bytes[4998..5009], b"..written..");
    assert_eq!(bytes.len(), 8192);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revert_leaves_shares_usable() {
    let folder = tree();
    let builder = vm_tests::minimal()
        .memory("192M")
        .mount(Mount::new(folder.path(), "/mnt/rw").kind(MountType::Cifs));
    let sandbox = vm_tests::started(builder).await;
    let ticks =
        "(exec 9>>/mnt/rw/log; while :; do echo tick >&9; sleep 0.2; done) >/dev/null 2>&1 &";
    run(&sandbox, ticks).await;
    run(&sandbox, "cat /mnt/rw/*").await;
    sandbox.checkpoint("one").await.unwrap();
    run(&sandbox, "echo new > /mnt/rw/new").await;
    for _ in 0..2 {
        sandbox.revert("one").await.unwrap();
        // The server's side of the connection is of the future; the guest must not wait for it.
        let begin = std::time::Instant::now();
        super::eventually("the share", std::time::Duration::from_secs(30), async || {
            execute(&sandbox, "cat '/mnt/rw/from the host.txt'").await.stdout_lossy() == "hello"
        })
        .await;
        eprintln!("the share answers {:?} after the revert", begin.elapsed());
        // What was written stays: a share is the host's, and the host did not go back.
        assert_eq!(run(&sandbox, "cat /mnt/rw/new").await, "new");
        assert_eq!(sandbox.active_mounts().len(), 1);
        let lines = || text(folder.path().join("log")).lines().count();
        let before = lines();
        super::eventually("an open file", std::time::Duration::from_secs(30), async || {
            lines() > before
        })
        .await;
    }
}

async fn start_error(builder: SandboxConfigBuilder) -> String {
    let sandbox = vm_tests::sandbox(builder);
    let error = sandbox.start().await.unwrap_err();
    assert!(matches!(error, Error::Mount { .. }), "{error}");
    assert!(!sandbox.is_running());
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_that_cannot_be_mounted_ends_the_start() {
    let builder = vm_tests::minimal().mount(Mount::new("/no/such/folder", "/mnt/x"));
    let message = start_error(builder).await;
    assert!(message.starts_with("Failed to mount shares: `/no/such/folder`"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tcp_transport_has_shares_too() {
    let folder = tree();
    let builder = vm_tests::minimal()
        .transport(sandbox::Transport::Tcp)
        .mount(Mount::new(folder.path(), "/mnt/x").kind(MountType::Cifs));
    let sandbox = vm_tests::started(builder).await;
    assert_eq!(run(&sandbox, "cat '/mnt/x/from the host.txt'").await, "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn plan9_needs_no_network() {
    let (writable, readonly) = (tree(), tree());
    let builder = sandbox::SandboxConfig::builder("debian")
        .network_mode(NetworkMode::None)
        .mount(Mount::new(writable.path(), "/mnt/rw").kind(MountType::Plan9))
        .mount(Mount::new(readonly.path(), "/mnt/ro").kind(MountType::Plan9).readonly(true));
    let sandbox = vm_tests::started(builder).await;
    assert_eq!(
        run(&sandbox, "cat '/mnt/rw/from the host.txt' '/mnt/ro/from the host.txt'").await,
        "hellohello"
    );
    run(
        &sandbox,
        "cd /mnt/rw && echo grüße > 'ünï 😀' && chmod 751 'ünï 😀' && ln -s /etc/passwd link",
    )
    .await;
    assert_eq!(text(writable.path().join("ünï 😀")), "grüße\n");
    assert_eq!(
        run(&sandbox, "stat -c %a '/mnt/rw/ünï 😀'; readlink /mnt/rw/link").await,
        "751\n/etc/passwd"
    );
    let moved = format!(
        "cd /mnt/rw && echo old > target && echo new > source && mv source target && cat target && \
         {HOLDS_A_LOCK}"
    );
    assert_eq!(run(&sandbox, &moved).await, "new\nheld");
    assert_eq!(text(writable.path().join("target")), "new\n");
    execute(&sandbox, "mount -o remount,rw /mnt/ro").await;
    assert_ne!(execute(&sandbox, "echo x > /mnt/ro/x").await.exit_code, 0);
    assert_eq!(fs_err::read_dir(readonly.path()).unwrap().count(), 1);
    // No way out by links that the host has in the folder.
    let secret = tempfile::tempdir().unwrap();
    fs_err::write(secret.path().join("secret"), "secret").unwrap();
    fs_err::os::unix::fs::symlink(secret.path(), writable.path().join("out")).unwrap();
    for attempt in ["cat /mnt/rw/out/secret", "echo x > /mnt/rw/out/new", "cat /mnt/rw/../secret"] {
        let result = execute(&sandbox, attempt).await;
        assert_ne!(result.exit_code, 0, "{attempt}: {result:?}");
        assert!(!result.stdout_lossy().contains("secret"), "{attempt}");
    }
    assert_eq!(fs_err::read_dir(secret.path()).unwrap().count(), 1);
    let hot = Mount::new(writable.path(), "/mnt/hot").kind(MountType::Plan9);
    let error = sandbox.mount(hot).await.unwrap_err();
    assert!(error.to_string().contains("9p"), "{error}");
    let handles = sandbox.active_mounts();
    sandbox.unmount(&handles[0], false).await.unwrap();
    assert_eq!(run(&sandbox, "ls /mnt/rw").await, "");
}

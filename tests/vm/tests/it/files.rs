//! Files to and from the guest, without a network.

use super::run;
use sandbox::{DownloadOptions, Error, NetworkMode};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

#[tokio::test(flavor = "multi_thread")]
async fn files_and_trees_go_both_ways_without_a_network() {
    let sandbox = vm_tests::started(vm_tests::minimal().network_mode(NetworkMode::None)).await;
    let folder = tempfile::tempdir().unwrap();

    // Bytes of all values, more than any buffer, into folders that are missing.
    let large: Vec<u8> = (0..9_000_000u32).map(|n| ((n * 31) >> 3) as u8).collect();
    sandbox.write_file("/root/new/deep/large", large.clone(), Some(0o640)).await.unwrap();
    assert_eq!(run(&sandbox, "stat -c '%a %s' /root/new/deep/large").await, "640 9000000");
    assert!(sandbox.read_file("/root/new/deep/large", 10_000_000).await.unwrap() == large);
    let error = sandbox.read_file("/root/new/deep/large", 1000).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: 1000, .. }), "{error}");
    sandbox.write_file("/root/new/deep/large", "", None).await.unwrap();
    assert_eq!(run(&sandbox, "stat -c '%a %s' /root/new/deep/large").await, "640 0");
    assert!(sandbox.read_file("/proc/version", 1 << 20).await.unwrap().starts_with(b"Linux"));

    let error = sandbox.read_file("/no/such", 1).await.unwrap_err();
    assert!(matches!(error, Error::GuestFile { is_missing: true, .. }), "{error}");
    let error = sandbox.read_file("/root", 1).await.unwrap_err();
    assert!(matches!(error, Error::GuestFile { is_missing: false, .. }), "{error}");
    let error = sandbox.read_file("relative", 1).await.unwrap_err();
    assert!(matches!(error, Error::InvalidPath { .. }), "{error}");
    let error = sandbox.write_file("/proc/version", "x", None).await.unwrap_err();
    assert!(matches!(error, Error::GuestFile { .. }), "{error}");

    // A tree there and back is the same tree.
    let tree = folder.path().join("tree");
    fs_err::create_dir_all(tree.join("sub/empty")).unwrap();
    fs_err::write(tree.join("sub/\u{e4}\u{1f600}.txt"), "unicode").unwrap();
    fs_err::write(tree.join("program"), "#!/bin/sh\necho it runs\n").unwrap();
    fs_err::set_permissions(tree.join("program"), PermissionsExt::from_mode(0o755)).unwrap();
    fs_err::os::unix::fs::symlink("../program", tree.join("sub/link")).unwrap();
    let sent = sandbox.upload(&tree, "/root/tree").await.unwrap();
    assert_eq!((sent.n_files, sent.skipped.len()), (2, 0));
    assert_eq!(run(&sandbox, "/root/tree/sub/link").await, "it runs");
    let back = folder.path().join("back");
    let received = sandbox.download("/root/tree", &back, None).await.unwrap();
    assert_eq!(received, sent);
    assert_eq!(fs_err::read_to_string(back.join("sub/\u{e4}\u{1f600}.txt")).unwrap(), "unicode");
    assert!(back.join("sub/empty").is_dir());
    assert_eq!(fs_err::read_link(back.join("sub/link")).unwrap().to_str(), Some("../program"));
    let mode = fs_err::metadata(back.join("program")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);

    // A single file into a folder that is there, on either side.
    sandbox.upload(tree.join("program"), "/root/tree/sub").await.unwrap();
    assert_eq!(run(&sandbox, "/root/tree/sub/program").await, "it runs");
    sandbox.download("/etc/passwd", folder.path(), None).await.unwrap();
    assert!(fs_err::read_to_string(folder.path().join("passwd")).unwrap().contains("root:"));

    // What the guest plants leads nowhere.
    let outside = folder.path().join("outside");
    fs_err::write(&outside, "mine").unwrap();
    let plant = format!(
        "mkdir -p /root/evil && cd /root/evil && ln -s {} a && ln -s ../../outside b && mkfifo pipe && \
         echo ok > fine && chmod 6755 fine",
        outside.display()
    );
    run(&sandbox, &plant).await;
    let evil = folder.path().join("evil");
    let received = sandbox.download("/root/evil", &evil, None).await.unwrap();
    assert_eq!(received.skipped, ["a", "b", "pipe"]);
    assert_eq!(fs_err::read_dir(&evil).unwrap().count(), 1);
    let mode = fs_err::metadata(evil.join("fine")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755);
    let error = sandbox.download("/dev/zero", folder.path().join("zero"), None).await.unwrap_err();
    assert!(error.to_string().contains("neither"), "{error}");
    let error = sandbox.upload(folder.path().join("absent"), "/root/x").await.unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error}");
}

/// Everything that a hostile guest has been seen to try with a download.
#[tokio::test(flavor = "multi_thread")]
async fn a_download_is_what_was_asked_for_and_no_more() {
    let sandbox = vm_tests::started(vm_tests::minimal().network_mode(NetworkMode::None)).await;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let wants = |tree| DownloadOptions { tree: Some(tree), ..DownloadOptions::default() };

    // A folder in a file's place, into a folder that is there.
    fs_err::create_dir(at("home")).unwrap();
    fs_err::write(at("home/.bashrc"), "mine").unwrap();
    run(&sandbox, "mkdir /root/r.txt && echo evil > /root/r.txt/.bashrc && echo 1 > /root/one")
        .await;
    for (host, options) in [("home", DownloadOptions::default()), ("new", wants(false))] {
        let error = sandbox.download("/root/r.txt", at(host), options).await.unwrap_err();
        let is_said = matches!(error, Error::WrongKind { .. })
            || matches!(&error, Error::GuestFile { message, .. } if message.contains("directory"));
        assert!(is_said, "{error}");
    }
    let error = sandbox.download("/root/one", at("new"), wants(true)).await.unwrap_err();
    assert!(matches!(error, Error::WrongKind { .. }), "{error}");
    let error = sandbox.download("/root/r.txt", at("home"), wants(true)).await.unwrap_err();
    assert!(matches!(error, Error::HostExists { .. }), "{error}");
    let error = sandbox.download("/root/one", at("home/.bashrc"), None).await.unwrap_err();
    assert!(matches!(error, Error::HostExists { .. }), "{error}");
    assert_eq!(fs_err::read_to_string(at("home/.bashrc")).unwrap(), "mine");
    assert!(!at("new").exists());

    // A hole of a size that no disk has, and more than the limits.
    run(&sandbox, "truncate -s 1G /root/hole && truncate -s 100G /root/huge").await;
    let received = sandbox.download("/root/hole", at("hole"), None).await.unwrap();
    let metadata = fs_err::metadata(at("hole")).unwrap();
    assert_eq!((received.n_bytes, metadata.len()), (1 << 30, 1 << 30));
    assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
    let error = sandbox.download("/root/huge", at("huge"), None).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    let error = sandbox.read_file("/root/huge", 1 << 30).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    run(&sandbox, "mkdir /root/many && cd /root/many && touch $(seq 50)").await;
    let few = DownloadOptions { max_entries: 49, ..DownloadOptions::default() };
    let error = sandbox.download("/root/many", at("many"), few).await.unwrap_err();
    assert!(matches!(error, Error::TooManyEntries { limit: 49, .. }), "{error}");
    let all = DownloadOptions { max_entries: 50, ..DownloadOptions::default() };
    assert_eq!(sandbox.download("/root/many", at("many"), all).await.unwrap().n_files, 50);

    // Names in other encodings, and names that steer terminals.
    run(
        &sandbox,
        "mkdir /root/n && cd /root/n && touch $(printf 'a\\377') $(printf 'u\\357\\277\\275') && \
         mkdir $(printf 'd\\377') && echo x > $(printf 'd\\377/x') && mkfifo $(printf 'p\\033[2J')",
    )
    .await;
    let received = sandbox.download("/root/n", at("n"), None).await.unwrap();
    assert_eq!((received.n_files, received.skipped), (3, vec![r"p\x1b[2J".to_owned()]));
    let name = |bytes: &'static [u8]| at("n").join(OsStr::from_bytes(bytes));
    assert_eq!(fs_err::read(name(b"d\xff/x")).unwrap(), b"x\n");
    assert!(name(b"a\xff").exists() && at("n/u\u{fffd}").exists());
    assert_eq!(sandbox.read_file(b"/root/n/d\xff/x", 10).await.unwrap(), b"x\n");
    sandbox.upload(at("n"), "/root/n2").await.unwrap();
    assert_eq!(run(&sandbox, "cat /root/n2/d*/x").await, "x");

    // Times there and back.
    run(&sandbox, "mkdir /root/t && touch -d '2001-09-09 01:46:40' /root/t/f /root/t").await;
    sandbox.download("/root/t", at("t"), None).await.unwrap();
    for path in ["t", "t/f"] {
        assert_eq!(fs_err::metadata(at(path)).unwrap().mtime(), 1_000_000_000, "{path}");
    }
    sandbox.upload(at("t"), "/root/t2").await.unwrap();
    assert_eq!(run(&sandbox, "stat -c %Y /root/t2 /root/t2/f").await, "1000000000\n1000000000");
    let left = fs_err::read_dir(folder.path()).unwrap();
    let left = left.map(|item| item.unwrap().file_name().into_string().unwrap());
    assert!(left.into_iter().all(|name| !name.starts_with('.')));
}

/// A download that is cancelled has removed what it wrote before anybody goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_download_leaves_nothing() {
    let sandbox = vm_tests::started(vm_tests::minimal()).await;
    let folder = tempfile::tempdir().unwrap();
    run(&sandbox, "mkdir /root/t && cd /root/t && for i in $(seq 20); do dd if=/dev/zero of=$i bs=1M count=2 2>/dev/null; done").await;
    let mut n_seen = 0;
    for wait in [0, 5, 20, 60, 150] {
        let download = sandbox.download("/root/t", folder.path().join("t"), None);
        let limit = std::time::Duration::from_millis(wait);
        if tokio::time::timeout(limit, download).await.is_ok() {
            fs_err::remove_dir_all(folder.path().join("t")).unwrap();
        } else {
            n_seen += 1;
        }
        sandbox.tidied().await;
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0, "after {wait} ms");
    }
    assert!(n_seen > 0);
    let few = DownloadOptions { max_bytes: 3_000_000, ..DownloadOptions::default() };
    let error = sandbox.download("/root/t", folder.path().join("t"), few).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 0);
    assert_eq!(run(&sandbox, "echo alive").await, "alive");
}

/// What other users of the guest put in root's way, and what readers see of a write.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_is_one_step_and_goes_where_it_was_sent() {
    let sandbox = vm_tests::started(vm_tests::minimal()).await;
    run(
        &sandbox,
        "mkdir /tmp/a && ln -s /root/victim /tmp/a/out && ln -s /root /tmp/a/dir && \
         echo kept > /root/victim && mkfifo /tmp/a/pipe && chown -hR 1000:1000 /tmp/a",
    )
    .await;
    for path in ["/tmp/a/out", "/tmp/a/dir/victim", "/tmp/a/pipe", "/dev/null"] {
        let error = sandbox.write_file(path, "evil", None).await.unwrap_err();
        assert!(matches!(error, Error::GuestFile { .. }), "{path}: {error}");
        assert_eq!(run(&sandbox, "echo alive").await, "alive");
    }
    assert_eq!(run(&sandbox, "cat /root/victim; ls /tmp/a").await, "kept\ndir\nout\npipe");
    let error = sandbox.read_file("/tmp/a/pipe", 10).await.unwrap_err();
    assert!(error.to_string().contains("pipe"), "{error}");
    // Root's own links are ways like others, and so are files of the kernel.
    run(&sandbox, "ln -s /root/real /root/link && echo old > /root/real").await;
    sandbox.write_file("/root/link", "new", None).await.unwrap();
    assert_eq!(run(&sandbox, "cat /root/real; readlink /root/link").await, "new/root/real");
    sandbox.write_file("/proc/sys/kernel/hostname", "written", None).await.unwrap();
    assert_eq!(run(&sandbox, "cat /proc/sys/kernel/hostname").await, "written");

    // Nobody sees half of it.
    let large = |byte: u8| vec![byte; 2_000_000];
    sandbox.write_file("/root/f", large(b'a'), None).await.unwrap();
    let watch = "m=2000000; for i in $(seq 2000); do n=$(stat -c %s /root/f); [ $n -lt $m ] && m=$n; \
         [ -e /root/stop ] && break; done; echo $m";
    let (seen, ()) = tokio::join!(run(&sandbox, watch), async {
        for byte in [b'b', b'c', b'd'] {
            sandbox.write_file("/root/f", large(byte), None).await.unwrap();
        }
        sandbox.write_file("/root/stop", "", None).await.unwrap();
    });
    assert_eq!(seen, "2000000");
    // A program that runs, and a disk that is full.
    run(&sandbox, "cp /bin/busybox /root/busybox2 && (/root/busybox2 sleep 60 >/dev/null 2>&1 &)")
        .await;
    sandbox.write_file("/root/busybox2", "#!/bin/sh\n", Some(0o755)).await.unwrap();
    run(&sandbox, "mkdir -p /mnt/t && mount -t tmpfs -o size=1m t /mnt/t && echo old > /mnt/t/f")
        .await;
    let error = sandbox.write_file("/mnt/t/f", large(b'x'), None).await.unwrap_err();
    assert!(matches!(error, Error::GuestFile { .. }), "{error}");
    assert_eq!(run(&sandbox, "cat /mnt/t/f; ls -A /mnt/t").await, "old\nf");
    // Owner and permissions of what was there.
    run(&sandbox, "echo x > /root/o && chmod 640 /root/o && chown 7:8 /root/o").await;
    sandbox.write_file("/root/o", "new", None).await.unwrap();
    assert_eq!(run(&sandbox, "stat -c '%a %u %g' /root/o").await, "640 7 8");
}

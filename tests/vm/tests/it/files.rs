//! Files to and from the guest, without a network.

use super::run;
use sandbox::{Error, NetworkMode};
use std::os::unix::fs::PermissionsExt;

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

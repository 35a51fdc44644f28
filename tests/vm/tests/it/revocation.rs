//! Shares that come and go: whoever has been given one has it until the host takes it back, and no
//! longer.

use super::{execute, run};
use fs_err::os::unix::fs::symlink;
use sandbox::{Mount, Sandbox, SandboxConfigBuilder};
use std::path::Path;
use std::time::Duration;

fn builder() -> SandboxConfigBuilder {
    vm_tests::minimal().memory("192M")
}

fn tree() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join("before"), "before").unwrap();
    folder
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs_err::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_in_the_guest_removes_links_and_not_what_they_lead_to() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let outside = tempfile::tempdir().unwrap();
    fs_err::write(outside.path().join("keep"), "keep").unwrap();
    fs_err::create_dir_all(at("docs/releases/deep")).unwrap();
    fs_err::create_dir_all(at("top/data")).unwrap();
    for keep in ["docs/releases/keep", "docs/releases/deep/keep", "top/data/keep"] {
        fs_err::write(at(keep), "keep").unwrap();
    }
    fs_err::create_dir_all(at("links")).unwrap();
    for (link, target) in [
        ("docs/current", "releases"),
        ("links/around", "../docs/releases"),
        ("links/down", "../top/data"),
        ("links/file", "../top/data/keep"),
        ("links/self", "."),
        ("links/dangling", "nowhere"),
        ("latest", "top/data"),
    ] {
        symlink(target, at(link)).unwrap();
    }
    symlink(outside.path(), at("links/out")).unwrap();
    let sandbox = vm_tests::started(builder().mount(Mount::new(folder.path(), "/mnt/s"))).await;

    // The guest sees what the host has: links, by their own names and targets.
    assert_eq!(run(&sandbox, "readlink /mnt/s/docs/current").await, "releases");
    assert_eq!(run(&sandbox, "readlink /mnt/s/links/around").await, "../docs/releases");
    assert_eq!(run(&sandbox, "cat /mnt/s/latest/keep /mnt/s/links/file").await, "keepkeep");
    assert_eq!(run(&sandbox, "ls -l /mnt/s/links | grep -c '^l'").await, "6");
    assert_eq!(run(&sandbox, "find /mnt/s -type f | wc -l").await, "3");

    run(&sandbox, "mv /mnt/s/docs/current /mnt/s/docs/moved").await;
    assert_eq!(fs_err::read_link(at("docs/moved")).unwrap(), Path::new("releases"));
    run(&sandbox, "rm -rf /mnt/s/docs/moved /mnt/s/latest && rm -rf /mnt/s/links").await;
    assert_eq!(names(folder.path()), ["docs", "top"]);
    assert_eq!(names(&at("docs")), ["releases"]);
    for keep in ["docs/releases/keep", "docs/releases/deep/keep", "top/data/keep"] {
        assert_eq!(fs_err::read_to_string(at(keep)).unwrap(), "keep", "{keep}");
    }
    assert_eq!(names(outside.path()), ["keep"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_share_is_taken_back_without_the_guests_consent() {
    let (folder, other) = (tree(), tree());
    let builder = builder().mount(Mount::new(other.path(), "/mnt/other"));
    let sandbox = vm_tests::started(builder).await;
    let mount = || Mount::new(folder.path(), "/mnt/a");
    for force in [false, true] {
        let handle = sandbox.mount(mount()).await.unwrap();
        // The guest keeps the share at another place, with a file open, and has no mount point left.
        let keep = "mkdir -p /keep && mount --bind /mnt/a /keep && umount /mnt/a && \
                    (exec 9>>/keep/open; while :; do echo late >&9; sleep 0.2; done) >/dev/null 2>&1 & \
                    echo $! > /root/writer";
        run(&sandbox, keep).await;
        super::eventually("the guest's file", Duration::from_secs(20), async || {
            folder.path().join("open").exists()
        })
        .await;
        sandbox.unmount(&handle, force).await.unwrap();
        assert_eq!(sandbox.active_mounts().len(), 1);
        let size = || fs_err::metadata(folder.path().join("open")).unwrap().len();
        let size_then = size();
        fs_err::write(folder.path().join("after"), "after").unwrap();
        for attempt in ["cat /keep/after", "echo x > /keep/new", "rm /keep/before"] {
            let result = execute(&sandbox, &format!("timeout 20 sh -c '{attempt}'")).await;
            assert_ne!(result.exit_code, 0, "{attempt}: {result:?}");
            assert!(!result.stdout_lossy().contains("after"), "{attempt}");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(size(), size_then, "an open file is written to after the share was taken back");
        assert_eq!(names(folder.path()), ["after", "before", "open"]);
        fs_err::remove_file(folder.path().join("open")).unwrap();
        assert!(sandbox.unmount(&handle, true).await.is_err(), "it is not mounted any more");
        // The other share goes on, and the same folder can be given again.
        assert_eq!(run(&sandbox, "cat /mnt/other/before").await, "before");
        run(&sandbox, "kill $(cat /root/writer); umount -l /keep; true").await;
    }
    let handle = sandbox.mount(mount()).await.unwrap();
    assert_eq!(run(&sandbox, "cat /mnt/a/before").await, "before");
    sandbox.unmount(&handle, false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_or_failed_mount_leaves_nothing() {
    let folder = tree();
    let sandbox = vm_tests::started(builder()).await;
    let mount = || sandbox.mount(Mount::new(folder.path(), "/mnt/a"));
    for pause in [0, 1, 3, 10, 30, 100, 300] {
        let given_up = tokio::time::timeout(Duration::from_millis(pause), mount()).await;
        match given_up {
            Err(_) => assert!(sandbox.active_mounts().is_empty(), "{pause} ms"),
            Ok(handle) => sandbox.unmount(&handle.unwrap(), false).await.unwrap(),
        }
    }
    // A guest that cannot mount: the place is a file.
    run(&sandbox, "echo x > /root/file").await;
    sandbox.mount(Mount::new(folder.path(), "/root/file/below")).await.unwrap_err();
    assert!(sandbox.active_mounts().is_empty());
    let handle = mount().await.unwrap();
    assert_eq!(run(&sandbox, "cat /mnt/a/before; grep -c /mnt/a /proc/mounts").await, "before1");
    sandbox.unmount(&handle, false).await.unwrap();
    assert_eq!(run(&sandbox, "grep -c /mnt/a /proc/mounts || true").await, "0");
}

async fn cycle(sandbox: &Sandbox, folder: &Path, place: usize) {
    let target = format!("/mnt/{place}");
    let handle = sandbox.mount(Mount::new(folder, &target)).await.unwrap();
    run(sandbox, &format!("echo x > {target}/f{place}")).await;
    sandbox.unmount(&handle, false).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_cycles_with_eight_at_once_all_succeed() {
    let folder = tree();
    let sandbox = vm_tests::started(builder()).await;
    let begin = std::time::Instant::now();
    for _ in 0..50 {
        let at = folder.path();
        let s = &sandbox;
        tokio::join!(
            cycle(s, at, 0),
            cycle(s, at, 1),
            cycle(s, at, 2),
            cycle(s, at, 3),
            cycle(s, at, 4),
            cycle(s, at, 5),
            cycle(s, at, 6),
            cycle(s, at, 7),
        );
    }
    eprintln!("400 mounts and unmounts, eight at once, took {:?}", begin.elapsed());
    assert!(sandbox.active_mounts().is_empty());
    assert_eq!(names(folder.path()).len(), 9);
    assert_eq!(run(&sandbox, "df -P >/dev/null; grep -c /mnt/ /proc/mounts || true").await, "0");
}

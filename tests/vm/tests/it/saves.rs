//! Saves: what is in them, where they load, what replaces them, and what a crash leaves.

use super::{host_processes, run};
use runtime_locator::find_image;
use sandbox::save::{self, SaveOptions};
use sandbox::{Error, Sandbox};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn at(workspace: &Path) -> SaveOptions {
    SaveOptions { workspace: Some(workspace.into()), ..SaveOptions::default() }
}

async fn started_from(path: &Path) -> Sandbox {
    let image = path.to_str().expect("temporary folders have plain names");
    vm_tests::started(sandbox::SandboxConfig::builder(image).memory("128M")).await
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs_err::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Writes another name for the layer below into a file's header.
fn name_below(layer: &Path, below: &str) {
    use std::os::unix::fs::{FileExt, PermissionsExt};
    // A file of its own, as the layer may be another save's too.
    let copy = layer.with_extension("copy");
    fs_err::write(&copy, fs_err::read(layer).unwrap()).unwrap();
    fs_err::rename(&copy, layer).unwrap();
    fs_err::set_permissions(layer, std::fs::Permissions::from_mode(0o600)).unwrap();
    let file = fs_err::OpenOptions::new().write(true).open(layer).unwrap();
    let file = file.file();
    file.write_all_at(&2048u64.to_be_bytes(), 8).unwrap();
    file.write_all_at(&(below.len() as u32).to_be_bytes(), 16).unwrap();
    file.write_all_at(below.as_bytes(), 2048).unwrap();
}

/// The files that a process has open.
fn open_files(pid: u32) -> Vec<PathBuf> {
    fs_err::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|entry| fs_err::read_link(entry.path()).ok())
        .collect()
}

/// Where the files that a process has open, and that have no name any more, can be read.
fn overlays(pid: u32) -> Vec<PathBuf> {
    let entries = fs_err::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let is_unnamed = |path: &PathBuf| {
        let target = fs_err::read_link(path).unwrap_or_default();
        let is_file = fs_err::metadata(path).is_ok_and(|found| found.is_file());
        is_file && target.to_string_lossy().ends_with("(deleted)")
    };
    entries.map(|entry| entry.path()).filter(is_unnamed).collect()
}

fn holds(path: &Path, words: &[u8]) -> bool {
    let bytes = fs_err::read(path).unwrap();
    memchr::memmem::find(&bytes, words).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_holds_the_disk_of_its_moment_and_loads_from_anywhere() {
    let home = tempfile::tempdir().unwrap();
    let workspace = home.path().join("saves");
    let base = find_image(&vm_tests::search(), "minimal", None).unwrap().chain[0].clone();
    let hash = || checksum::sha256(&fs_err::read(&base).unwrap());
    let before = hash();

    let sandbox = vm_tests::started(vm_tests::minimal().disk_size("3G")).await;
    // The file system has grown with the disk; `df` counts KiB.
    let total = run(&sandbox, "df -k / | awk 'NR == 2 { print $2 }'").await;
    assert!(total.parse::<u64>().unwrap() > 2700 << 10, "{total}");
    let make = "echo first > /first; dd if=/dev/urandom of=/noise bs=64k count=64 2>/dev/null; \
        dd if=/dev/zero of=/zeros bs=64k count=64 2>/dev/null; rm /etc/hostname; \
        sha256sum /noise /zeros > /sums";
    run(&sandbox, make).await;
    // Written at the time of the save, and never finished.
    run(&sandbox, "(while :; do echo x >> /growing; done) > /dev/null 2>&1 &").await;
    let start = Instant::now();
    let manifest = sandbox.save("one", &at(&workspace)).await.unwrap();
    eprintln!("save: {:?}", start.elapsed());
    assert_eq!((manifest.version, manifest.arch.as_deref()), (6, Some("x86_64")));
    assert_eq!(manifest.base_image(), Some("minimal"));
    assert_eq!(manifest.config["memory"], "128M");
    assert_eq!(names(&workspace), ["one"]);
    assert_eq!(names(&workspace.join("one")), ["manifest.json", "overlays"]);
    assert_eq!(names(&workspace.join("one/overlays")), ["0.qcow2"]);
    assert_eq!(save::validate(&workspace.join("one")).unwrap(), manifest);

    // The sandbox goes on, and what it does now is not in the save.
    run(&sandbox, "echo second > /second").await;
    let compressed = SaveOptions { compress: true, ..at(&workspace) };
    run(&sandbox, "yes compressible | head -c 8000000 > /text; sync").await;
    sandbox.save("small", &compressed).await.unwrap();
    sandbox.save("large", &at(&workspace)).await.unwrap();
    let bytes = |name: &str| save::show(&workspace.join(name)).unwrap().bytes;
    assert!(bytes("small") + (6 << 20) < bytes("large"), "{} {}", bytes("small"), bytes("large"));
    // A place that is something else is refused, and left alone.
    fs_err::create_dir_all(workspace.join("mine")).unwrap();
    fs_err::write(workspace.join("mine/notes"), "keep").unwrap();
    let error = sandbox.save("mine", &at(&workspace)).await.unwrap_err();
    assert!(matches!(error, Error::SaveInTheWay { .. }), "{error}");
    assert_eq!(names(&workspace.join("mine")), ["notes"]);
    for name in ["", ".", "..", "a/b", "/", "~"] {
        let error = sandbox.save(name, &at(&workspace)).await.unwrap_err();
        assert!(matches!(error, Error::InvalidValue { option: "save", .. }), "{name}: {error}");
    }
    sandbox.stop().await.unwrap();

    // Elsewhere, by path; what was there is there, what came later is not.
    let moved = home.path().join("elsewhere");
    fs_err::rename(workspace.join("one"), &moved).unwrap();
    let image = moved.to_str().unwrap();
    let smaller = vm_tests::sandbox(sandbox::SandboxConfig::builder(image).disk_size("2G"));
    let error = smaller.start().await.unwrap_err();
    assert!(matches!(error, Error::InvalidValue { option: "disk_size", .. }), "{error}");
    let builder = sandbox::SandboxConfig::builder(image).memory("128M");
    let builder = builder.save("two").workspace(&workspace);
    let sandbox = vm_tests::started(builder).await;
    let check = "cat /first; ls /second /etc/hostname 2>/dev/null; sha256sum -c /sums > /dev/null \
        && echo whole; wc -l < /growing | tr -d ' ' | grep -c '[1-9]'";
    assert_eq!(run(&sandbox, check).await, "first\nwhole\n1");
    let again = run(&sandbox, "df -k / | awk 'NR == 2 { print $2 }'").await;
    assert!(again.parse::<u64>().unwrap() > 2700 << 10, "{again}");
    run(&sandbox, "echo third > /third; echo changed > /first").await;
    sandbox.stop().await.unwrap();
    let two = workspace.join("two");
    assert_eq!(names(&two.join("overlays")), ["0.qcow2", "1.qcow2"]);
    assert_eq!(save::validate(&two).unwrap().base_image(), Some("minimal"));

    // A chain of sixty: what lies between is empty, and the order is that of numbers. Each layer
    // names a file of the host that nobody must open.
    let deep = home.path().join("deep");
    fs_err::create_dir_all(deep.join("overlays")).unwrap();
    fs_err::copy(two.join("manifest.json"), deep.join("manifest.json")).unwrap();
    let layer = |number: usize| deep.join(format!("overlays/{number}.qcow2"));
    let empty = empty_layer(&two, home.path());
    for number in 1..59 {
        fs_err::copy(&empty, layer(number)).unwrap();
    }
    fs_err::copy(two.join("overlays/0.qcow2"), layer(0)).unwrap();
    fs_err::copy(two.join("overlays/1.qcow2"), layer(59)).unwrap();
    let bait = home.path().join("bait.qcow2");
    fs_err::copy(&empty, &bait).unwrap();
    for number in 0..60 {
        name_below(&layer(number), bait.to_str().unwrap());
    }
    let sandbox = started_from(&deep).await;
    assert_eq!(
        run(&sandbox, "cat /third /first; ls /second 2>/dev/null; true").await,
        "third\nchanged"
    );
    let opened = open_files(sandbox.pid().unwrap());
    assert!(!opened.contains(&bait), "QEMU has opened what a layer names");
    assert!(opened.iter().filter(|path| path.starts_with(&deep)).count() >= 60);
    sandbox.save("deeper", &at(&workspace)).await.unwrap();
    assert_eq!(names(&workspace.join("deeper/overlays")).len(), 61);
    sandbox.stop().await.unwrap();

    // A layer that is a link, or damaged, is refused by name.
    fs_err::remove_file(layer(7)).unwrap();
    fs_err::os::unix::fs::symlink(&bait, layer(7)).unwrap();
    let error = save::validate(&deep).unwrap_err().to_string();
    assert!(error.contains("7.qcow2") && error.contains("it is a link"), "{error}");
    assert_eq!(hash(), before, "the image was written");
}

/// A layer without data, of the size of a save's.
fn empty_layer(save: &Path, folder: &Path) -> PathBuf {
    let mut head = fs_err::read(save.join("overlays/0.qcow2")).unwrap();
    let size = u64::from_be_bytes(head[24..32].try_into().unwrap());
    head.clear();
    let path = folder.join("empty.qcow2");
    let search = vm_tests::search();
    let tool = runtime_locator::find_qemu(&search, search.host.arch).unwrap().img.unwrap();
    // The one place that runs another program: what others make must load too.
    #[allow(clippy::disallowed_methods)]
    let made = std::process::Command::new(tool)
        .args(["create", "-q", "-f", "qcow2", path.to_str().unwrap(), &size.to_string()])
        .status();
    assert!(made.unwrap().success());
    path
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_powers_itself_off_is_saved_all_the_same() {
    let home = tempfile::tempdir().unwrap();
    let builder = vm_tests::minimal().save("x").workspace(home.path());
    let sandbox = vm_tests::started(builder).await;
    run(&sandbox, "echo kept > /kept").await;
    // A checkpoint keeps the guest's memory in the overlay; nobody asked for it in the save.
    let make = "mkdir /ram && mount -t tmpfs ram /ram && cd /ram && for i in $(seq 99); do echo of-memory-$i-; done > a";
    run(&sandbox, make).await;
    let secret = b"of-memory-42-";
    sandbox.checkpoint("one").await.unwrap();
    let pid = sandbox.pid().unwrap();
    assert!(
        overlays(pid).iter().any(|overlay| holds(overlay, secret)),
        "the test looks for nothing"
    );
    let _ = sandbox.execute(sandbox::ExecuteRequest::new("poweroff -f; sleep 20")).await;
    super::eventually("QEMU's end", Duration::from_secs(20), async || !sandbox.is_running()).await;
    sandbox.stop().await.unwrap();
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
    assert!(!holds(&home.path().join("x/overlays/0.qcow2"), secret));
    let sandbox = started_from(&home.path().join("x")).await;
    assert_eq!(run(&sandbox, "cat /kept").await, "kept");
    // One that was killed has nothing that could be trusted.
    let other = vm_tests::started(vm_tests::minimal().save("y").workspace(home.path())).await;
    let pid = rustix::process::Pid::from_raw(other.pid().unwrap() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    super::eventually("QEMU's end", Duration::from_secs(20), async || !other.is_running()).await;
    let error = other.stop().await.unwrap_err();
    assert!(matches!(error, Error::SaveFailed { .. }), "{error}");
    assert_eq!(names(home.path()), ["x"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_save_at_the_stop_is_reported_and_leaves_nothing() {
    let home = tempfile::tempdir().unwrap();
    let workspace = home.path().join("saves");
    let builder = vm_tests::minimal().save("x").workspace(&workspace);
    let sandbox = vm_tests::started(builder).await;
    fs_err::write(&workspace, "a file where the folder must be").unwrap();
    let error = sandbox.stop().await.unwrap_err();
    assert!(error.to_string().contains("Failed to save"), "{error}");
    assert!(!sandbox.is_running());
    assert_eq!(names(home.path()), ["saves"]);
    assert!(matches!(sandbox.stop().await, Ok(())));
}

const CHILD: &str = "QUICKSAND_TEST_SAVING_CHILD";

/// Not a test by itself: what `a_killed_writer_leaves_the_old_save_or_the_new_one` kills.
#[tokio::test(flavor = "multi_thread")]
async fn saving_child() {
    let Some(workspace) = std::env::var_os(CHILD) else { return };
    let sandbox = vm_tests::started(vm_tests::minimal()).await;
    let command =
        "dd if=/dev/urandom of=/noise bs=64k count=500 2>/dev/null; sha256sum /noise > /sum";
    run(&sandbox, command).await;
    println!("saving");
    loop {
        sandbox.save("x", &at(Path::new(&workspace))).await.unwrap();
        println!("saved");
    }
}

#[test]
fn a_killed_writer_leaves_the_old_save_or_the_new_one() {
    use std::io::{BufRead, BufReader};
    let home = tempfile::tempdir().unwrap();
    let mut n_unfinished = 0;
    for round in 0..4u64 {
        #[allow(clippy::disallowed_methods)]
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "saves::saving_child", "--nocapture", "--test-threads=1"])
            .env(CHILD, home.path())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let wanted = if round == 0 { "saved" } else { "saving" };
        while !lines.next().expect("the child saves").unwrap().ends_with(wanted) {}
        std::thread::sleep(Duration::from_millis(40 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let x = home.path().join("x");
        let found = save::validate(&x);
        assert!(found.is_ok(), "round {round}: {found:?}");
        n_unfinished += names(home.path()).iter().filter(|name| name.starts_with('.')).count();
    }
    eprintln!("unfinished saves seen: {n_unfinished}");
    let gone = Instant::now();
    while !host_processes(home.path().to_str().unwrap()).is_empty() {
        assert!(gone.elapsed() < Duration::from_secs(5), "QEMU lives on");
        std::thread::sleep(Duration::from_millis(50));
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let sandbox = started_from(&home.path().join("x")).await;
        assert_eq!(run(&sandbox, "sha256sum -c /sum > /dev/null && echo whole").await, "whole");
        // What was left behind goes with the next save.
        sandbox.save("y", &at(home.path())).await.unwrap();
        assert_eq!(names(home.path()), ["x", "y"]);
        sandbox.stop().await.unwrap();
    });
}

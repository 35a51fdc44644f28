//! What people get wrong: each is one clear error that names the value and what to do.

use runtime_locator::{Search, find_image};
use sandbox::{AccelChoice, Accelerator, Error, ErrorKind, Sandbox, SandboxConfig};
use std::path::Path;
use std::time::{Duration, Instant};

async fn start_error(sandbox: Sandbox) -> Error {
    let error = sandbox.start().await.expect_err("this must not start");
    assert!(!sandbox.is_running());
    assert_eq!(error.kind(), ErrorKind::Runtime, "{error}");
    error
}

/// A search that finds one image made of the real kernel and a disk of the test's choice.
fn with_disk(folder: &Path, disk: &[u8]) -> Search {
    let mut search = vm_tests::search();
    let image = find_image(&search, "minimal", None).unwrap();
    let arch = image.arch.image_name();
    let file = |extension: &str| folder.join(format!("broken-1-{arch}.{extension}"));
    fs_err::copy(&image.kernel, file("kernel")).unwrap();
    fs_err::copy(&image.initrd, file("initrd")).unwrap();
    fs_err::write(file("qcow2"), disk).unwrap();
    search.image_path = vec![folder.to_owned()];
    search
}

#[tokio::test]
async fn an_unknown_image_offers_the_nearest() {
    let config = SandboxConfig::builder("minimall").build().unwrap();
    let error = start_error(Sandbox::new(config).with_locator(vm_tests::search())).await;
    assert!(error.to_string().starts_with("Image not found: 'minimall'"), "{error}");
    assert!(error.hint().unwrap().contains("minimal"), "{:?}", error.hint());
}

#[tokio::test]
async fn a_missing_qemu_says_where_it_was_looked_for() {
    let mut search = vm_tests::search();
    search.qemu_dir = None;
    search.environment_qemu_dir = None;
    search.site_packages.clear();
    search.qemu_bin_dirs.clear();
    search.data_dir = None;
    search.path.clear();
    let config = SandboxConfig::builder("minimal").build().unwrap();
    let error = start_error(Sandbox::new(config).with_locator(search)).await;
    assert!(error.to_string().contains("QEMU"), "{error}");
    assert!(error.hint().is_some());
}

#[tokio::test]
async fn a_corrupt_disk_is_refused_before_anything_runs() {
    let whole = {
        let image = find_image(&vm_tests::search(), "minimal", None).unwrap();
        fs_err::read(&image.chain[0]).unwrap()
    };
    let mut no_magic = whole.clone();
    no_magic[..4].fill(0);
    let cases: [(&[u8], &str); 4] = [
        (&no_magic, "magic"),
        (b"", "too early"),
        (&whole[..whole.len() / 2], "it ends before"),
        (b"<html>404 Not Found</html>", "too early"),
    ];
    for (disk, expect) in cases {
        let folder = tempfile::tempdir().unwrap();
        let search = with_disk(folder.path(), disk);
        let config = SandboxConfig::builder("broken").build().unwrap();
        let error = start_error(Sandbox::new(config).with_locator(search)).await;
        assert!(matches!(error, Error::BadImage { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(expect) && message.contains("broken-1"), "{message}");
        assert!(error.hint().is_some());
    }
}

#[tokio::test]
async fn an_accelerator_of_this_system_is_tried_before_it_is_used() {
    let native = sandbox::native_accelerator(vm_tests::search().host.os);
    let verdict = runtime_locator::probe(native);
    if verdict.usable {
        println!("skipped: {} works here", native.name());
        return;
    }
    let wanted = AccelChoice::Fixed(native);
    let error = start_error(vm_tests::sandbox(vm_tests::minimal().accel(wanted))).await;
    assert!(matches!(error, Error::AcceleratorUnusable { .. }), "{error}");
    assert!(error.to_string().contains(&verdict.reason), "{error}");
}

#[tokio::test]
async fn an_accelerator_that_does_not_work_is_refused_by_name() {
    let wanted = AccelChoice::Fixed(if cfg!(target_os = "linux") {
        Accelerator::Hvf
    } else {
        Accelerator::Kvm
    });
    let error = start_error(vm_tests::sandbox(vm_tests::minimal().accel(wanted))).await;
    assert!(matches!(error, Error::AcceleratorUnusable { .. }), "{error}");
}

#[tokio::test]
async fn what_qemu_refuses_arrives_in_its_own_words() {
    let builder = vm_tests::minimal().extra_qemu_args(["-device", "no-such-device"]);
    let error = start_error(vm_tests::sandbox(builder)).await;
    let message = error.to_string();
    assert!(matches!(error, Error::QemuExited { .. }), "{message}");
    assert!(message.contains("'no-such-device' is not a valid device model name"), "{message}");
    assert!(message.contains("exit code 1") && message.contains("-nodefaults"), "{message}");
}

#[tokio::test]
async fn a_boot_timeout_is_kept_and_reported() {
    let builder = vm_tests::minimal().boot_timeout(Duration::from_millis(200));
    let start = Instant::now();
    let error = start_error(vm_tests::sandbox(builder)).await;
    assert!(matches!(error, Error::BootTimeout { .. }), "{error}");
    assert!(error.to_string().starts_with("Failed to connect to guest agent: "), "{error}");
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_folder_for_temporary_files_that_is_not_there_is_named() {
    // The variable belongs to the whole process: ask a child.
    let folder = "/no/such/folder";
    let output = duct::cmd!(env!("CARGO_BIN_EXE_vm-host"), "minimal")
        .env("TMPDIR", folder)
        .stdin_null()
        .stderr_to_stdout()
        .unchecked()
        .read()
        .unwrap();
    assert!(output.contains("Failed to write the overlay disk in `/no/such/folder`"), "{output}");
    assert!(output.contains("TMPDIR"), "{output}");
}

//! The end of the host process, and of the host's disk.

use crate::forks::is_there;
use duct::cmd;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::{Duration, Instant};

const HOST: &str = env!("CARGO_BIN_EXE_vm-host");

/// The process uses descriptors, not names: its folder for temporary files stays empty.
fn is_empty(folder: &Path) -> bool {
    fs_err::read_dir(folder).unwrap().next().is_none()
}

/// Makes the search of the child find what this process' search finds.
fn check_environment() {
    vm_tests::search();
}

#[test]
fn no_signal_to_the_host_leaves_anything_behind() {
    check_environment();
    for signal in ["KILL", "TERM", "INT", "ABRT"] {
        let folder = tempfile::tempdir().unwrap();
        let (input, _keep_open) = std::io::pipe().unwrap();
        // Whoever started this test may have had SIGINT ignored, as a shell does for what runs behind it.
        let reader = cmd!("env", "--default-signal", HOST, "minimal")
            .env("TMPDIR", folder.path())
            .stdin_file(input)
            .unchecked()
            .reader()
            .unwrap();
        let host = reader.pids()[0];
        let mut line = String::new();
        BufReader::new(&reader).read_line(&mut line).unwrap();
        let qemu: u32 = line.trim().parse().unwrap();
        assert!(is_there(qemu), "no QEMU: {line}");
        assert!(is_empty(folder.path()), "files have names while the machine runs");
        cmd!("kill", format!("-{signal}"), host.to_string()).run().unwrap();
        let start = Instant::now();
        while is_there(qemu) {
            // A busy host takes its time to free the machine's memory.
            assert!(start.elapsed() < Duration::from_secs(10), "QEMU outlives SIG{signal}");
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(is_empty(folder.path()));
    }
}

#[test]
fn a_full_disk_of_the_host_is_reported_and_does_not_hang() {
    check_environment();
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=2m tmpfs \"$1\" && TMPDIR=$1 exec \"$2\" minimal \
                  'dd if=/dev/urandom of=/fill bs=64k count=160; sync; echo not full'";
    let start = Instant::now();
    // A mount of its own needs root's rights in a namespace only.
    let output = cmd!("unshare", "-rm", "sh", "-c", script, "sh", folder.path(), HOST)
        .stdin_null()
        .stderr_to_stdout()
        .read()
        .unwrap();
    assert!(output.contains("no space left on the host's disk"), "{output}");
    assert!(start.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_machine_goes_on_once_the_host_has_space_again() {
    check_environment();
    let folder = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=40m tmpfs \"$1\" && \
                  dd if=/dev/zero of=\"$1/filler\" bs=1M count=36 2>/dev/null && \
                  TMPDIR=$1 exec \"$2\" minimal \
                  'dd if=/dev/urandom of=/fill bs=64k count=160 2>/dev/null; sync; echo one' \
                  'echo two > /small; sync; echo two' \
                  \"rm:$1/filler\" \
                  'sync; echo three' 'cat /small /fill | wc -c; echo four'";
    let output = cmd!("unshare", "-rm", "sh", "-c", script, "sh", folder.path(), HOST)
        .stdin_null()
        .stderr_to_stdout()
        .read()
        .unwrap();
    assert_eq!(output.matches("no space left on the host's disk").count(), 2, "{output}");
    assert!(output.contains("three") && output.contains("four"), "{output}");
}

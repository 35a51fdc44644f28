//! The POSIX suite `pjdfstest` and the exerciser `fsx`, in the guest on the share. What fails is compared
//! with a list that says why.

use super::{MACHINE, Place};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Tests that fail, each after a reason in a line that begins with `#`.
const EXCEPTIONS: &str = include_str!("pjdfstest.txt");
/// The accounts that the suite acts as, and where it may make file systems of its own.
const CONFIGURATION: &str = r#"
[features]
posix_fallocate = {}
rename_ctime = {}
utimensat = {}
utime_now = {}
[settings]
naptime = 0.02
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"#;

/// A program that `cargo xtask test shares` has built.
fn upload(name: &str) -> String {
    let folder = std::env::var_os("QUICKSAND_POSIX_TOOLS");
    let folder: PathBuf = folder.expect("`cargo xtask test shares` builds the suites").into();
    let guest = format!("/usr/local/bin/{name}");
    let upload = MACHINE.sandbox.upload(folder.join(name), &guest);
    MACHINE.runtime.block_on(upload).unwrap_or_else(|error| panic!("{error}"));
    guest
}

#[test]
fn what_fails_of_the_posix_suite_is_known_and_has_a_reason() {
    let place = Place::new("posix");
    let program = upload("pjdfstest");
    fs_err::write(place.host("pjdfstest.toml"), CONFIGURATION).unwrap();
    let report = place.bash(&format!(
        "chmod 755 {program}; mkdir -m 755 in; NO_COLOR=1 {program} -c pjdfstest.toml -p in > report 2>&1 || true; cat report"
    ));
    let named = |ending: &str| -> BTreeSet<&str> {
        let lines = report.lines().filter_map(|line| line.strip_suffix(ending));
        lines.map(str::trim).filter(|name| !name.contains(' ')).collect()
    };
    let (passed, failed, skipped) = (named(" ok"), named(" FAILED"), named(" skipped"));
    eprintln!(
        "pjdfstest: {} passed, {} failed, {} skipped",
        passed.len(),
        failed.len(),
        skipped.len()
    );
    assert!(passed.len() + failed.len() + skipped.len() > 390, "{report}");
    let expected: BTreeSet<&str> = EXCEPTIONS
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect();
    let new: Vec<_> = failed.difference(&expected).collect();
    let gone: Vec<_> = expected.difference(&failed).collect();
    assert!(new.is_empty(), "these fail and are not on the list: {new:#?}\n{report}");
    assert!(gone.is_empty(), "these are on the list and do not fail: {gone:#?}");
}

#[test]
fn the_exerciser_finds_no_difference() {
    let place = Place::new("exerciser");
    let program = upload("fsx");
    for (seed, file) in [(1, "one"), (20, "two"), (300, "three")] {
        place.bash(&format!("chmod 755 {program}; {program} -N 3000 -S {seed} {file} > log 2>&1 || {{ tail -50 log; exit 1; }}"));
    }
}

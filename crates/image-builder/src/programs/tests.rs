//! Wheels that the tests make, fetched by a real pip from a folder; no index is asked.

use super::*;
use crate::StoreError;
use std::collections::BTreeMap;
use wheel_retag::{Source, WheelFile, WheelSpec, WheelTag};

/// Writes the wheel `a-tool` of a version, with the programs `tool` and `other`, and gives what a
/// recipe says of it.
pub(crate) fn made(folder: &Path, version: &str) -> Wheel {
    made_for("manylinux_2_17_x86_64", folder, version)
}

fn made_for(platform: &str, folder: &Path, version: &str) -> Wheel {
    let script = |name: &str| {
        let path = format!("a_tool-{version}.data/scripts/{name}");
        let text = format!("#!/bin/sh\necho {name} {version}\n");
        WheelFile::deflated(path, Source::Bytes(text.into())).executable()
    };
    let spec = WheelSpec {
        name: "a-tool".to_owned(),
        version: version.to_owned(),
        tag: WheelTag::new("py3", "none", [platform]),
        files: vec![script("tool"), script("other")],
        licenses: vec![("LICENSE".to_owned(), b"its terms".to_vec())],
        ..WheelSpec::default()
    };
    let file = wheel_retag::write(&spec, folder).unwrap();
    let digest = crate::sha256(&fs::read(file).unwrap());
    Wheel {
        name: "a-tool".to_owned(),
        version: version.to_owned(),
        licence: "MIT".to_owned(),
        programs: vec!["tool".to_owned()],
        sha256: BTreeMap::from([("amd64".to_owned(), digest)]),
    }
}

/// A Python whose pip knows the wheels of one folder and nothing else; none where this host has no
/// pip.
#[cfg(unix)]
pub(crate) fn python(folder: &Path) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let has_pip = cmd!("python3", "-m", "pip", "--version").stdout_null().stderr_null().run();
    if has_pip.is_err() {
        eprintln!("skipped in part: python3 has no pip");
        return None;
    }
    let program = folder.join("python");
    let text = format!(
        "#!/bin/sh\nexport PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_FIND_LINKS='{}'\n\
         unset PIP_INDEX_URL PIP_EXTRA_INDEX_URL\nexec python3 \"$@\"\n",
        folder.display()
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    Some(program)
}

#[test]
fn programs_and_licences_are_taken_and_what_is_missing_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let mut wheel = made(folder.path(), "1");
    let file = folder.path().join("a_tool-1-py3-none-manylinux_2_17_x86_64.whl");
    let out = tempfile::tempdir().unwrap();
    unpack(&wheel, &file, out.path()).unwrap();
    let read = |name: &str| fs::read_to_string(out.path().join(name)).unwrap();
    assert_eq!(read("tool"), "#!/bin/sh\necho tool 1\n");
    assert_eq!(read(COPYRIGHT), "its terms\n");
    assert!(!out.path().join("other").exists());
    wheel.programs = vec!["toll".to_owned()];
    let error = unpack(&wheel, &file, out.path()).unwrap_err();
    assert!(error.to_string().contains("no program `toll`"), "{error}");
    assert_eq!(error.hint().unwrap(), "did you mean `tool`? It has: other, tool");
    assert!(matches!(
        digest(&wheel, Arch::Arm64),
        Err(Error::Store(StoreError::NoWheelDigest { .. }))
    ));
}

#[cfg(unix)]
#[test]
fn a_wheel_is_fetched_checked_and_kept_by_its_digest() {
    let folder = tempfile::tempdir().unwrap();
    let mut wheel = made(folder.path(), "1");
    made(folder.path(), "2");
    let Some(python) = python(folder.path()) else { return };
    let store = tempfile::tempdir().unwrap();
    let arrive = |wheel: &Wheel| {
        let arriving = tempfile::tempdir_in(store.path()).unwrap();
        let distribution = DistributionName::Debian;
        let into = arriving.path();
        let outcome = fetch(python.as_os_str(), wheel, distribution, Arch::Amd64, into)
            .stdout_null()
            .stderr_null()
            .run();
        outcome.map(|_| take_in(wheel, Arch::Amd64, arriving.path(), store.path()))
    };
    arrive(&wheel).unwrap().unwrap();
    let pinned = digest(&wheel, Arch::Amd64).unwrap().to_owned();
    let kept = checked_path(store.path(), &pinned).unwrap();
    let out = tempfile::tempdir().unwrap();
    unpack(&wheel, &kept, out.path()).unwrap();

    // Another file than the recipe's, one that changed since, and one that no index has.
    fs::write(&kept, "else").unwrap();
    assert!(matches!(
        checked_path(store.path(), &pinned),
        Err(Error::Store(StoreError::WrongHash { .. }))
    ));
    wheel.version = "2".to_owned();
    let error = arrive(&wheel).unwrap().unwrap_err();
    assert!(error.to_string().contains(&pinned), "{error}");
    assert!(error.hint().unwrap().contains("distrust"));
    wheel.version = "3".to_owned();
    arrive(&wheel).unwrap_err();
}

#[cfg(unix)]
#[test]
fn a_wheel_is_fetched_for_the_c_library_of_the_distribution() {
    let folder = tempfile::tempdir().unwrap();
    let Some(python) = python(folder.path()) else { return };
    for (platform, version) in [
        ("manylinux1_x86_64", "1"),
        ("manylinux_2_28_x86_64", "2"),
        ("musllinux_1_2_x86_64", "3"),
        ("any", "4"),
        ("macosx_11_0_x86_64", "5"),
    ] {
        made_for(platform, folder.path(), version);
    }
    let digests = BTreeMap::new();
    let (licence, name) = ("MIT".to_owned(), "a-tool".to_owned());
    let mut wheel =
        Wheel { name, version: String::new(), licence, programs: vec![], sha256: digests };
    let mut fits = |distribution, versions: &str| {
        for version in ["1", "2", "3", "4", "5"] {
            wheel.version = version.to_owned();
            let into = tempfile::tempdir().unwrap();
            let command = fetch(python.as_os_str(), &wheel, distribution, Arch::Amd64, into.path());
            let is_there = command.stdout_null().stderr_null().run().is_ok();
            assert_eq!(is_there, versions.contains(version), "{distribution:?} {version}");
        }
    };
    fits(DistributionName::Debian, "124");
    fits(DistributionName::Alpine, "34");
}

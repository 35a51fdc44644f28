//! A small wheel with one file of every kind.

use std::path::Path;
use wheel_retag::{Metadata, Source, WheelFile, WheelSpec, WheelTag};

/// A package with data, a program, a script of the data folder and an entry point.
pub fn spec() -> WheelSpec {
    let text = |text: &str| Source::Bytes(text.as_bytes().to_vec());
    let mut spec = WheelSpec {
        name: "Quicksand.Sample".into(),
        version: "1.0-RC1".into(),
        build: None,
        tag: WheelTag::new("py3", "none", ["any"]),
        metadata: Metadata {
            summary: "A sample".into(),
            license_expression: "MIT OR Apache-2.0".into(),
            requires_python: ">=3.8".into(),
            extras: vec![("more".into(), vec!["quicksand-sample-more>=1".into()])],
            description: Some("# Sample\n\nWith a body.\n".into()),
            entry_points: vec![
                ("console_scripts".into(), "sample-entry".into(), "quicksand_sample:main".into()),
                ("quicksand.images".into(), "sample".into(), "quicksand_sample:image".into()),
            ],
            ..Metadata::default()
        },
        files: vec![
            WheelFile::deflated(
                "quicksand_sample/__init__.py",
                text("def main():\n    print('from the entry point')\n\nimage = 'sample'\n"),
            ),
            WheelFile::deflated(
                "quicksand_sample/bin/program",
                text("#!/bin/sh\necho from the program\n"),
            )
            .executable(),
            WheelFile::stored(
                "quicksand_sample/data, with comma.bin",
                Source::Bytes(vec![0; 5000]),
            ),
            WheelFile::deflated("quicksand_sample/noise.bin", Source::Bytes(noise(300_000))),
        ],
        licenses: vec![
            ("LICENSE-MIT".into(), b"MIT text\n".to_vec()),
            ("qemu/COPYING".into(), b"GPL text\n".to_vec()),
        ],
        sboms: vec![("sample.cdx.json".into(), br#"{"bomFormat":"CycloneDX"}"#.to_vec())],
        root_is_purelib: true,
    };
    let script = format!("{}/scripts/sample-script", spec.data_dir().unwrap());
    spec.files
        .push(WheelFile::deflated(script, text("#!/bin/sh\necho from the script\n")).executable());
    spec
}

/// Bytes that compress a little, always the same.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 12345_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 & 0x3F
    };
    (0..length).map(|_| next()).collect()
}

/// Runs Python code with arguments and returns what it prints.
pub fn python(code: &str, arguments: &[&Path]) -> String {
    let mut command = vec!["-c".into(), code.into()];
    command.extend(arguments.iter().map(|path| path.as_os_str().to_owned()));
    duct::cmd("python3", command).read().unwrap()
}

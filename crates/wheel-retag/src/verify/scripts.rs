//! Scripts of `NAME.data/scripts/`: whether they can be started where they are installed.

use super::{Check, Findings, record_rows::Hashed};
use crate::{WheelFileName, archive::Archive};

pub(super) fn check(
    archive: &Archive,
    hashed: &[Option<Hashed>],
    name: Option<&WheelFileName>,
    findings: &mut Findings,
) {
    let only_windows = name.is_some_and(WheelFileName::is_for_windows_alone);
    for (entry, hashed) in archive.entries.iter().zip(hashed) {
        let mut parts = entry.name.splitn(3, '/');
        let (Some(top), Some("scripts"), Some(script)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if !top.ends_with(".data") || entry.is_dir() {
            continue;
        }
        let mut add = |message: String| findings.add_for(&entry.name, Check::Script, message);
        if script.contains('/') {
            add("uv refuses it: scripts lie in one folder, without others in it".to_owned());
        }
        if !only_windows && !entry.is_executable() {
            add(format!("pip installs it without executable bits ({:o})", entry.mode()));
        }
        let head = hashed.as_ref().map_or(&[][..], |hashed| &hashed.head);
        let first_line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
        if head.starts_with(b"#!") && first_line.ends_with(b"\r") {
            add("Its first line ends with a carriage return, which becomes part of the interpreter's \
                 name"
                .to_owned());
        }
    }
}

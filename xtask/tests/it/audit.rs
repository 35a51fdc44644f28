//! `cargo xtask audit` on wheels of others, on binaries of this host, and on lies.

use crate::fixtures::spec;
use duct::cmd;
use release_plan::binaries::{EM_AARCH64, EM_X86_64, PE_AMD64, elf, pe};
use serde_json::Value;
use std::path::{Path, PathBuf};
use wheel_retag::{Source, WheelFile, write};

/// Runs audit with `--json`; gives the exit code and the reports.
fn audit(files: &[&Path]) -> (i32, Value) {
    let mut args = vec!["audit".into(), "--json".into()];
    args.extend(files.iter().map(|file| file.as_os_str().to_owned()));
    let output = cmd(env!("CARGO_BIN_EXE_xtask"), args)
        .stdout_capture()
        .stderr_capture()
        .unchecked()
        .run()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let value = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code().unwrap(), value)
}

/// The corpus and auditwheel, when the tests were started by `cargo xtask test it`.
fn corpus() -> Option<(Vec<PathBuf>, PathBuf)> {
    let folder = std::env::var_os("QUICKSAND_AUDIT_CORPUS").map(PathBuf::from);
    let auditwheel = std::env::var_os("QUICKSAND_AUDITWHEEL").map(PathBuf::from);
    let (Some(folder), Some(auditwheel)) = (folder, auditwheel) else {
        eprintln!("skipped: no QUICKSAND_AUDIT_CORPUS; `cargo xtask test it` sets it");
        return None;
    };
    let mut wheels: Vec<PathBuf> =
        fs_err::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    wheels.sort();
    Some((wheels, auditwheel))
}

fn tag_by_auditwheel(auditwheel: &Path, wheel: &Path) -> String {
    let text = cmd!(auditwheel, "show", wheel).stderr_null().read().unwrap();
    // The sentence is broken into lines at any blank.
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, rest) =
        text.split_once("following platform tag: \"").unwrap_or_else(|| panic!("{text}"));
    rest.split('"').next().unwrap().to_owned()
}

#[test]
fn the_verdict_is_auditwheels_on_every_linux_wheel_of_the_corpus() {
    let Some((wheels, auditwheel)) = corpus() else { return };
    let mut n_linux = 0;
    for wheel in wheels.iter().filter(|wheel| wheel.to_string_lossy().contains("linux")) {
        let (code, reports) = audit(&[wheel]);
        let report = &reports["reports"][0];
        let theirs = tag_by_auditwheel(&auditwheel, wheel);
        assert_eq!(report["tags"], serde_json::json!([theirs]), "{}", wheel.display());
        assert_eq!((code, &report["is_true"]), (0, &Value::Bool(true)), "{report:#}");
        n_linux += 1;
    }
    assert!(n_linux >= 12, "the corpus has {n_linux} Linux wheels");
}

#[test]
fn wheels_of_the_other_systems_are_true_to_their_names() {
    let Some((wheels, _)) = corpus() else { return };
    let others: Vec<&Path> = wheels
        .iter()
        .filter(|wheel| !wheel.to_string_lossy().contains("linux"))
        .map(PathBuf::as_path)
        .collect();
    assert!(others.len() >= 15, "the corpus has {} wheels of other systems", others.len());
    let (code, reports) = audit(&others);
    assert_eq!(code, 0, "{reports:#}");
    for report in reports["reports"].as_array().unwrap() {
        let name = report["subject"].as_str().unwrap();
        let tag = report["tags"][0].as_str().unwrap();
        assert!(name.contains(tag), "{name} {tag}");
    }
}

#[test]
fn a_wheel_that_claims_too_low_a_tag_is_refused_with_file_and_symbol() {
    let Some((wheels, _)) = corpus() else { return };
    let folder = tempfile::tempdir().unwrap();
    let numpy = wheels.iter().find(|wheel| wheel.to_string_lossy().contains("numpy-")).unwrap();
    let name = numpy.file_name().unwrap().to_str().unwrap();
    let (start, _) = name.split_once("manylinux").unwrap();
    let liar = folder.path().join(format!("{start}manylinux_2_17_x86_64.whl"));
    fs_err::copy(numpy, &liar).unwrap();
    let (code, reports) = audit(&[&liar]);
    assert_eq!(code, 1);
    let lie = &reports["reports"][0]["lies"][0];
    assert_eq!(lie["claim"], "manylinux_2_17_x86_64");
    assert_eq!(lie["truth"], "manylinux_2_27_x86_64");
    let reason = lie["reason"].as_str().unwrap();
    assert!(reason.contains("GLIBC_2.27") && reason.contains(".so"), "{reason}");
}

#[test]
fn a_binary_and_a_tree_of_this_host_have_a_tag_too() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("a.c");
    fs_err::write(&source, "#include <stdio.h>\nint main(void) { return puts(\"a\") < 0; }\n")
        .unwrap();
    let tree = folder.path().join("tree");
    fs_err::create_dir_all(&tree).unwrap();
    cmd!("gcc", "-o", tree.join("dynamic"), &source).run().unwrap();
    cmd!("gcc", "-static", "-o", folder.path().join("static"), &source).run().unwrap();
    let (code, reports) = audit(&[&tree, &folder.path().join("static")]);
    assert_eq!(code, 0, "{reports:#}");
    let arch = std::env::consts::ARCH;
    let first = if arch == "x86_64" { "2_5" } else { "2_17" };
    assert_eq!(reports["reports"][1]["tags"][0], format!("manylinux_{first}_{arch}"));
    // The start file of this host's glibc binds a symbol; the report must name it.
    let limit = &reports["reports"][0]["verdicts"][0]["limits"][0];
    assert_eq!(limit["file"], "dynamic");
    assert!(limit["version"].as_str().unwrap().starts_with("GLIBC_"), "{limit:#}");
}

#[test]
fn what_is_neither_wheel_nor_binary_is_refused() {
    let output = cmd!(env!("CARGO_BIN_EXE_xtask"), "audit", "Cargo.toml")
        .stdout_capture()
        .stderr_capture()
        .unchecked()
        .run()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains("neither a wheel nor an executable"), "{text}");
    assert!(text.contains("hint:"), "{text}");
}

/// A wheel of these files; `tag` is the last three parts of its name.
fn wheel(folder: &Path, tag: &str, files: &[(&str, Vec<u8>)]) -> PathBuf {
    let file = |(path, bytes): &(&str, Vec<u8>)| {
        WheelFile::deflated((*path).to_owned(), Source::Bytes(bytes.clone())).executable()
    };
    let parts: Vec<&str> = tag.split('-').collect();
    let spec = spec("w", parts[0], parts[1], parts[2], files.iter().map(file).collect());
    write(&spec, folder).unwrap()
}

#[test]
fn damaged_fixtures_are_warnings_and_the_rest_is_judged() {
    let folder = tempfile::tempdir().unwrap();
    let damaged = || {
        let mut pe = b"MZ".to_vec();
        pe.resize(60, 0);
        pe.extend([0x80, 0, 0, 0]);
        pe.resize(128, 0);
        pe.extend(b"PE\0\0");
        vec![
            ("w/tests/t.elf", b"\x7fELF\x02\x01\x01".to_vec()),
            ("w/tests/t.exe", pe),
            ("w/tests/empty.so", Vec::new()),
            ("w/tests/ld.so", b"INPUT(libc.so.6)\n".to_vec()),
            ("w/tests/m.o", b"\xcf\xfa\xed\xfe".to_vec()),
        ]
    };
    let pure = wheel(folder.path(), "py3-none-any", &damaged());
    let (code, reports) = audit(&[&pure]);
    let report = &reports["reports"][0];
    assert_eq!((code, &report["is_true"]), (0, &Value::Bool(true)), "{report:#}");
    let warnings = report["warnings"].as_array().unwrap();
    for name in ["w/tests/t.elf", "w/tests/t.exe", "w/tests/m.o"] {
        let is_named = |w: &&Value| w.as_str().unwrap().contains(name);
        assert_eq!(warnings.iter().filter(is_named).count(), 1, "{name} {warnings:?}");
    }
    assert_eq!(warnings.len(), 3, "{warnings:?}");

    // Beside them a file that is judged, and damage where a module should be.
    let mut files = damaged();
    files.push(("w/tool", elf(EM_AARCH64)));
    let false_claim = wheel(folder.path(), "py3-none-manylinux_2_17_x86_64", &files);
    let (code, reports) = audit(&[&false_claim]);
    assert_eq!(code, 1);
    assert_eq!(reports["reports"][0]["warnings"].as_array().unwrap().len(), 3);
    let module = ("w/_m.cpython-311-x86_64-linux-gnu.so", b"\x7fELF\x02\x01\x01".to_vec());
    let broken = wheel(folder.path(), "cp311-cp311-manylinux_2_17_x86_64", &[module]);
    let (code, reports) = audit(&[&broken]);
    let reason = reports["reports"][0]["lies"][0]["reason"].as_str().unwrap();
    assert!(code == 1 && reason.contains("w/_m.cpython-311"), "{reason}");
}

#[test]
fn the_wheels_of_a_folder_are_judged_as_wheels() {
    let folder = tempfile::tempdir().unwrap();
    let program = |machine| [("w/tool", elf(machine))];
    wheel(folder.path(), "py3-none-manylinux_2_17_x86_64", &program(EM_X86_64));
    let (code, reports) = audit(&[folder.path()]);
    assert_eq!((code, reports["reports"].as_array().unwrap().len()), (0, 1), "{reports:#}");
    wheel(folder.path(), "py3-none-manylinux_2_17_aarch64", &program(EM_X86_64));
    let (code, reports) = audit(&[folder.path()]);
    assert_eq!((code, reports["reports"].as_array().unwrap().len()), (1, 2), "{reports:#}");
}

#[test]
fn programs_among_firmware_are_judged_and_firmware_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let firmware = ("q/bin/share/qemu/opensbi.elf", elf(243));
    let start = |name| ("q/bin/share/qemu/tool.exe", pe(PE_AMD64, false, &[name]));
    let check = |name: &'static str, expect: i32| {
        let files = [firmware.clone(), start(name), ("q/a.exe", pe(PE_AMD64, false, &[]))];
        let (code, reports) = audit(&[&wheel(folder.path(), "py3-none-win_amd64", &files)]);
        assert_eq!(code, expect, "{reports:#}");
        assert_eq!(reports["reports"][0]["tags"], serde_json::json!(["win_amd64"]));
    };
    check("KERNEL32.dll", 0);
    check("libabsent.dll", 1);
}

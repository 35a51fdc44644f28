//! What QEMU's configure is called with for a target, and which devices its emulators get. Pure: places of
//! this machine come from outside.

use super::{
    libraries::PREFIX,
    target::Target,
    toolchain::{CLibrary, MINGW_HARDENED, NO_OTHER_HEADERS, Toolchain, WINDOWS_10},
};
use host_platform::{Arch, Os};

/// The emulators, by QEMU's name of the guest's architecture.
pub const TARGETS: &[&str] = &["x86_64", "aarch64"];

/// The hosts that have a feature.
#[derive(Clone, Copy)]
enum Hosts {
    All,
    Linux,
    Macos,
    Unix,
    WindowsX64,
    /// Where the compiler brings what the feature takes.
    AllButZig,
}

impl Hosts {
    fn have(self, target: Target, toolchain: &Toolchain) -> bool {
        match self {
            Self::All => true,
            Self::Linux => target.os() == Os::Linux,
            Self::Macos => target.os() == Os::Macos,
            Self::Unix => target.os() != Os::Windows,
            Self::WindowsX64 => (target.os(), target.arch()) == (Os::Windows, Arch::Amd64),
            Self::AllButZig => toolchain.c_library() != Some(CLibrary::OfCompiler),
        }
    }
}

/// What is left when every default is off. Each line is something that a sandbox uses:
/// <https://www.qemu.org/docs/master/system/introduction.html>.
const FEATURES: &[(&str, Hosts)] = &[
    ("--without-default-features", Hosts::All),
    ("--without-default-devices", Hosts::All),
    ("--enable-system", Hosts::All),
    ("--enable-tools", Hosts::All),
    // Accelerators. QEMU 10.2 has none for Windows on Arm.
    ("--enable-tcg", Hosts::All),
    ("--enable-kvm", Hosts::Linux),
    ("--enable-hvf", Hosts::Macos),
    ("--enable-whpx", Hosts::WindowsX64),
    // Network, shared folders (whose extended attributes are the C library's), vhost.
    ("--enable-slirp", Hosts::All),
    ("--enable-virtfs", Hosts::Unix),
    ("--enable-attr", Hosts::Linux),
    ("--enable-vhost-kernel", Hosts::Linux),
    ("--enable-vhost-net", Hosts::Linux),
    ("--enable-vhost-user", Hosts::Linux),
    // Desktop; nettle is what checks VNC's passwords.
    ("--enable-vnc", Hosts::All),
    ("--enable-pixman", Hosts::All),
    ("--enable-nettle", Hosts::All),
    // Disks.
    ("--enable-zstd", Hosts::All),
    ("--enable-linux-io-uring", Hosts::Linux),
    // Confinement and hardening: the guest is hostile.
    ("--enable-seccomp", Hosts::Linux),
    ("--enable-stack-protector", Hosts::AllButZig),
    // The virt machine's device tree.
    ("--enable-fdt=system", Hosts::All),
    ("--enable-malloc-trim", Hosts::Linux),
    // Nobody reads trace events of a released QEMU, and each is code.
    ("--enable-trace-backends=nop", Hosts::All),
    ("--disable-docs", Hosts::All),
    ("--disable-user", Hosts::All),
    ("--disable-guest-agent", Hosts::All),
    ("--disable-debug-info", Hosts::All),
    ("--disable-qom-cast-debug", Hosts::All),
    ("--disable-werror", Hosts::All),
    ("--disable-install-blobs", Hosts::All),
    ("--disable-download", Hosts::All),
];

/// Devices that QEMU has on some hosts alone: its Kconfig refuses them elsewhere.
const DEVICES: &[(&str, Hosts)] = &[
    ("CONFIG_VIRTIO_9P", Hosts::Unix),
    ("CONFIG_VHOST_USER_FS", Hosts::Linux),
    ("CONFIG_VHOST_VSOCK", Hosts::Linux),
    ("CONFIG_VIRTIO_MEM", Hosts::Linux),
    ("CONFIG_IVSHMEM_DEVICE", Hosts::Linux),
];

/// The list of devices for a target, from the one for all.
pub fn devices(list: &str, target: Target, toolchain: &Toolchain) -> String {
    let is_there = |line: &&str| {
        let name = line.split('=').next().unwrap_or_default();
        let hosts = DEVICES.iter().find(|(device, _)| *device == name);
        hosts.is_none_or(|(_, hosts)| hosts.have(target, toolchain))
    };
    list.lines().filter(is_there).map(|line| format!("{line}\n")).collect()
}

/// Places of the machine that compiles.
pub struct Places<'a> {
    /// Python with the tools of the build.
    pub python: &'a str,
    /// Flags that keep the places of this machine out of the programs.
    pub prefix_map: &'a str,
    /// Where the linker writes its maps.
    pub maps: &'a str,
    /// Headers and archives of the libraries.
    pub libraries: &'a str,
    /// The root of the target's file system, where it has one.
    pub sysroot: &'a str,
    /// The folders with MinGW's headers.
    pub headers: &'a [String],
    /// What zig links with.
    pub zig_flags: &'a str,
}

impl Places<'static> {
    /// Words in their stead: the same on every machine.
    pub const NAMED: Self = Self {
        python: "PYTHON",
        prefix_map: "PREFIX_MAP",
        maps: "MAPS",
        libraries: "LIBRARIES",
        sysroot: "SYSROOT",
        headers: &[],
        zig_flags: "ZIG_FLAGS",
    };
}

/// The arguments of QEMU's configure.
pub fn arguments(target: Target, toolchain: &Toolchain, places: &Places<'_>) -> Vec<String> {
    let Places { python, prefix_map, .. } = places;
    let targets: Vec<String> = TARGETS.iter().map(|target| format!("{target}-softmmu")).collect();
    let mut args = vec![format!("--python={python}")];
    // Apple's C library is a shared one.
    if target.os() != Os::Macos {
        args.push("--static".to_owned());
    }
    args.extend([
        format!("--prefix={PREFIX}"),
        format!("--bindir={PREFIX}/bin"),
        format!("--datadir={PREFIX}/bin/share"),
        format!("--target-list={}", targets.join(",")),
        // Unused sections are dropped: with few devices a third of the code goes. Some compilers set
        // the level of _FORTIFY_SOURCE themselves. Of the precompiled headers most do not fit a file.
        format!(
            "--extra-cflags=-ffunction-sections -fdata-sections -U_FORTIFY_SOURCE \
             -D_FORTIFY_SOURCE=2 -Wno-invalid-pch {}{prefix_map}",
            cflags(target, toolchain, places)
        ),
        format!("--extra-ldflags={}", ldflags(target, toolchain, places)),
    ]);
    if let Some(cross) = &toolchain.cross {
        args.push(format!("--cross-prefix={}", cross.prefix));
        args.push(format!("--cc={}", compiler(toolchain, places)));
    }
    args.extend(TARGETS.iter().map(|target| format!("--with-devices-{target}=sandbox")));
    let features = FEATURES.iter().filter(|(_, hosts)| hosts.have(target, toolchain));
    args.extend(features.map(|(feature, _)| (*feature).to_owned()));
    args
}

/// The compiler with what tells it where archives are: a cross compiler does not read LIBRARY_PATH, and
/// meson looks for static ones in the compiler's own folders alone, to which -B adds. Windows' headers are for
/// this compiler alone: QEMU's build tries this host's too, which would find them by C_INCLUDE_PATH.
fn compiler(toolchain: &Toolchain, places: &Places<'_>) -> String {
    let Toolchain { cc, .. } = toolchain;
    let libraries = places.libraries;
    match toolchain.c_library() {
        // Without its own -B the compiler takes the C library of the package for cross compilers.
        Some(CLibrary::Sysroot) => {
            let (sysroot, triple) = (places.sysroot, cc.trim_end_matches("-gcc"));
            format!("{cc} --sysroot={sysroot} -B{sysroot}/usr/lib/{triple} -B{libraries}/lib")
        }
        Some(CLibrary::Mingw) => {
            let headers: Vec<String> =
                places.headers.iter().map(|folder| format!(" -isystem {folder}")).collect();
            format!("{cc} -B{libraries}/lib{}", headers.concat())
        }
        Some(CLibrary::OfCompiler) | None => cc.clone(),
    }
}

/// Flags of the compiler for a target, each with a space behind it.
fn cflags(target: Target, toolchain: &Toolchain, places: &Places<'_>) -> String {
    match (target.os(), toolchain.c_library()) {
        (Os::Linux, _) => format!("{NO_OTHER_HEADERS} "),
        // zig says which Windows it compiles for.
        (_, Some(CLibrary::OfCompiler)) => format!("-I{}/include ", places.libraries),
        (Os::Windows, _) => {
            format!("{NO_OTHER_HEADERS} {WINDOWS_10} ")
        }
        (Os::Macos, _) => {
            format!("-mmacosx-version-min=11.0 -I{}/include ", places.libraries)
        }
    }
}

fn ldflags(target: Target, toolchain: &Toolchain, places: &Places<'_>) -> String {
    let Places { maps, libraries, .. } = places;
    match (target.os(), toolchain.c_library()) {
        // Only the static half of the C library is there, so that what configure tries is static as well.
        (Os::Linux, Some(CLibrary::Sysroot)) => {
            format!("-static-pie -Wl,--gc-sections -Wl,--build-id=none -Wl,-Map={maps}")
        }
        (Os::Linux, _) => format!("-Wl,--gc-sections -Wl,--build-id=none -Wl,-Map={maps}"),
        (_, Some(CLibrary::OfCompiler)) => {
            format!("-Wl,--gc-sections -L{libraries}/lib {}", places.zig_flags)
        }
        // The time at which it was linked would be in the program.
        (Os::Windows, _) => {
            format!(
                "{MINGW_HARDENED} -Wl,--gc-sections -Wl,--no-insert-timestamp -Wl,-Map={maps} \
                 -L{libraries}/lib"
            )
        }
        (Os::Macos, _) => {
            format!("-Wl,-dead_strip -mmacosx-version-min=11.0 -L{libraries}/lib")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::qemu_folder;
    use fs_err as fs;
    use wheel_retag::Runner;

    fn plan(target: Target) -> Vec<String> {
        arguments(target, &Toolchain::for_target(target), &Places::NAMED)
    }

    #[test]
    fn the_arguments_for_each_target() {
        for target in Target::ALL {
            insta::assert_snapshot!(target.to_string(), plan(target).join("\n"));
        }
    }

    #[test]
    fn every_target_has_a_list_of_devices() {
        for target in Target::ALL {
            let toolchain = Toolchain::for_target(target);
            let args = plan(target);
            for guest in TARGETS {
                let list = qemu_folder().join("devices").join(format!("{guest}-softmmu.mak"));
                let all = fs::read_to_string(&list).unwrap();
                let text = devices(&all, target, &toolchain);
                for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
                    assert!(line.starts_with("CONFIG_") && line.ends_with("=y"), "{line}");
                }
                assert!(args.contains(&format!("--with-devices-{guest}=sandbox")));
                // What is left out by its name is in the list, and Linux has all of it.
                for (device, _) in DEVICES {
                    assert!(all.contains(&format!("{device}=y\n")), "{device}");
                }
                assert_eq!(text == all, target.os() == Os::Linux, "{target}");
            }
        }
        let windows = Target::new(Runner::WindowsX64);
        let text = "# VIRTIO\nCONFIG_VIRTIO_9P=y\nCONFIG_VIRTIO_BLK=y\n";
        let text = devices(text, windows, &Toolchain::for_target(windows));
        assert_eq!(text, "# VIRTIO\nCONFIG_VIRTIO_BLK=y\n");
    }

    #[test]
    fn data_lies_below_the_executables() {
        // The wheel's layout: `bin/share/qemu` beside `bin/qemu-system-*`.
        for target in Target::ALL {
            let args = plan(target);
            let value =
                |name: &str| args.iter().find_map(|arg| arg.strip_prefix(name)).unwrap().to_owned();
            assert_eq!(value("--datadir="), value("--bindir=") + "/share");
        }
    }
}

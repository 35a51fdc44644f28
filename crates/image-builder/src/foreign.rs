//! What runs an image's programs while it is made on a host of another architecture.
//!
//! Since Linux 6.7 each user namespace can have a registry of interpreters (`binfmt_misc`) of its own,
//! so an emulator is registered for the namespace of one bake and nothing changes on the host.
//! <https://docs.kernel.org/admin-guide/binfmt-misc.html>
//!
//! This module must not know where an emulator comes from, nor what is run under it.

use crate::{Error, RootError};
use duct::cmd;
use fs_err as fs;
use host_platform::Arch;
use std::path::{Path, PathBuf};

/// Where the host's registry is, and that of a namespace is put.
const REGISTRY: &str = "/proc/sys/fs/binfmt_misc";

/// What runs the image's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Runner {
    /// The processor.
    Host,
    /// An emulator that the host has registered for all.
    Registered,
    /// This emulator, a static program, registered for the bake alone.
    Emulator(PathBuf),
}

impl Runner {
    /// What this host has ready for an architecture; `None` where it takes an emulator.
    pub fn for_arch(arch: Arch) -> Option<Self> {
        if arch == host_platform::native_arch() {
            return Some(Self::Host);
        }
        let entry = format!("{REGISTRY}/{}", entry_name(arch));
        let entry = fs::read_to_string(entry).unwrap_or_default();
        is_usable(&entry).then_some(Self::Registered)
    }

    /// The same, and an error where it takes an emulator.
    pub fn ready(arch: Arch) -> Result<Self, Error> {
        Self::for_arch(arch).ok_or(Error::Root(RootError::NoRunner { arch: arch.image_name() }))
    }

    /// In words; empty for the usual.
    pub fn describe(&self) -> &'static str {
        match self {
            Self::Host => "",
            Self::Registered => ", its programs by the emulator that the host has registered",
            Self::Emulator(_) => ", its programs by an emulator registered for this alone",
        }
    }

    /// The shell command that registers the emulator in the namespace it is run in.
    pub(crate) fn hook(&self, arch: Arch) -> Option<String> {
        let Self::Emulator(emulator) = self else { return None };
        let quoted = spelling::quoted(&registration(arch, emulator));
        Some(format!(
            "mount -t binfmt_misc binfmt_misc {REGISTRY} && \
             printf %s {quoted} >{REGISTRY}/register"
        ))
    }
}

/// Whether the kernel lets a user namespace have a registry of its own.
pub fn can_register() -> bool {
    let mount = ["mount", "-t", "binfmt_misc", "binfmt_misc", REGISTRY];
    cmd("unshare", ["--user", "--map-root-user", "--mount"].into_iter().chain(mount))
        .stdout_null()
        .stderr_null()
        .run()
        .is_ok()
}

/// Runs the command line that follows it in a user namespace with the ids of the host, for callers
/// that are root: the namespace's registry is then not the host's. The maps have to be written from
/// outside, because only there root may give all ids away.
pub(crate) fn in_namespace() -> Vec<String> {
    ["sh", "-c", WITH_ALL_IDS, "sh"].map(str::to_owned).into()
}

/// The process inside says its number and waits for its ids. Where it could not be started an empty
/// line comes in its place, and where it cannot be given ids it is ended.
const WITH_ALL_IDS: &str = r#"
set -eu
at=$(mktemp -d)
mkfifo "$at/up" "$at/go"
{
  code=0
  unshare --user --mount sh -c 'echo $$ >"$1/up"; read -r _ <"$1/go"; shift; exec "$@"' sh "$at" "$@" || code=$?
  [ ! -p "$at/up" ] || echo >"$at/up"
  exit $code
} &
outer=$!
read -r inside <"$at/up"
rm "$at/up"
if [ -n "$inside" ]; then
  if echo 0 0 65536 >"/proc/$inside/uid_map" && echo 0 0 65536 >"/proc/$inside/gid_map"; then
    echo >"$at/go"
  else
    kill "$inside"
  fi
fi
rm -r "$at"
wait $outer
"#;

/// What an architecture's entry is called by every distribution.
fn entry_name(arch: Arch) -> String {
    format!("qemu-{}", arch.qemu_name())
}

/// Whether an entry of the registry works in a changed root: the emulator is opened once (flag F).
fn is_usable(entry: &str) -> bool {
    let mut lines = entry.lines();
    lines.next() == Some("enabled")
        && lines.any(|line| line.strip_prefix("flags: ").is_some_and(|f| f.contains('F')))
}

/// The line that registers an emulator: ELF files of the architecture, executable (2) or shared (3),
/// of any operating system's ABI. Flags: O opens the program for the emulator, C takes its owner and
/// set-user-id bit, F opens the emulator now, so that it need not be in the changed root.
fn registration(arch: Arch, emulator: &Path) -> String {
    let machine = match arch {
        Arch::Amd64 => r"\x3e\x00",
        Arch::Arm64 => r"\xb7\x00",
    };
    let magic = format!(r"\x7fELF\x02\x01\x01\x00{}\x02\x00{machine}", r"\x00".repeat(8));
    let mask = format!(r"{}\x00{}\xfe\xff\xff\xff", r"\xff".repeat(7), r"\xff".repeat(8));
    format!(":{}:M::{magic}:{mask}:{}:OCF", entry_name(arch), emulator.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of a field of escapes.
    fn bytes(field: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut rest = field;
        while !rest.is_empty() {
            match rest.strip_prefix(r"\x") {
                Some(escape) => {
                    bytes.push(u8::from_str_radix(&escape[..2], 16).unwrap());
                    rest = &escape[2..];
                }
                None => {
                    bytes.push(rest.as_bytes()[0]);
                    rest = &rest[1..];
                }
            }
        }
        bytes
    }

    /// The kernel's own comparison.
    fn matches(line: &str, header: &[u8]) -> bool {
        let fields: Vec<&str> = line.split(':').collect();
        let (magic, mask) = (bytes(fields[4]), bytes(fields[5]));
        assert_eq!((magic.len(), mask.len()), (20, 20));
        header.iter().zip(magic).zip(mask).all(|((byte, magic), mask)| byte & mask == magic & mask)
    }

    fn header(kind: u8, machine: u8) -> Vec<u8> {
        let mut header = b"\x7fELF\x02\x01\x01".to_vec();
        header.resize(20, 0);
        (header[16], header[18]) = (kind, machine);
        header
    }

    #[test]
    fn programs_of_the_architecture_and_no_others_are_taken() {
        let line = registration(Arch::Arm64, Path::new("/c/qemu-aarch64-static"));
        assert!(line.starts_with(":qemu-aarch64:M::"), "{line}");
        assert!(line.ends_with(":/c/qemu-aarch64-static:OCF"), "{line}");
        for (kind, machine, expected) in
            [(2, 0xb7, true), (3, 0xb7, true), (2, 0x3e, false), (1, 0xb7, false)]
        {
            assert_eq!(matches(&line, &header(kind, machine)), expected, "{kind} {machine}");
        }
        let mut of_another_abi = header(2, 0xb7);
        of_another_abi[7] = 3;
        assert!(matches(&line, &of_another_abi));
        assert!(matches(&registration(Arch::Amd64, Path::new("/q")), &header(3, 0x3e)));
    }

    #[test]
    fn an_entry_that_opens_its_emulator_late_is_of_no_use() {
        let entry = |state, flags| format!("{state}\ninterpreter /q\nflags: {flags}\noffset 0\n");
        assert!(is_usable(&entry("enabled", "OCF")));
        assert!(!is_usable(&entry("enabled", "OC")));
        assert!(!is_usable(&entry("disabled", "OCF")));
        assert!(!is_usable(""));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_namespace_that_cannot_be_made_is_an_error_and_no_wait() {
        let folder = tempfile::tempdir().unwrap();
        cmd!("ln", "-s", "/bin/false", folder.path().join("unshare")).run().unwrap();
        let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
        let line = in_namespace();
        let refused = cmd(&line[0], line[1..].iter().map(String::as_str).chain(["true"]));
        let done = refused.env("PATH", path).unchecked().run().unwrap();
        assert_eq!(done.status.code(), Some(1));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_program_in_a_namespace_of_roots_has_all_ids() {
        if cmd!("id", "-u").read().is_ok_and(|id| id.trim() != "0") || !can_register() {
            eprintln!("skipped: only root gives all ids away");
            return;
        }
        let line = in_namespace();
        for (script, code) in [("grep -q 65536 /proc/self/uid_map", 0), ("exit 7", 7)] {
            let inside =
                cmd(&line[0], line[1..].iter().map(String::as_str).chain(["sh", "-c", script]));
            assert_eq!(inside.unchecked().run().unwrap().status.code(), Some(code), "{script}");
        }
    }

    #[test]
    fn the_processor_needs_no_emulator() {
        let native = host_platform::native_arch();
        assert_eq!(Runner::for_arch(native), Some(Runner::Host));
        assert_eq!(Runner::Host.hook(native), None);
        let hook = Runner::Emulator("/it's here".into()).hook(native.other()).unwrap();
        assert!(hook.contains(r"/it'\''s here:OCF' >"), "{hook}");
    }
}

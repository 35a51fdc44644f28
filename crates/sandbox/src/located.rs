//! What a configuration finds on this host: emulator, image, accelerator.
//!
//! Asks `runtime_locator` and turns its answers into the part of the plan that does not change
//! from start to start. Blocking; knows nothing of processes.

use crate::config::{AccelChoice, Resources, SandboxConfig, Transport, VncAccess, Warm};
use crate::error::{Error, Result};
use crate::fork::PerProcess;
use crate::hardware::MachineType;
use crate::mount::{MountType, plan9_tag};
use crate::network::{Direction, Forward, NetworkMode};
use crate::plan::{
    ControlPlan, DiskPlan, DisplayPlan, FdSet, MachinePlan, Plan9Share, QmpPlan, TemplatePlan,
};
use crate::size::Size;
use agent_protocol::{FW_CFG_TOKEN, share_frame::SHARE_PORT_NAME};
use host_platform::{Arch, Os};
use runtime_locator::{Accelerator, AcceleratorRequest, ImageFind, QemuFind, Search};
use std::fs::File;
use std::io::{Read, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::time::SystemTime;

/// How far into an initrd the agent is looked for, in bytes; in ours it is the first file.
const MAX_AGENT: u64 = 16 << 20;

/// What an agent must hold that takes a new identity: a field of that request.
const IDENTITY_FIELD: &str = "entropy_base64";
/// The device of the shares' window, as QEMU names it.
const WINDOW_DEVICE: &str = "ivshmem-doorbell";
/// The command that forks a machine, as QEMU names it.
pub(crate) const FORK_COMMAND: &str = "x-fork-clone";

/// The finds of one start.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    pub qemu: QemuFind,
    pub image: ImageFind,
    pub accelerator: Accelerator,
    /// Why it is this accelerator.
    pub reason: String,
    pub os: Os,
    /// The machine's memory, the image's default included.
    pub memory: Size,
    /// The number of its CPUs, likewise.
    pub cpus: u16,
    /// The size of its disk, likewise, where one is wanted.
    pub disk_size: Option<Size>,
    /// Whether the image's agent opens the port of the `socket` transport.
    pub has_socket_agent: bool,
    /// Whether it carries shares on a port of their own as well.
    pub has_share_agent: bool,
    /// Whether it can become another machine's, which a copy needs.
    pub has_identity_agent: bool,
    /// Whether copies of the machine may be made by a fork: it then has nothing that two processes
    /// cannot have.
    pub may_fork: bool,
}

/// The part of a plan that is made again for each start.
pub(crate) struct Ends {
    /// What QEMU reads kernel and initrd by.
    pub kernel: PathBuf,
    pub initrd: PathBuf,
    pub control: ControlPlan,
    pub qmp: QmpPlan,
    pub disk: DiskPlan,
    pub fd_sets: Vec<FdSet>,
    pub link_fd: Option<i32>,
    pub template: Option<TemplatePlan>,
    pub tsc_khz: Option<u32>,
}

/// Finds everything. `assumed` stands in for the probe and its verdict.
pub(crate) fn locate(
    config: &SandboxConfig,
    search: &Search,
    assumed: Option<Accelerator>,
) -> Result<Located> {
    check_host(config, search.host.os)?;
    // A save whose replacement was cut off comes back; whether there is one is for the next line.
    let _ = crate::save::find(search, config.image(), None);
    let image = runtime_locator::find_image(search, config.image(), config.arch())?;
    let qemu = runtime_locator::find_qemu(search, image.arch)?;
    let (accelerator, reason) = match (assumed, config.accel()) {
        (Some(assumed), _) => (assumed, "assumed by the caller".to_owned()),
        (_, choice) => choose(search, choice, image.arch)?,
    };
    runtime_locator::check_base_disks(&image)?;
    let Resources { memory, cpus, disk_size } = config.resources(&image.defaults)?;
    let agent = agent_of(&image.files.initrd).map_err(|source| Error::File {
        action: "read",
        path: image.initrd.clone(),
        source,
    })?;
    if let Some(notice) = &image.notice {
        tracing::warn!("{notice}");
    }
    let os = search.host.os;
    let may_fork = config.warm() == Warm::Fork
        && cfg!(target_os = "linux")
        && accelerator == Accelerator::Tcg
        && image.arch == Arch::Amd64
        && agent.has_identity
        && config.mounts().is_empty()
        && !config.enable_display()
        && config.extra_qemu_args().is_empty()
        && has_word(&qemu.system, FORK_COMMAND);
    Ok(Located {
        qemu,
        image,
        accelerator,
        reason,
        os,
        memory,
        cpus,
        disk_size,
        has_socket_agent: agent.has_socket,
        has_share_agent: agent.has_shares,
        has_identity_agent: agent.has_identity,
        may_fork,
    })
}

/// Refuses what needs this process to be the guest's network where it cannot be: QEMU's own network
/// leads nowhere but out, knows no list, and has no way to a share.
fn check_host(config: &SandboxConfig, os: Os) -> Result<()> {
    if os != Os::Windows {
        return Ok(());
    }
    let leads_out = |forward: &&Forward| forward.direction == Direction::GuestToHost;
    let refused = |option, value: String, allowed: &str, hint: &str| {
        let (allowed, hint) = (format!("{allowed} on Windows"), Some(hint.to_owned()));
        Err(Error::InvalidValue { option, value, allowed, hint })
    };
    if let Some(forward) = config.port_forwards().iter().find(leads_out) {
        let hint = "Let the host connect to the guest instead, with a forwarded port";
        let value = forward.to_value().to_string();
        return refused("port_forwards", value, "a port that leads into the guest", hint);
    }
    if let Some(forward) = config.port_forwards().iter().find(|forward| forward.host_port == 0) {
        let (value, hint) = (forward.to_value().to_string(), "Choose a port of the host");
        return refused("port_forwards", value, "a port of the host from 1 to 65535", hint);
    }
    if let Some(allow) = config.allow() {
        let hint = "Leave it out, or use network_mode=\"mounts_only\"";
        return refused("allow", format!("{allow:?}"), "no list", hint);
    }
    if let Some(mount) = config.mounts().first() {
        let hint = "Copy with upload() and download(), which work there too";
        return refused("mounts", mount.host.display().to_string(), "no share", hint);
    }
    Ok(())
}

/// What an initrd's agent can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Agent {
    /// It takes its token from the firmware's configuration, which is how the `socket` transport
    /// gives it.
    has_socket: bool,
    /// It carries the requests of shares on a port of their own.
    has_shares: bool,
    /// It takes a new identity.
    has_identity: bool,
}

/// Finds out what an initrd's agent can do, by the names that it must hold for that. Our initrds are
/// archives without compression, so that a name is found as it stands; in any other nothing is found,
/// and TCP is what the layout of images made elsewhere promises.
fn agent_of(mut initrd: &File) -> std::io::Result<Agent> {
    const CPIO: &[u8] = b"070701";
    let mut start = Vec::new();
    initrd.rewind()?;
    initrd.take(MAX_AGENT).read_to_end(&mut start)?;
    if !start.starts_with(CPIO) {
        return Ok(Agent::default());
    }
    let has = |name: &str| memchr::memmem::find(&start, name.as_bytes()).is_some();
    Ok(Agent {
        has_socket: has(FW_CFG_TOKEN),
        has_shares: has(SHARE_PORT_NAME),
        has_identity: has(IDENTITY_FIELD),
    })
}

/// Whether a QEMU has a device or a command, by the name that it must hold for that. What is found is
/// remembered for as long as the program is the same.
fn has_word(qemu: &Path, word: &'static str) -> bool {
    type Known = (PathBuf, Option<SystemTime>, u64, &'static str);
    static FOUND: PerProcess<Vec<(Known, bool)>> = PerProcess::new();
    let Ok(file) = fs_err::File::open(qemu) else { return false };
    let Ok(metadata) = file.metadata() else { return false };
    let known: Known = (qemu.to_owned(), metadata.modified().ok(), metadata.len(), word);
    let mut found = FOUND.get().lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, has)) = found.iter().find(|(one, _)| *one == known) {
        return *has;
    }
    let has = holds(file, word.as_bytes()).unwrap_or(false);
    found.push((known, has));
    has
}

/// Whether a file holds a word.
fn holds(mut file: impl Read, word: &[u8]) -> std::io::Result<bool> {
    let (mut buffer, mut length) = (vec![0; 1 << 20], 0);
    loop {
        match file.read(&mut buffer[length..]) {
            Ok(0) => return Ok(false),
            Ok(n_read) => length += n_read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        if memchr::memmem::find(&buffer[..length], word).is_some() {
            return Ok(true);
        }
        // The word may lie across two reads.
        let kept = length.min(word.len() - 1);
        buffer.copy_within(length - kept..length, 0);
        length = kept;
    }
}

fn choose(search: &Search, choice: AccelChoice, arch: Arch) -> Result<(Accelerator, String)> {
    let request = match choice {
        AccelChoice::Auto => AcceleratorRequest::Auto,
        AccelChoice::Fixed(accelerator) => AcceleratorRequest::Exactly(accelerator),
    };
    let choice = runtime_locator::choose_accelerator(search, request, arch);
    if let (AcceleratorRequest::Exactly(wanted), Some(verdict)) = (request, &choice.verdict)
        && !verdict.usable
    {
        return Err(Error::AcceleratorUnusable {
            accelerator: wanted.name().to_owned(),
            reason: verdict.reason.clone(),
        });
    }
    Ok((choice.accelerator, choice.reason))
}

impl Located {
    /// The transport that this host and the configuration give.
    pub(crate) fn transport(&self, config: &SandboxConfig) -> Result<Transport> {
        match config.transport() {
            Transport::Auto if cfg!(unix) && self.has_socket_agent => Ok(Transport::Socket),
            Transport::Auto => Ok(Transport::Tcp),
            Transport::Socket if !cfg!(unix) => Err(Error::InvalidValue {
                option: "transport",
                value: "socket".into(),
                allowed: "tcp or auto on this platform".into(),
                hint: Some("Leave it out".into()),
            }),
            chosen => Ok(chosen),
        }
    }

    /// Whether this process is the guest's network. QEMU's own is the documents', and enough for
    /// the `tcp` transport as long as the guest reaches nothing but the agent's port.
    pub(crate) fn has_link(&self, config: &SandboxConfig, is_socket: bool) -> bool {
        // A forward of any free port is ours to open, as the one that leads out is.
        let is_ours = |forward: &Forward| {
            forward.direction == Direction::GuestToHost || forward.host_port == 0
        };
        let is_asked = match config.network_mode() {
            NetworkMode::None => false,
            NetworkMode::Full => true,
            NetworkMode::MountsOnly => {
                is_socket
                    || config.mounts().iter().any(|mount| mount.kind != MountType::Plan9)
                    || config.port_forwards().iter().any(is_ours)
            }
        };
        cfg!(unix) && is_asked
    }

    /// Whether shares have a port of their own: the host's part of it needs calls that only Linux
    /// has.
    pub(crate) fn has_share_port(&self, is_socket: bool) -> bool {
        cfg!(target_os = "linux") && is_socket && self.has_share_agent
    }

    /// Whether shares have a window as well: a device that not every QEMU has. On real processors of
    /// Arm the memory of such a device takes no atomic operations. A machine that may be forked has
    /// none, because its memory would be that of all forks: what is mounted later goes by the port.
    pub(crate) fn has_share_window(&self, is_socket: bool) -> bool {
        self.has_share_port(is_socket)
            && self.image.arch == Arch::Amd64
            && !self.may_fork
            && has_word(&self.qemu.system, WINDOW_DEVICE)
    }

    /// The screen that the configuration asks for.
    pub(crate) fn display(&self, config: &SandboxConfig) -> Option<DisplayPlan> {
        let display = match config.vnc() {
            VncAccess::Auto | VncAccess::Port => DisplayPlan::Vnc { first: 0 },
            VncAccess::Off => DisplayPlan::Hidden,
        };
        config.enable_display().then_some(display)
    }

    /// The whole plan of a start.
    pub(crate) fn plan(&self, config: &SandboxConfig, ends: Ends) -> MachinePlan {
        let arch = self.image.arch;
        MachinePlan {
            arch,
            machine: MachineType::for_arch(arch),
            memory: self.memory.qemu(),
            cpus: self.cpus,
            firmware: self.qemu.firmware_dir.as_deref().map(plain),
            accelerator: self.accelerator,
            nested_hyperv: runtime_locator::is_hyperv_guest(),
            kernel: ends.kernel,
            initrd: ends.initrd,
            disk: ends.disk,
            control: ends.control,
            qmp: ends.qmp,
            network_mode: config.network_mode(),
            forwards: config
                .port_forwards()
                .iter()
                .filter(|forward| forward.direction == Direction::HostToGuest)
                .cloned()
                .collect(),
            link_fd: ends.link_fd,
            plan9: plan9_shares(config),
            smb_server: None,
            display: self.display(config),
            template: ends.template,
            tsc_khz: ends.tsc_khz,
            fd_sets: ends.fd_sets,
            seccomp: self.os == Os::Linux,
            extra_args: config.extra_qemu_args().to_vec(),
        }
    }
}

/// The same folder by a path that leads there from any root: absolute and without `..`.
fn plain(folder: &Path) -> PathBuf {
    let climbs = folder.components().any(|part| part == std::path::Component::ParentDir);
    let absolute = match climbs {
        true => folder.canonicalize(),
        false => std::path::absolute(folder),
    };
    absolute.unwrap_or_else(|_| folder.to_owned())
}

/// The 9p devices; each has its tag from the share's place in the configuration.
fn plan9_shares(config: &SandboxConfig) -> Vec<Plan9Share> {
    let mounts = config.mounts().iter().enumerate();
    mounts
        .filter(|(_, mount)| mount.kind == MountType::Plan9)
        .map(|(index, mount)| Plan9Share {
            // QEMU has the same working folder, but an error should name the whole path.
            path: plain(&mount.host_path()),
            tag: plan9_tag(index),
            readonly: mount.readonly,
            mapped: has_attributes(&mount.host_path()),
        })
        .collect()
}

/// Whether a folder's file system keeps extended attributes of users.
#[cfg(target_os = "linux")]
fn has_attributes(folder: &std::path::Path) -> bool {
    const NAME: &str = "user.quicksand.probe";
    let flags = rustix::fs::XattrFlags::empty();
    let is_kept = rustix::fs::setxattr(folder, NAME, b"1", flags).is_ok();
    if is_kept {
        let _ = rustix::fs::removexattr(folder, NAME);
    }
    is_kept
}

#[cfg(not(target_os = "linux"))]
fn has_attributes(_: &std::path::Path) -> bool {
    cfg!(target_os = "macos")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn the_agent_of_an_initrd_says_which_transport_it_speaks() {
        let check = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            std::io::Write::write_all(&mut file, bytes).unwrap();
            agent_of(&file).unwrap()
        };
        let ours = b"070701....init\0ELF opt/quicksand/token\0".as_slice();
        let shares = b"070701....init\0ELF opt/quicksand/token\0..quicksand.shares".as_slice();
        for (bytes, has_socket, has_shares) in [
            (ours, true, false),
            (shares, true, true),
            (b"070701....init\0quicksand_token=", false, false),
            (b"\x1f\x8b\x08 opt/quicksand/token", false, false),
            (b"", false, false),
        ] {
            assert_eq!(check(bytes), Agent { has_socket, has_shares, has_identity: false });
        }
        let late = [b"070701".as_slice(), &vec![0; MAX_AGENT as usize], shares].concat();
        assert_eq!(check(&late), Agent::default());
    }

    #[test]
    fn a_word_is_found_wherever_it_lies() {
        for n_before in [0, 1, (1 << 20) - 8, (1 << 20) - 1, 1 << 20, 3 << 20] {
            let file = [&vec![b'i'; n_before][..], b"ivshmem-doorbell"].concat();
            assert!(holds(&file[..], WINDOW_DEVICE.as_bytes()).unwrap(), "{n_before}");
            assert!(!holds(&file[..file.len() - 1], WINDOW_DEVICE.as_bytes()).unwrap());
        }
        assert!(!has_word(Path::new("/nonexistent"), WINDOW_DEVICE));
    }

    #[test]
    fn windows_refuses_what_needs_our_own_network() {
        let check = |options: Value, os| {
            let mut all = json!({"image": "x", "network_mode": "full"});
            for (name, value) in options.as_object().unwrap() {
                all[name] = value.clone();
            }
            check_host(&SandboxConfig::from_value(all).unwrap(), os)
        };
        let out = json!({"host": 1, "guest": 2, "direction": "guest_to_host"});
        let free = json!({"host": 0, "guest": 2});
        for (options, option) in [
            (json!({"allow": ["example.com"]}), "`allow`"),
            (json!({"port_forwards": [out]}), "`port_forwards`"),
            (json!({"port_forwards": [free]}), "`port_forwards`"),
            (json!({"mounts": [{"host": "/a", "guest": "/b"}]}), "`mounts`"),
        ] {
            check(options.clone(), Os::Linux).unwrap();
            check(options.clone(), Os::Macos).unwrap();
            let error = check(options, Os::Windows).unwrap_err();
            assert!(error.to_string().contains(option), "{error}");
            assert!(error.hint().is_some());
        }
        check(json!({"port_forwards": [{"host": 1, "guest": 2}]}), Os::Windows).unwrap();
    }
}

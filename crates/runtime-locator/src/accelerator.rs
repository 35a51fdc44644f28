//! Chooses what runs the guest's instructions, and proves it before it is used.
//!
//! `/dev/kvm` that opens is not yet an accelerator: some hosts emulate guest kernel code behind
//! it, and ordinary kernels hang or die there. So a few instructions are run in a tiny machine
//! first (`kvm`); what came of it is kept for the boot of the host (`verdict_cache`).

mod hvf;
mod kvm;
mod nested;
mod verdict_cache;
mod whpx;

pub use nested::is_guest;
pub use whpx::{is_hyperv_guest, whpx_needs_irqchip_off};

use crate::Search;
use host_platform::{Arch, Host, Os};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    str::FromStr,
    time::{Duration, Instant},
};

/// What runs the guest's instructions, by QEMU's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Accelerator {
    /// Linux' kernel-based virtual machine.
    Kvm,
    /// Apple's Hypervisor.framework.
    Hvf,
    /// The Windows Hypervisor Platform.
    Whpx,
    /// QEMU's own translator, which works everywhere and is 10 to 50 times slower.
    Tcg,
}

impl Accelerator {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Kvm, Self::Hvf, Self::Whpx, Self::Tcg];

    /// QEMU's name, as in `-accel kvm`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Hvf => "hvf",
            Self::Whpx => "whpx",
            Self::Tcg => "tcg",
        }
    }

    /// The hardware accelerator of a system.
    pub fn for_os(os: Os) -> Self {
        match os {
            Os::Linux => Self::Kvm,
            Os::Macos => Self::Hvf,
            Os::Windows => Self::Whpx,
        }
    }
}

impl fmt::Display for Accelerator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that is neither `auto` nor an accelerator.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Unknown accelerator `{text}`")]
pub struct ParseAcceleratorError {
    /// The word as it was given.
    pub text: String,
}

impl ParseAcceleratorError {
    /// What to write instead.
    pub fn hint(&self) -> Option<String> {
        Some("use `auto`, `kvm` (Linux), `hvf` (macOS), `whpx` (Windows) or `tcg`".to_owned())
    }
}

impl FromStr for Accelerator {
    type Err = ParseAcceleratorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|accelerator| accelerator.name() == lower)
            .ok_or_else(|| ParseAcceleratorError { text: text.to_owned() })
    }
}

/// What the caller wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum AcceleratorRequest {
    /// The best that is proved to work.
    #[default]
    Auto,
    /// This one, unproved: QEMU says itself when it does not work.
    Exactly(Accelerator),
}

impl FromStr for AcceleratorRequest {
    type Err = ParseAcceleratorError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.eq_ignore_ascii_case("auto") {
            true => Ok(Self::Auto),
            false => text.parse().map(AcceleratorRequest::Exactly),
        }
    }
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// What was probed.
    pub accelerator: Accelerator,
    /// Whether guests can be expected to run under it.
    pub usable: bool,
    /// Why, as a phrase for people.
    pub reason: String,
    /// How long finding out took, this time.
    pub elapsed: Duration,
    /// Whether it was known from an earlier probe in this boot of the host.
    pub cached: bool,
}

/// The accelerator that was chosen, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Choice {
    /// What to start QEMU with.
    pub accelerator: Accelerator,
    /// Why, as a phrase for people.
    pub reason: String,
    /// What the probe found, where there was one.
    pub verdict: Option<Verdict>,
}

impl Choice {
    /// What to do for a faster one, where a person can do something.
    pub fn hint(&self) -> Option<&'static str> {
        let refused = self.verdict.as_ref().filter(|verdict| !verdict.usable)?;
        match refused.accelerator {
            Accelerator::Kvm => Some(
                "Use a host whose kernel has KVM, and let this user open /dev/kvm (the group `kvm`)",
            ),
            Accelerator::Hvf => Some("Use a Mac itself, or a machine with nested virtualisation"),
            Accelerator::Whpx => {
                Some("Turn the Windows feature \"Windows Hypervisor Platform\" on")
            }
            Accelerator::Tcg => None,
        }
    }
}

/// Before a verdict is measured: what was found, and whether it stays true until the next boot.
struct Finding {
    usable: bool,
    reason: String,
    /// False for what a person can change at any moment, like permissions.
    lasting: bool,
}

impl Finding {
    fn new(usable: bool, lasting: bool, reason: impl Into<String>) -> Self {
        Self { usable, reason: reason.into(), lasting }
    }
}

/// Probes an accelerator, always afresh.
pub fn probe(accelerator: Accelerator) -> Verdict {
    probe_and_keep(accelerator, None)
}

/// Chooses the accelerator for guests of that architecture. Knows a verdict of this boot from the
/// search's cache folder and keeps a new one there.
pub fn choose_accelerator(
    search: &Search,
    request: AcceleratorRequest,
    guest_arch: Arch,
) -> Choice {
    choose(&search.host, request, guest_arch, |accelerator| {
        probe_and_keep(accelerator, search.cache_dir.as_deref())
    })
}

/// The pure part: the table of systems, with the probe as a function.
fn choose(
    host: &Host,
    request: AcceleratorRequest,
    guest_arch: Arch,
    probe: impl FnOnce(Accelerator) -> Verdict,
) -> Choice {
    let without_probe = |accelerator, reason: String| Choice { accelerator, reason, verdict: None };
    if let AcceleratorRequest::Exactly(accelerator) = request {
        let reason = "asked for".to_owned();
        if accelerator == Accelerator::Tcg {
            return without_probe(accelerator, reason);
        }
        // A broken one is refused here, with its reason, and not by a boot that never ends.
        let verdict = match guest_arch == host.arch {
            true => probe(accelerator),
            false => Verdict {
                accelerator,
                usable: false,
                reason: format!("the guest is {guest_arch}, the host {}", host.arch),
                elapsed: Duration::ZERO,
                cached: false,
            },
        };
        return Choice { accelerator, reason, verdict: Some(verdict) };
    }
    if guest_arch != host.arch {
        let reason = format!("the guest is {guest_arch}, the host {}", host.arch);
        return without_probe(Accelerator::Tcg, reason);
    }
    // Programs under Rosetta get no Hypervisor.framework. On Windows it is otherwise: there the
    // emulator that is started is a native program, whatever this process is.
    if host.os == Os::Macos && host.is_emulated() {
        let reason = "this process runs under Rosetta, which has no hypervisor".to_owned();
        return without_probe(Accelerator::Tcg, reason);
    }
    let verdict = probe(Accelerator::for_os(host.os));
    let accelerator = if verdict.usable { verdict.accelerator } else { Accelerator::Tcg };
    Choice { accelerator, reason: verdict.reason.clone(), verdict: Some(verdict) }
}

fn probe_and_keep(accelerator: Accelerator, cache_dir: Option<&std::path::Path>) -> Verdict {
    let start = Instant::now();
    let verdict = |finding: Finding, cached| Verdict {
        accelerator,
        usable: finding.usable,
        reason: finding.reason,
        elapsed: start.elapsed(),
        cached,
    };
    match accelerator {
        Accelerator::Tcg => verdict(Finding::new(true, true, "translates in software"), false),
        Accelerator::Hvf => verdict(hvf::probe(), false),
        Accelerator::Whpx => verdict(whpx::probe(), false),
        Accelerator::Kvm => {
            // Permissions change at any moment, so the device is opened even when a verdict is
            // known.
            if let Err(finding) = kvm::open_device() {
                return verdict(finding, false);
            }
            let key = verdict_cache::key();
            let file = cache_dir.map(verdict_cache::file);
            let known = file.as_deref().zip(key.as_ref());
            if let Some(finding) = known.and_then(|(file, key)| verdict_cache::read(file, key)) {
                return verdict(finding, true);
            }
            let finding = kvm::probe();
            if let (true, Some((file, key))) = (finding.lasting, known) {
                verdict_cache::write(file, key, &finding);
            }
            verdict(finding, false)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(accelerator: Accelerator, usable: bool) -> Verdict {
        let reason = if usable { "ran a guest" } else { "did not run a guest" };
        Verdict {
            accelerator,
            usable,
            reason: reason.to_owned(),
            elapsed: Duration::ZERO,
            cached: false,
        }
    }

    /// The rows of the installation document's host table with the accelerator of each.
    #[test]
    fn each_kind_of_host_gets_its_accelerator() {
        use Accelerator::{Hvf, Kvm, Tcg, Whpx};
        use Arch::{Amd64, Arm64};
        use Os::{Linux, Macos, Windows};
        let table = [
            (Linux, Amd64, Amd64, Kvm),
            (Linux, Arm64, Arm64, Kvm),
            (Macos, Amd64, Amd64, Hvf),
            (Macos, Arm64, Arm64, Hvf),
            (Macos, Arm64, Amd64, Tcg),
            (Windows, Amd64, Amd64, Whpx),
            (Windows, Arm64, Amd64, Whpx),
            (Windows, Arm64, Arm64, Whpx),
        ];
        for (os, arch, process_arch, expect) in table {
            let host = Host { os, arch, process_arch };
            let choice =
                |guest| choose(&host, AcceleratorRequest::Auto, guest, |a| verdict(a, true));
            assert_eq!(choice(arch).accelerator, expect, "{host:?}");
            let foreign = choice(arch.other());
            assert_eq!(foreign.accelerator, Tcg, "{host:?}");
            assert!(foreign.reason.contains("the guest is"), "{}", foreign.reason);
            let refused = choose(&host, AcceleratorRequest::Auto, arch, |a| verdict(a, false));
            assert_eq!(refused.accelerator, Tcg, "{host:?}");
        }
    }

    #[test]
    fn a_request_is_probed_and_never_replaced() {
        let host = Host { os: Os::Linux, arch: Arch::Amd64, process_arch: Arch::Amd64 };
        for accelerator in Accelerator::ALL {
            let request = AcceleratorRequest::Exactly(accelerator);
            let foreign = choose(&host, request, Arch::Arm64, |_| panic!("was probed"));
            assert_eq!(foreign.accelerator, accelerator);
            assert_eq!(foreign.verdict.is_none(), accelerator == Accelerator::Tcg, "{accelerator}");
            assert!(foreign.verdict.is_none_or(|verdict| !verdict.usable));
            for usable in [true, false] {
                let choice = choose(&host, request, Arch::Amd64, |a| verdict(a, usable));
                assert_eq!(choice.accelerator, accelerator);
                let expect = (accelerator != Accelerator::Tcg).then_some(usable);
                assert_eq!(choice.verdict.map(|verdict| verdict.usable), expect, "{accelerator}");
            }
        }
    }

    #[test]
    fn names_parse_back() {
        for accelerator in Accelerator::ALL {
            let request = AcceleratorRequest::Exactly(accelerator);
            assert_eq!(accelerator.name().to_uppercase().parse(), Ok(request));
            assert_eq!(serde_json::to_string(&accelerator).unwrap(), format!("\"{accelerator}\""));
        }
        assert_eq!("Auto".parse(), Ok(AcceleratorRequest::Auto));
        let error = "xen".parse::<AcceleratorRequest>().unwrap_err();
        assert_eq!(error.to_string(), "Unknown accelerator `xen`");
    }
}

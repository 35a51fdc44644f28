//! The mode in which a root file system is made on this host: who may own files there, and what runs the
//! programs. The order of modes is a table; which of them works is tried. It must not know what is
//! installed.

use super::trial::{self, Trial, trial};
use crate::{Error, RootError, foreign::Runner};
use duct::cmd;
use fs_err as fs;

/// Where the owners of files are kept while a root file system is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// On disk: as root, or in a user namespace with a range of ids.
    Disk,
    /// In a map, which needs a user namespace with a single id and no more.
    Map,
}

impl std::str::FromStr for Ownership {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "disk" => Ok(Self::Disk),
            "map" => Ok(Self::Map),
            other => Err(format!("`{other}` is neither `disk` nor `map`")),
        }
    }
}

/// How the root file system is made, which is said to the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstallMode {
    /// The caller is root.
    Root,
    /// In a user namespace, with ids from the caller's range in /etc/subuid.
    UserNamespace,
    /// In a user namespace with the caller's id as the only one.
    OneId,
}

impl InstallMode {
    /// In words.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Root => "as root, in a chroot",
            Self::UserNamespace => "without root, in a user namespace with a range of ids",
            Self::OneId => "without root and a range of ids: owners are kept in a map",
        }
    }

    /// What to try when it failed.
    pub fn hint(self) -> Option<&'static str> {
        match self {
            // What these need was tried before.
            Self::Root | Self::UserNamespace => None,
            Self::OneId => Some(
                "a script that becomes another user needs more ids: give this user a range in /etc/subuid and /etc/subgid, or bake as root",
            ),
        }
    }

    /// mmdebstrap's word for it.
    pub(super) fn mmdebstrap_mode(self) -> &'static str {
        match self {
            Self::Root | Self::OneId => "root",
            Self::UserNamespace => "unshare",
        }
    }
}

/// What makes a root file system.
#[derive(Clone, Debug)]
pub struct Installer {
    /// How.
    pub mode: InstallMode,
    /// What runs the programs in it.
    pub runner: Runner,
}

impl Installer {
    /// In words.
    pub fn describe(&self) -> String {
        format!("{}{}", self.mode.describe(), self.runner.describe())
    }
}

/// What decides which modes are tried.
struct Rights {
    is_root: bool,
    /// How many users the namespace of this process has.
    n_ids: u64,
    /// Whether /etc/subuid and /etc/subgid give this user a range.
    has_range: bool,
}

/// As many as Debian's policy hands out, and `nobody` is the last of them.
const N_IDS_NEEDED: u64 = 65_536;

/// The mode that works for this process, found by trying, with what must be installed before it can
/// be tried to the end. The person may have asked for one.
pub fn install_mode(
    asked: Option<Ownership>,
) -> Result<(InstallMode, &'static [&'static str]), Error> {
    choose(&candidates(asked, &rights()), trial).map_err(|tried| {
        Error::Root(RootError::NoInstallMode { tried, hint: trial::hint_of_host() })
    })
}

fn rights() -> Rights {
    let id = cmd!("id", "-u").read().unwrap_or_default();
    let name = cmd!("id", "-un").stderr_null().read().unwrap_or_default();
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let has_range = |file: &str| {
        let text = fs::read_to_string(file).unwrap_or_default();
        n_ids_of(&text, &[name.trim(), id.trim()]) >= N_IDS_NEEDED
    };
    Rights {
        is_root: id.trim() == "0",
        n_ids: map
            .lines()
            .filter_map(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok())
            .sum(),
        has_range: has_range("/etc/subuid") && has_range("/etc/subgid"),
    }
}

/// The modes that may work, the best one first.
fn candidates(asked: Option<Ownership>, rights: &Rights) -> Vec<InstallMode> {
    let on_disk = if rights.is_root { InstallMode::Root } else { InstallMode::UserNamespace };
    match asked {
        Some(Ownership::Map) => vec![InstallMode::OneId],
        Some(Ownership::Disk) => vec![on_disk],
        None if rights.is_root && rights.n_ids >= N_IDS_NEEDED => vec![InstallMode::Root],
        // Root of a namespace that has one id is no better off than its maker.
        None if rights.is_root => vec![InstallMode::OneId, InstallMode::Root],
        None if rights.has_range => vec![InstallMode::UserNamespace, InstallMode::OneId],
        None => vec![InstallMode::OneId],
    }
}

/// The first one that works or may work, with the packages that it lacks; else what was said of each.
fn choose(
    candidates: &[InstallMode],
    trial: impl Fn(InstallMode) -> Trial,
) -> Result<(InstallMode, &'static [&'static str]), Vec<String>> {
    let mut tried = Vec::new();
    for mode in candidates {
        match trial(*mode) {
            Trial::Works => return Ok((*mode, &[])),
            Trial::Lacks(packages) => return Ok((*mode, packages)),
            Trial::Fails(said) => tried.push(format!("{} ({said})", mode.describe())),
        }
    }
    Err(tried)
}

/// The ids that a file such as /etc/subuid gives to a user, who is named by name or number.
fn n_ids_of(text: &str, names: &[&str]) -> u64 {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let is_users = names.contains(&fields.next()?);
            fields.nth(1)?.parse::<u64>().ok().filter(|_| is_users)
        })
        // mmdebstrap looks no further than the first line.
        .next()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_are_tried_from_the_best_one_on() {
        use InstallMode::{OneId, Root, UserNamespace};
        let disk = Some(Ownership::Disk);
        let many = 4_294_967_295;
        for (asked, is_root, n_ids, has_range, expected) in [
            (None, true, many, false, vec![Root]),
            (None, true, 1, true, vec![OneId, Root]),
            (None, false, many, true, vec![UserNamespace, OneId]),
            (None, false, many, false, vec![OneId]),
            (Some(Ownership::Map), true, many, true, vec![OneId]),
            (disk, true, 1, false, vec![Root]),
            (disk, false, 1, false, vec![UserNamespace]),
        ] {
            let rights = Rights { is_root, n_ids, has_range };
            assert_eq!(candidates(asked, &rights), expected);
        }
    }

    #[test]
    fn a_range_that_the_kernel_refuses_is_no_mode() {
        let modes = [InstallMode::UserNamespace, InstallMode::OneId];
        let refused = |_| Trial::Fails("unshare: Operation not permitted".to_owned());
        let tried = choose(&modes, refused).unwrap_err();
        assert_eq!(tried.len(), 2);
        assert!(tried[0].ends_with("(unshare: Operation not permitted)"), "{tried:?}");
        let one_id_works = |mode| match mode {
            InstallMode::UserNamespace => refused(mode),
            _ => Trial::Works,
        };
        assert_eq!(choose(&modes, one_id_works).unwrap(), (InstallMode::OneId, &[][..]));
        let lacks: &[&str] = &["uidmap"];
        assert_eq!(
            choose(&modes, |_| Trial::Lacks(lacks)).unwrap(),
            (InstallMode::UserNamespace, lacks)
        );
    }

    #[test]
    fn ranges_are_found_by_name_and_number() {
        let text = "other:1:70000\nann:100000:65536\n1001:165536:1000\n";
        assert_eq!(n_ids_of(text, &["ann", "1000"]), 65_536);
        assert_eq!(n_ids_of(text, &["bob", "1001"]), 1000);
        assert_eq!(n_ids_of(text, &["eve", "1002"]), 0);
        assert_eq!(n_ids_of("broken\nann:x", &["ann"]), 0);
    }
}

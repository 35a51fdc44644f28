//! Which walls a machine gets: a pure function of what it needs and what the host has.

use crate::Wall;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A folder that QEMU serves to the guest by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its absolute path.
    pub path: PathBuf,
    /// Whether nothing is ever written to it.
    pub readonly: bool,
}

/// The TCP ports that a program may listen on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Ports {
    #[default]
    None,
    /// These; 0 is one of the system's choice.
    Some(Vec<u16>),
    /// Any, as they are not known yet.
    Any,
}

/// What a machine needs of the host besides the descriptors that it inherits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Folders that are read, QEMU's firmware.
    pub read: Vec<PathBuf>,
    /// Folders that QEMU serves.
    pub shares: Vec<Share>,
    /// Devices that are opened, `/dev/kvm`.
    pub devices: Vec<PathBuf>,
    /// The TCP ports that QEMU itself listens on.
    pub listens: Ports,
    /// The bytes of the guest's memory.
    pub memory: u64,
    /// The bytes of the guest's disk.
    pub disk: u64,
    /// Arguments of the user's own, which may name any file, device or address of the host.
    pub has_own_arguments: bool,
    /// Whether the program makes copies of itself, which stay behind the same walls.
    pub forks: bool,
    /// Whether the program is a script, which runs others; found out by `spawn`.
    pub is_script: bool,
    /// Whether something that is read is closed to all but another user, and this one is root; found
    /// out by `spawn`.
    pub reads_private: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Whether it is Linux.
    pub is_linux: bool,
    /// Whether the user is root.
    pub is_root: bool,
    /// Landlock's version; 0 without it.
    pub landlock: i32,
    /// Walls that the host has refused, with its reason.
    pub refused: BTreeMap<Wall, String>,
}

/// The walls of one machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// Those that it gets.
    pub walls: BTreeSet<Wall>,
    /// Those that it does not get, and why.
    pub missing: BTreeMap<Wall, String>,
}

impl Plan {
    /// Whether that wall is put up.
    pub fn has(&self, wall: Wall) -> bool {
        self.walls.contains(&wall)
    }
}

/// Decides for each wall.
pub fn plan(needs: &Needs, host: &Host) -> Plan {
    let mut plan = Plan { walls: BTreeSet::new(), missing: BTreeMap::new() };
    for wall in Wall::ALL {
        match why_not(wall, needs, host, &plan) {
            None => drop(plan.walls.insert(wall)),
            Some(reason) => drop(plan.missing.insert(wall, reason)),
        }
    }
    plan
}

/// Why a wall is left out; `above` has the decisions for those before it.
fn why_not(wall: Wall, needs: &Needs, host: &Host, above: &Plan) -> Option<String> {
    let text = |reason: &str| Some(reason.to_owned());
    if !host.is_linux {
        return text("it is there on Linux alone");
    }
    if let Some(reason) = host.refused.get(&wall) {
        return Some(reason.clone());
    }
    let own = || text("`extra_qemu_args` may name anything of the host");
    let without =
        |abi| Some(format!("the kernel has Landlock {}, and this needs {abi}", host.landlock));
    match wall {
        Wall::Process => None,
        _ if needs.has_own_arguments => own(),
        Wall::MountNamespace | Wall::LandlockFiles | Wall::SystemCalls if needs.is_script => {
            text("QEMU is a script, which may run anything")
        }
        Wall::Limits | Wall::SystemCalls => None,
        // As root, files of other users below a share are reached by root's rights alone.
        Wall::UserNamespace if host.is_root && !needs.shares.is_empty() => {
            text("root serves a 9p share")
        }
        Wall::UserNamespace if host.is_root && needs.reads_private => {
            text("a file of the machine can be read by its owner alone, who is not root")
        }
        Wall::UserNamespace => None,
        // Other namespaces are made by whoever has rights over a user namespace, or by root.
        Wall::MountNamespace | Wall::PidNamespace | Wall::NetworkNamespace | Wall::IpcNamespace
            if !above.has(Wall::UserNamespace) && !host.is_root =>
        {
            text("it needs the user namespace")
        }
        Wall::NetworkNamespace if needs.listens != Ports::None => text("QEMU listens on a port"),
        Wall::MountNamespace if needs.shares.iter().any(|it| it.path.parent().is_none()) => {
            text("the host's whole tree is shared")
        }
        // The new root shows its own processes alone.
        Wall::MountNamespace if host.refused.contains_key(&Wall::PidNamespace) => {
            text("it needs the process namespace")
        }
        Wall::MountNamespace | Wall::PidNamespace | Wall::NetworkNamespace | Wall::IpcNamespace => {
            None
        }
        Wall::LandlockFiles if host.landlock < 1 => without(1),
        Wall::LandlockTcp if host.landlock < 4 => without(4),
        Wall::LandlockScopes if host.landlock < 6 => without(6),
        Wall::LandlockFiles | Wall::LandlockTcp | Wall::LandlockScopes => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_machine_gets_the_walls_that_it_leaves_room_for() {
        let user = Host { is_linux: true, landlock: 7, ..Host::default() };
        let root = Host { is_root: true, ..user.clone() };
        let refused = |host: &Host, walls: &[Wall]| Host {
            refused: walls.iter().map(|wall| (*wall, "refused".to_owned())).collect(),
            ..host.clone()
        };
        let without_user = refused(&user, &[Wall::UserNamespace]);
        let root_without_user = refused(&root, &[Wall::UserNamespace]);
        let share = Share { path: "/a".into(), readonly: false };
        let plain = Needs::default();
        let shares = Needs { shares: vec![share], ..plain.clone() };
        let tree = Share { path: "/".into(), readonly: true };
        let tree = Needs { shares: vec![tree], ..plain.clone() };
        let listens = Needs { listens: Ports::Some(vec![5900]), ..plain.clone() };
        let own = Needs { has_own_arguments: true, ..plain.clone() };
        let script = Needs { is_script: true, ..plain.clone() };
        let private = Needs { reads_private: true, ..plain.clone() };
        use Wall::*;
        let table: [(&str, &Needs, &Host, &[Wall]); 14] = [
            ("plain", &plain, &user, &[]),
            ("plain, root", &plain, &root, &[]),
            ("share", &shares, &user, &[]),
            ("share, root", &shares, &root, &[UserNamespace]),
            ("the whole tree", &tree, &user, &[MountNamespace]),
            ("script", &script, &user, &[MountNamespace, LandlockFiles, SystemCalls]),
            ("closed files, root", &private, &root, &[UserNamespace]),
            ("listens", &listens, &user, &[NetworkNamespace]),
            (
                "own arguments",
                &own,
                &root,
                &[
                    Limits,
                    UserNamespace,
                    MountNamespace,
                    PidNamespace,
                    NetworkNamespace,
                    IpcNamespace,
                    LandlockFiles,
                    LandlockTcp,
                    LandlockScopes,
                    SystemCalls,
                ],
            ),
            (
                "a container that refuses user namespaces",
                &plain,
                &without_user,
                &[UserNamespace, MountNamespace, PidNamespace, NetworkNamespace, IpcNamespace],
            ),
            ("the same as root", &plain, &root_without_user, &[UserNamespace]),
            (
                "no process namespace",
                &plain,
                &refused(&user, &[PidNamespace]),
                &[MountNamespace, PidNamespace],
            ),
            (
                "Landlock of Linux 5.13",
                &plain,
                &Host { landlock: 1, ..user.clone() },
                &[LandlockTcp, LandlockScopes],
            ),
            (
                "no Landlock",
                &plain,
                &Host { landlock: 0, ..user.clone() },
                &[LandlockFiles, LandlockTcp, LandlockScopes],
            ),
        ];
        for (case, needs, host, missing) in table {
            let plan = plan(needs, host);
            let found: Vec<Wall> = plan.missing.keys().copied().collect();
            assert_eq!(found, missing, "{case}: {:?}", plan.missing);
            assert_eq!(plan.walls.len() + missing.len(), Wall::ALL.len(), "{case}");
        }
        let elsewhere = plan(&plain, &Host::default());
        assert!(elsewhere.walls.is_empty());
    }
}

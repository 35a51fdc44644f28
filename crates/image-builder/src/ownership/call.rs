//! The calls that the filter hands over, read out of the caller's memory. What becomes of them is not
//! known here.

use super::target::{Place, Target};
use rustix::fs::{AtFlags, StatxFlags, XattrFlags};

/// The attributes that name users and groups: see acl(5). The kernel knows no other id in a namespace
/// of one, but outside of it does, where the file's owner may write them.
const LISTS: &[u8] = b"system.posix_acl_";
/// As much as an attribute can hold (linux/limits.h).
const XATTR_SIZE_MAX: u64 = 65_536;

/// User and group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Owner {
    pub user: u32,
    pub group: u32,
}

/// A call that was handed over.
pub(super) enum Call {
    /// chown and its kin.
    Change { place: Place, owner: Owner },
    /// stat and its kin, with the address of the answer.
    Look { place: Place, answer: u64 },
    /// statx, with its flags and mask too.
    LookExtended { place: Place, flags: AtFlags, mask: StatxFlags, answer: u64 },
    /// An access control list is written.
    Write { place: Place, name: Vec<u8>, value: Vec<u8>, flags: XattrFlags },
    /// An access control list is read, to an address with so much room; without any, its length is
    /// what is wanted.
    Read { place: Place, name: Vec<u8>, answer: u64, room: usize },
}

impl Call {
    /// What is asked for. `None` where the caller's memory cannot be read, which the kernel will tell it.
    pub fn read(request: &libc::seccomp_notif) -> Option<Self> {
        let target = Target(request.pid);
        let args = &request.data.args;
        let number = |at: usize| args[at] as u32;
        let flags = |at: usize| AtFlags::from_bits_retain(number(at));
        let at = |folder: i32, path: usize, flags: AtFlags| {
            let path = match args[path] {
                0 => Vec::new(),
                address => target.text(address).ok()?,
            };
            // An empty path is an error, unless the descriptor's own file is asked for in so many words.
            let is_named = !path.is_empty() || flags.contains(AtFlags::EMPTY_PATH);
            let follows = !flags.contains(AtFlags::SYMLINK_NOFOLLOW);
            is_named.then_some(Place { folder, path, follows })
        };
        let open = || Place { folder: args[0] as i32, path: Vec::new(), follows: true };
        let owner = |at: usize| Owner { user: number(at), group: number(at + 1) };
        const NO_LINKS: AtFlags = AtFlags::SYMLINK_NOFOLLOW;
        Some(match libc::c_long::from(request.data.nr) {
            libc::SYS_fchown => Self::Change { place: open(), owner: owner(1) },
            libc::SYS_fchownat => {
                Self::Change { place: at(args[0] as i32, 1, flags(4))?, owner: owner(2) }
            }
            libc::SYS_fstat => Self::Look { place: open(), answer: args[1] },
            libc::SYS_newfstatat => {
                Self::Look { place: at(args[0] as i32, 1, flags(3))?, answer: args[2] }
            }
            libc::SYS_statx => Self::LookExtended {
                place: at(args[0] as i32, 1, flags(2))?,
                flags: flags(2),
                mask: StatxFlags::from_bits_retain(number(3)),
                answer: args[4],
            },
            #[cfg(target_arch = "x86_64")]
            libc::SYS_chown | libc::SYS_lchown => {
                let flags = match libc::c_long::from(request.data.nr) {
                    libc::SYS_lchown => NO_LINKS,
                    _ => AtFlags::empty(),
                };
                Self::Change { place: at(libc::AT_FDCWD, 0, flags)?, owner: owner(1) }
            }
            #[cfg(target_arch = "x86_64")]
            libc::SYS_stat | libc::SYS_lstat => {
                let flags = match libc::c_long::from(request.data.nr) {
                    libc::SYS_lstat => NO_LINKS,
                    _ => AtFlags::empty(),
                };
                Self::Look { place: at(libc::AT_FDCWD, 0, flags)?, answer: args[1] }
            }
            libc::SYS_setxattr | libc::SYS_lsetxattr | libc::SYS_fsetxattr => {
                let name = target.text(args[1]).ok().filter(|name| name.starts_with(LISTS))?;
                let length = args[3].min(XATTR_SIZE_MAX) as usize;
                let value = target.read(args[2], length).ok()?;
                let flags = XattrFlags::from_bits_retain(number(4));
                Self::Write { place: listed(request, &at, &open)?, name, value, flags }
            }
            libc::SYS_getxattr | libc::SYS_lgetxattr | libc::SYS_fgetxattr => {
                let name = target.text(args[1]).ok().filter(|name| name.starts_with(LISTS))?;
                let room = args[3].min(XATTR_SIZE_MAX) as usize;
                Self::Read { place: listed(request, &at, &open)?, name, answer: args[2], room }
            }
            _ => return None,
        })
    }
}

/// The file of a call about attributes.
fn listed(
    request: &libc::seccomp_notif,
    at: &dyn Fn(i32, usize, AtFlags) -> Option<Place>,
    open: &dyn Fn() -> Place,
) -> Option<Place> {
    match libc::c_long::from(request.data.nr) {
        libc::SYS_fsetxattr | libc::SYS_fgetxattr => Some(open()),
        libc::SYS_lsetxattr | libc::SYS_lgetxattr => {
            at(libc::AT_FDCWD, 0, AtFlags::SYMLINK_NOFOLLOW)
        }
        _ => at(libc::AT_FDCWD, 0, AtFlags::empty()),
    }
}

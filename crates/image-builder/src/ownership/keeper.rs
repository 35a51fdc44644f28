//! The map of owners, and the answers to the calls that the filter hands over.

use super::{
    call::{Call, Owner},
    target::{ITSELF, Place, Target, name_of, parent_of},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{AtFlags, Gid, Statx, StatxFlags, Uid, chownat, fstat, getxattr, setxattr, statx},
    io::{Errno, Result},
};
use std::{
    collections::HashMap,
    os::fd::{AsRawFd as _, OwnedFd},
};

/// "Leave it as it is", for chown.
const SAME: u32 = u32::MAX;
/// The mode bit of a folder that hands its group on.
const SET_GROUP_ID: u16 = 0o2000;

/// What a file is known by: device, inode and time of birth. The last tells a file from the one that
/// had its inode before.
type Identity = (u32, u32, u64, i64, u32);

/// The owners that were given.
#[derive(Default)]
struct Owners {
    given: HashMap<Identity, Owner>,
    /// Whether a folder got a group other than root's, which it may hand on.
    has_group_folders: bool,
}

/// What the call is to come back with; `None` lets the kernel do it.
type Answer = Option<Result<i64>>;

/// Answers calls until the last process is gone.
pub(super) fn serve(listener: &OwnedFd) {
    let mut owners = Owners::default();
    loop {
        let mut ready = [PollFd::new(listener, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        if !ready[0].revents().contains(PollFlags::IN) {
            if ready[0].revents().intersects(PollFlags::HUP | PollFlags::ERR) {
                return;
            }
            continue;
        }
        // SAFETY: the structure is of integers, and the kernel wants it zeroed.
        let mut request: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        let descriptor = listener.as_raw_fd();
        // SAFETY: the kernel fills a structure of this very size.
        let status =
            unsafe { libc::ioctl(descriptor, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut request) };
        // The process may be gone already.
        if status != 0 {
            continue;
        }
        let answer =
            Call::read(&request).and_then(|call| owners.answer(Target(request.pid), &call));
        let mut response = libc::seccomp_notif_resp { id: request.id, val: 0, error: 0, flags: 0 };
        match answer {
            None => response.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            Some(Ok(value)) => response.val = value,
            Some(Err(error)) => response.error = -error.raw_os_error(),
        }
        // SAFETY: the kernel reads a structure of this very size. That the process is gone is no loss.
        unsafe {
            libc::ioctl(descriptor, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response);
        }
    }
}

impl Owners {
    fn answer(&mut self, target: Target, call: &Call) -> Answer {
        match call {
            Call::Change { place, owner } => Some(self.change(target, place, *owner).map(|()| 0)),
            Call::Write { place, name, value, flags } => {
                Some(target.open(place).and_then(|file| {
                    setxattr(name_of(&file), name.as_slice(), value, *flags).map(|()| 0)
                }))
            }
            Call::Read { place, name, answer, room } => Some(target.open(place).and_then(|file| {
                let mut value = vec![0; *room];
                let length = getxattr(name_of(&file), name.as_slice(), value.as_mut_slice())?;
                if *room > 0 {
                    target.write(*answer, &value[..length])?;
                }
                Ok(length as i64)
            })),
            _ if self.given.is_empty() => None,
            Call::Look { place, answer } => {
                let (file, owner) = self.look(target, place)?;
                let mut found = fstat(&file).ok()?;
                (found.st_uid, found.st_gid) = (owner.user, owner.group);
                Some(target.write(*answer, &found).map(|()| 0))
            }
            Call::LookExtended { place, flags, mask, answer } => {
                let (file, owner) = self.look(target, place)?;
                let flags = (*flags - AtFlags::SYMLINK_NOFOLLOW) | ITSELF;
                let mut found = statx(&file, c"", flags, *mask).ok()?;
                (found.stx_uid, found.stx_gid) = (owner.user, owner.group);
                Some(target.write(*answer, &found).map(|()| 0))
            }
        }
    }

    /// Gives a file to an owner.
    fn change(&mut self, target: Target, place: &Place, asked: Owner) -> Result<()> {
        let file = target.open(place)?;
        // A change of owner takes set-user-id, set-group-id and capabilities away. Giving the file to
        // its owner on disk does so too, and is refused where any change would be.
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        chownat(&file, c"", Some::<Uid>(user), Some::<Gid>(group), ITSELF)?;
        let found = identify(&file)?;
        let mut owner = self.owner(&file, &found);
        if asked.user != SAME {
            owner.user = asked.user;
        }
        if asked.group != SAME {
            owner.group = asked.group;
        }
        self.has_group_folders |= owner.group != 0 && is_folder(&found);
        self.given.insert(identity(&found), owner);
        Ok(())
    }

    /// A file with an owner other than root; `None` for all others.
    fn look(&self, target: Target, place: &Place) -> Option<(OwnedFd, Owner)> {
        let file = target.open(place).ok()?;
        let owner = self.owner(&file, &identify(&file).ok()?);
        (owner != Owner::default()).then_some((file, owner))
    }

    /// Whose a file is.
    fn owner(&self, file: &OwnedFd, found: &Statx) -> Owner {
        if let Some(owner) = self.given.get(&identity(found)) {
            return *owner;
        }
        // It was made and never given to anybody: it is its maker's, who is root, and its folder's
        // group's where that hands its group on.
        if self.has_group_folders
            && let Ok(folder) = parent_of(file)
            && let Ok(above) = identify(&folder)
            && above.stx_mode & SET_GROUP_ID != 0
            && identity(&above) != identity(found)
        {
            return Owner { user: 0, group: self.owner(&folder, &above).group };
        }
        Owner::default()
    }
}

fn identify(file: &OwnedFd) -> Result<Statx> {
    statx(file, c"", ITSELF, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

fn identity(found: &Statx) -> Identity {
    let (born, nanoseconds) = (found.stx_btime.tv_sec, found.stx_btime.tv_nsec);
    (found.stx_dev_major, found.stx_dev_minor, found.stx_ino, born, nanoseconds)
}

fn is_folder(found: &Statx) -> bool {
    u32::from(found.stx_mode) & libc::S_IFMT == libc::S_IFDIR
}

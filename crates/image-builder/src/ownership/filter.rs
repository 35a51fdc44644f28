//! The filter that a program of the installation runs under, and how its listener comes to this
//! process. It knows which calls are asked for; what is answered is `keeper`'s matter.

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType, recvmsg, sendmsg, socketpair,
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, FromRawFd as _, OwnedFd, RawFd},
        unix::process::CommandExt as _,
    },
    process::Command,
};

/// This processor as the kernel names it in a filter's data (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xC000_003E;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xC000_00B7;

/// The calls that are handed over.
#[cfg(target_arch = "x86_64")]
const HANDED_OVER: [libc::c_long; 15] = [
    libc::SYS_chown,
    libc::SYS_lchown,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
];
#[cfg(target_arch = "aarch64")]
const HANDED_OVER: [libc::c_long; 11] = [
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
];

/// The filter's length: the head, one for each call, one for setgroups, three ends.
const LENGTH: usize = 4 + HANDED_OVER.len() + 1 + 3;

/// The program, in classic BPF.
const PROGRAM: [libc::sock_filter; LENGTH] = program();

const fn program() -> [libc::sock_filter; LENGTH] {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IS: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    // Offsets in `struct seccomp_data`: the number of the call, then the processor.
    const NR: u32 = 0;
    const ARCH: u32 = 4;
    const fn step(code: u16, k: u32, jt: usize, jf: usize) -> libc::sock_filter {
        libc::sock_filter { code, jt: jt as u8, jf: jf as u8, k }
    }
    const ALLOW: usize = LENGTH - 3;
    const PRETEND: usize = LENGTH - 2;
    const NOTIFY: usize = LENGTH - 1;
    let mut out = [step(RETURN, libc::SECCOMP_RET_ALLOW, 0, 0); LENGTH];
    out[0] = step(LOAD, ARCH, 0, 0);
    // Programs of another word size keep their calls; none installs packages.
    out[1] = step(IS, AUDIT_ARCH, 0, ALLOW - 2);
    out[2] = step(LOAD, NR, 0, 0);
    // Groups of a process do not matter to what it owns, and a namespace of one id refuses them.
    out[3] = step(IS, libc::SYS_setgroups as u32, PRETEND - 4, 0);
    let mut place = 0;
    while place < HANDED_OVER.len() {
        let here = 4 + place;
        out[here] = step(IS, HANDED_OVER[place] as u32, NOTIFY - here - 1, 0);
        place += 1;
    }
    out[PRETEND] = step(RETURN, libc::SECCOMP_RET_ERRNO, 0, 0);
    out[NOTIFY] = step(RETURN, libc::SECCOMP_RET_USER_NOTIF, 0, 0);
    out
}

/// Starts a map of owners for the process that the command becomes, and those that it starts.
pub(super) fn attach(command: &mut Command) -> io::Result<()> {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    std::thread::Builder::new().name("owners".to_owned()).spawn(move || {
        // Nothing comes where the process could not be started, which its starter hears of.
        if let Ok(Some(listener)) = receive(&ours) {
            super::keeper::serve(&listener);
        }
    })?;
    // SAFETY: `enter` makes system calls and nothing else: it neither allocates nor locks.
    unsafe {
        command.pre_exec(move || enter(&theirs));
    }
    Ok(())
}

/// Puts this process, which has just been forked, under the filter.
fn enter(socket: &OwnedFd) -> io::Result<()> {
    // Without it only root may set a filter. The programs are root in their namespace anyway.
    rustix::thread::set_no_new_privs(true)?;
    let program = libc::sock_fprog { len: LENGTH as u16, filter: PROGRAM.as_ptr().cast_mut() };
    // SAFETY: the kernel copies the program, which lives for ever, and gives a new descriptor.
    let listener = unsafe {
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
        let operation = libc::SECCOMP_SET_MODE_FILTER;
        let listener = libc::syscall(libc::SYS_seccomp, operation, flags, &raw const program);
        if listener < 0 {
            return Err(io::Error::last_os_error());
        }
        OwnedFd::from_raw_fd(listener as RawFd)
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [listener.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&descriptors));
    sendmsg(socket, &[IoSlice::new(b"l")], &mut control, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// The listener that the process sent.
fn receive(socket: &OwnedFd) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let mut parts = [IoSliceMut::new(&mut byte)];
    recvmsg(socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    }))
}

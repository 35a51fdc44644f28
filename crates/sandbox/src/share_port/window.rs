//! The host's side of the window that it shares with the guest: memory, and a doorbell.
//!
//! QEMU gets both as a peer of its device `ivshmem-doorbell` would give them, on a socket whose other
//! end stays here. The memory is of a fixed size that nobody can change, so that no access to it can
//! fail. What lies in it is the guest's, and QEMU's once a guest has taken it over.

use agent_protocol::share_window::{GUEST_PEER, HOST_PEER, WINDOW_LEN, Window as Memory};
use rustix::fs::{MemfdFlags, SealFlags};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use std::io::{IoSlice, Result};
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

/// Version of the protocol between the device and who serves it.
const VERSION: i64 = 0;
/// What goes with the memory's descriptor in place of a peer's number.
const MEMORY: i64 = -1;

/// The memory, the doorbell, and our end of the device's socket.
pub(super) struct Window {
    memory: Memory,
    start: *mut libc::c_void,
    doorbell: OwnedFd,
    /// The device takes the end of this for a peer that has left.
    _socket: UnixStream,
}

// SAFETY: the mapping belongs to this value alone, and its accesses are those of `Memory`.
unsafe impl Send for Window {}
// SAFETY: as above.
unsafe impl Sync for Window {}

impl Window {
    /// Makes a window, and QEMU's end of the device's socket.
    pub(super) fn new() -> Result<(Self, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = rustix::fs::memfd_create(c"quicksand-shares", flags)?;
        rustix::fs::ftruncate(&file, WINDOW_LEN as u64)?;
        rustix::fs::fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        // SAFETY: an event counter has no memory.
        let doorbell = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if doorbell < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: it was opened just now, and nobody else has it.
        let doorbell = unsafe { OwnedFd::from_raw_fd(doorbell) };
        let (socket, theirs) = UnixStream::pair()?;
        let messages = [
            (VERSION, None),
            (GUEST_PEER, None),
            (MEMORY, Some(file.as_fd())),
            (HOST_PEER, Some(doorbell.as_fd())),
        ];
        for (number, descriptor) in messages {
            send(&socket, number, descriptor)?;
        }
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: a new mapping of a file of this size, at a place that the kernel chooses.
        let start = unsafe {
            let (at, descriptor) = (std::ptr::null_mut(), file.as_raw_fd());
            libc::mmap(at, WINDOW_LEN, protection, libc::MAP_SHARED, descriptor, 0)
        };
        if start == libc::MAP_FAILED {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: it was mapped just now, and is for as long as this value lives.
        let memory = unsafe { Memory::new(start.cast()) };
        memory.mark();
        Ok((Self { memory, start, doorbell, _socket: socket }, theirs.into()))
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Waits until somebody has rung.
    pub(super) fn wait(&self) {
        let mut wanted =
            libc::pollfd { fd: self.doorbell.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one descriptor, which is open.
        unsafe { libc::poll(&raw mut wanted, 1, -1) };
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.doorbell, &mut count);
    }

    /// Wakes whoever waits.
    pub(super) fn ring(&self) {
        let _ = rustix::io::write(&self.doorbell, &1u64.to_ne_bytes());
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: nothing can use the mapping any more.
        unsafe { libc::munmap(self.start, WINDOW_LEN) };
    }
}

fn send(socket: &UnixStream, number: i64, descriptor: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = descriptor.into_iter().collect();
    if !descriptors.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&descriptors));
    }
    let number = number.to_le_bytes();
    rustix::net::sendmsg(socket, &[IoSlice::new(&number)], &mut control, SendFlags::empty())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::io::IoSliceMut;

    fn receive(socket: &OwnedFd) -> (i64, Option<OwnedFd>) {
        let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut number = [0; 8];
        let mut slices = [IoSliceMut::new(&mut number)];
        recvmsg(socket, &mut slices, &mut control, RecvFlags::empty()).unwrap();
        let descriptor = control.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        (i64::from_le_bytes(number), descriptor)
    }

    #[test]
    fn the_device_is_given_memory_that_nobody_can_cut_off_and_a_doorbell() {
        let (window, theirs) = Window::new().unwrap();
        assert!(matches!(receive(&theirs), (0, None)));
        assert!(matches!(receive(&theirs), (GUEST_PEER, None)));
        let (number, memory) = receive(&theirs);
        let memory = memory.unwrap();
        assert_eq!(number, MEMORY);
        assert_eq!(rustix::fs::fstat(&memory).unwrap().st_size, WINDOW_LEN as i64);
        assert!(rustix::fs::ftruncate(&memory, 0).is_err());
        let mut start = [0; 16];
        rustix::io::pread(&memory, &mut start, 0).unwrap();
        assert_eq!(start, agent_protocol::share_window::MAGIC);
        let (number, doorbell) = receive(&theirs);
        assert_eq!(number, HOST_PEER);
        rustix::io::write(doorbell.unwrap(), &1u64.to_ne_bytes()).unwrap();
        window.wait();
        assert!(window.memory().slot(0).is_free());
    }
}

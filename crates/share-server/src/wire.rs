//! The messages of `include/uapi/linux/fuse.h`: numbers, and how fields are read and written.
//!
//! Guests have the byte order of their hosts, little endian. Whoever reads here reads what a guest
//! wrote: each field is there, or the request is refused.

use rustix::io::Errno;

/// The most bytes of data in one request or answer.
pub(crate) const MAX_DATA: usize = 1 << 20;
/// The longest request or answer with its headers and names, in bytes.
pub const MAX_MESSAGE: usize = MAX_DATA + (64 << 10);
/// Bytes of the header of a request.
pub(crate) const IN_HEADER: usize = 40;
/// Bytes of the header of an answer.
pub(crate) const OUT_HEADER: usize = 16;
/// The longest name.
const MAX_NAME: usize = 255;

/// What a request asks for. The numbers are the protocol's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Opcode {
    Lookup = 1,
    Forget = 2,
    Getattr = 3,
    Setattr = 4,
    Readlink = 5,
    Symlink = 6,
    Mknod = 8,
    Mkdir = 9,
    Unlink = 10,
    Rmdir = 11,
    Rename = 12,
    Link = 13,
    Open = 14,
    Read = 15,
    Write = 16,
    Statfs = 17,
    Release = 18,
    Fsync = 20,
    Setxattr = 21,
    Getxattr = 22,
    Listxattr = 23,
    Removexattr = 24,
    Flush = 25,
    Init = 26,
    Opendir = 27,
    Readdir = 28,
    Releasedir = 29,
    Fsyncdir = 30,
    Getlk = 31,
    Setlk = 32,
    Setlkw = 33,
    Create = 35,
    Interrupt = 36,
    Destroy = 38,
    BatchForget = 42,
    Fallocate = 43,
    Readdirplus = 44,
    Rename2 = 45,
    Lseek = 46,
    CopyFileRange = 47,
    Tmpfile = 51,
}

impl Opcode {
    const ALL: [Self; 41] = [
        Self::Lookup,
        Self::Forget,
        Self::Getattr,
        Self::Setattr,
        Self::Readlink,
        Self::Symlink,
        Self::Mknod,
        Self::Mkdir,
        Self::Unlink,
        Self::Rmdir,
        Self::Rename,
        Self::Link,
        Self::Open,
        Self::Read,
        Self::Write,
        Self::Statfs,
        Self::Release,
        Self::Fsync,
        Self::Setxattr,
        Self::Getxattr,
        Self::Listxattr,
        Self::Removexattr,
        Self::Flush,
        Self::Init,
        Self::Opendir,
        Self::Readdir,
        Self::Releasedir,
        Self::Fsyncdir,
        Self::Getlk,
        Self::Setlk,
        Self::Setlkw,
        Self::Create,
        Self::Interrupt,
        Self::Destroy,
        Self::BatchForget,
        Self::Fallocate,
        Self::Readdirplus,
        Self::Rename2,
        Self::Lseek,
        Self::CopyFileRange,
        Self::Tmpfile,
    ];

    fn read(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|opcode| *opcode as u32 == number)
    }

    /// Whether the guest waits for no answer.
    pub(crate) fn is_silent(self) -> bool {
        matches!(self, Self::Forget | Self::BatchForget | Self::Interrupt)
    }
}

/// The head of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    /// `None` for what this server does not know.
    pub opcode: Option<Opcode>,
    pub unique: u64,
    pub node: u64,
}

impl Header {
    /// Reads the head; the rest is the request's body.
    pub(crate) fn read(request: &[u8]) -> Option<(Self, Body<'_>)> {
        let mut body = Body(request);
        let length = body.u32().ok()?;
        if request.len() < IN_HEADER || length as usize != request.len() {
            return None;
        }
        let opcode = Opcode::read(body.u32().ok()?);
        let (unique, node) = (body.u64().ok()?, body.u64().ok()?);
        Some((Self { opcode, unique, node }, Body(&request[IN_HEADER..])))
    }
}

/// What of a request has not been read yet.
#[derive(Clone, Copy)]
pub(crate) struct Body<'a>(&'a [u8]);

impl<'a> Body<'a> {
    #[cfg(test)]
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Errno> {
        let (array, rest) = self.0.split_first_chunk().ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(*array)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, Errno> {
        self.array().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, Errno> {
        self.array().map(u64::from_le_bytes)
    }

    /// Passes over fields that mean nothing here.
    pub(crate) fn skip(&mut self, bytes: usize) -> Result<(), Errno> {
        self.0 = self.0.get(bytes..).ok_or(Errno::INVAL)?;
        Ok(())
    }

    /// Bytes up to a NUL.
    pub(crate) fn text(&mut self) -> Result<&'a [u8], Errno> {
        let end = self.0.iter().position(|byte| *byte == 0).ok_or(Errno::INVAL)?;
        let (text, rest) = self.0.split_at(end);
        self.0 = &rest[1..];
        Ok(text)
    }

    /// The name of an entry of a folder: one that leads into the folder and nowhere else.
    pub(crate) fn name(&mut self) -> Result<&'a [u8], Errno> {
        let name = self.text()?;
        if name.len() > MAX_NAME {
            return Err(Errno::NAMETOOLONG);
        }
        if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
            return Err(Errno::INVAL);
        }
        Ok(name)
    }

    /// So many bytes of data.
    pub(crate) fn data(&mut self, length: usize) -> Result<&'a [u8], Errno> {
        let (data, rest) = self.0.split_at_checked(length).ok_or(Errno::INVAL)?;
        self.0 = rest;
        Ok(data)
    }
}

/// Writes fields of an answer.
pub(crate) trait Fields {
    fn u16(&mut self, value: u16);
    fn u32(&mut self, value: u32);
    fn u64(&mut self, value: u64);
    fn zeros(&mut self, bytes: usize);
}

impl Fields for Vec<u8> {
    fn u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn zeros(&mut self, bytes: usize) {
        self.resize(self.len() + bytes, 0);
    }
}

/// Writes the head of an answer that begins at `start`, once its length is known.
pub(crate) fn finish(answer: &mut [u8], start: usize, unique: u64, error: i32) {
    let length = (answer.len() - start) as u32;
    let head = &mut answer[start..start + OUT_HEADER];
    head[..4].copy_from_slice(&length.to_le_bytes());
    head[4..8].copy_from_slice(&error.to_le_bytes());
    head[8..].copy_from_slice(&unique.to_le_bytes());
}

/// Whether a request may keep whoever answers it for long: what flushes to a disk, or moves much.
pub fn is_slow(request: &[u8]) -> bool {
    let Some((header, _)) = Header::read(request) else { return false };
    matches!(
        header.opcode,
        Some(Opcode::Fsync | Opcode::Fsyncdir | Opcode::Fallocate | Opcode::CopyFileRange)
    )
}

/// Whether a request is answered at once and by itself: it neither takes long ([`is_slow`]) nor is about
/// a lock, which may have to wait or need another word before its answer, nor interrupts another.
pub fn is_prompt(request: &[u8]) -> bool {
    use Opcode::{Getlk, Interrupt, Setlk, Setlkw};
    let Some((header, _)) = Header::read(request) else { return false };
    !is_slow(request) && !matches!(header.opcode, Some(Getlk | Setlk | Setlkw | Interrupt))
}

/// The request that an interruption means.
pub fn interrupted(request: &[u8]) -> Option<u64> {
    let (header, mut body) = Header::read(request)?;
    (header.opcode == Some(Opcode::Interrupt)).then(|| body.u64().ok())?
}

/// Writes the answer of a request that nobody else answers: an error. `EINTR`, `ENOTCONN` and the
/// like. Nothing is written for what waits for no answer, or is no request.
pub fn failure(request: &[u8], errno: i32, answer: &mut Vec<u8>) -> bool {
    let Some((header, _)) = Header::read(request) else { return false };
    if header.opcode.is_some_and(Opcode::is_silent) {
        return false;
    }
    let start = answer.len();
    answer.zeros(OUT_HEADER);
    finish(answer, start, header.unique, -errno);
    true
}

/// Has a guest's kernel forget what it believes of a file: its attributes and its data.
pub(crate) fn forget_file(node: u64) -> Vec<u8> {
    const NOTIFY_INVAL_INODE: i32 = 2;
    let mut message = vec![0; OUT_HEADER];
    message.u64(node);
    // From the first byte to the last.
    message.zeros(16);
    finish(&mut message, 0, 0, NOTIFY_INVAL_INODE);
    message
}

/// Has a guest's kernel look up a name again.
pub(crate) fn forget_name(parent: u64, name: &[u8]) -> Vec<u8> {
    const NOTIFY_INVAL_ENTRY: i32 = 3;
    let mut message = vec![0; OUT_HEADER];
    message.u64(parent);
    message.u32(name.len() as u32);
    message.u32(0);
    message.extend_from_slice(name);
    message.push(0);
    finish(&mut message, 0, 0, NOTIFY_INVAL_ENTRY);
    message
}

/// The message that has a guest's kernel send again what was not answered (`FUSE_NOTIFY_RESEND`,
/// from Linux 6.9 on).
pub fn resend() -> [u8; OUT_HEADER] {
    const NOTIFY_RESEND: i32 = 7;
    let mut message = [0; OUT_HEADER];
    finish(&mut message, 0, 0, NOTIFY_RESEND);
    message
}

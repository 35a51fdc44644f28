//! Extended attributes: those of users (`user.*`), which the host keeps. All others have a meaning
//! for the host's own kernel, or for the guest's, and are not passed on.

use crate::place::proc_path;
use crate::share::Share;
use crate::wire::{Body, Fields};
use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// The longest value, which is the kernel's own limit, and the longest list of names.
const MAX_VALUE: usize = 64 << 10;
const PREFIX: &[u8] = b"user.";

impl Share {
    /// The path of something that can have attributes of users: a file or a folder.
    fn attributed(&self, node: u64) -> Result<(crate::place::Object, String), Errno> {
        let object = self.object(node)?;
        if !matches!(object.stat.st_mode & libc::S_IFMT, libc::S_IFREG | libc::S_IFDIR) {
            return Err(Errno::OPNOTSUPP);
        }
        let path = proc_path(&object.fd);
        Ok((object, path))
    }

    pub(crate) fn get_attribute(
        &self,
        node: u64,
        mut body: Body<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let size = body.u32()? as usize;
        body.skip(4)?;
        let name = body.text()?;
        check(name)?;
        let (_object, path) = self.attributed(node)?;
        let mut value = vec![0; MAX_VALUE];
        let length = rustix::fs::getxattr(&path, name, &mut value[..])?;
        put(&value[..length], size, out)
    }

    pub(crate) fn list_attributes(
        &self,
        node: u64,
        mut body: Body<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), Errno> {
        let size = body.u32()? as usize;
        let Ok((_object, path)) = self.attributed(node) else { return put(b"", size, out) };
        let mut names = vec![0; MAX_VALUE];
        let length = match rustix::fs::listxattr(&path, &mut names[..]) {
            Err(Errno::OPNOTSUPP) => 0,
            length => length?,
        };
        let names = names[..length].split_inclusive(|byte| *byte == 0);
        let own: Vec<u8> =
            names.filter(|name| name.starts_with(PREFIX)).flatten().copied().collect();
        put(&own, size, out)
    }

    pub(crate) fn set_attribute(&self, node: u64, mut body: Body<'_>) -> Result<(), Errno> {
        self.check_writable()?;
        let (size, flags) = (body.u32()? as usize, body.u32()?);
        let name = body.text()?;
        check(name)?;
        if size > MAX_VALUE {
            return Err(Errno::TOOBIG);
        }
        let value = body.data(size)?;
        let (_object, path) = self.attributed(node)?;
        let flags = XattrFlags::from_bits(flags).ok_or(Errno::INVAL)?;
        rustix::fs::setxattr(&path, name, value, flags)
    }

    pub(crate) fn remove_attribute(&self, node: u64, mut body: Body<'_>) -> Result<(), Errno> {
        self.check_writable()?;
        let name = body.text()?;
        check(name)?;
        let (_object, path) = self.attributed(node)?;
        rustix::fs::removexattr(&path, name)
    }
}

fn check(name: &[u8]) -> Result<(), Errno> {
    if name.starts_with(PREFIX) { Ok(()) } else { Err(Errno::OPNOTSUPP) }
}

/// Writes a value, or its length for a guest that asks how much room it needs.
fn put(value: &[u8], size: usize, out: &mut Vec<u8>) -> Result<(), Errno> {
    if size == 0 {
        out.u32(value.len() as u32);
        out.u32(0);
    } else if value.len() > size {
        return Err(Errno::RANGE);
    } else {
        out.extend_from_slice(value);
    }
    Ok(())
}

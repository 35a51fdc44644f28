//! The calls that read, write and copy files of the guest; what they do is `files`' business.

use super::Sandbox;
use crate::error::{Error, Result};
use crate::files::download::Request;
use crate::files::{DownloadOptions, Transfer, read_file, receiving, upload, write_file};
use bytes::Bytes;
use std::path::Path;

/// Files, in any network mode. A path of the guest is absolute, and any bytes: `&str`, `&[u8]`.
///
/// Each call ends with [`Error::GuestSilent`] when the guest lets it rest for 60 seconds, and with
/// [`Error::AgentBroken`] when it has waited for the guest for more than five minutes and a second for
/// each 256 KiB that it moved.
impl Sandbox {
    /// Reads a file of the guest, of at most `max_bytes` bytes.
    ///
    /// # Errors
    /// [`Error::GuestFile`] when it cannot be read, [`Error::TooLarge`] when it is larger.
    ///
    /// ```no_run
    /// # async fn example(sandbox: &sandbox::Sandbox) -> Result<(), sandbox::Error> {
    /// let release = sandbox.read_file("/etc/os-release", sandbox::DEFAULT_MAX_FILE).await?;
    /// assert!(release.starts_with(b"PRETTY_NAME"));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn read_file(&self, path: impl AsRef<[u8]>, max_bytes: u64) -> Result<Vec<u8>> {
        let machine = self.machine("read a file")?;
        let call = read_file(&machine.agent, path.as_ref().into(), max_bytes);
        machine.during("reading a file", call).await
    }

    /// Writes a file of the guest, as root, and makes missing folders above it. Whoever reads it
    /// sees the old content or the new one. A file that is there keeps its owner and, without
    /// `mode`, its permissions (a new one has 0644). A link is followed when it is root's.
    ///
    /// # Errors
    /// [`Error::GuestFile`] when it cannot be written: a pipe, socket, device or folder is there, or
    /// the way leads through a link of another user.
    pub async fn write_file(
        &self,
        path: impl AsRef<[u8]>,
        data: impl Into<Bytes>,
        mode: Option<u32>,
    ) -> Result<()> {
        let machine = self.machine("write a file")?;
        if mode.is_some_and(|mode| mode > 0o7777) {
            return Err(Error::InvalidPath {
                message: format!("`mode` is 0o{:o}", mode.unwrap_or_default()),
                hint: Some("A mode is at most 0o7777".into()),
            });
        }
        let call = write_file(&machine.agent, path.as_ref().into(), data.into(), mode);
        machine.during("writing a file", call).await
    }

    /// Copies a file or a folder with all that is in it into the guest. `guest` is the copy's path;
    /// a file goes into a folder that is there already, under its own name. Permissions, times and
    /// holes are kept, links stay links; everything belongs to root.
    ///
    /// # Errors
    /// [`Error::File`] for a file of the host, [`Error::GuestFile`] for one of the guest.
    pub async fn upload(
        &self,
        host: impl AsRef<Path>,
        guest: impl AsRef<[u8]>,
    ) -> Result<Transfer> {
        let machine = self.machine("upload")?;
        let call = upload(&machine.agent, host.as_ref(), guest.as_ref().into());
        machine.during("an upload", call).await
    }

    /// Copies a file or a folder with all that is in it out of the guest. `host` is the copy's path;
    /// a file goes into a folder that is there already, under its own name. `options` may be the
    /// most bytes alone, as an `Option<u64>`.
    ///
    /// Nothing of the host is replaced unless `options` say so, nothing is written outside of
    /// `host`, and an error leaves nothing behind. Times and holes are kept, permissions as far as
    /// the umask allows; links that lead out of the tree are left out.
    ///
    /// # Errors
    /// [`Error::GuestFile`] for a file of the guest, [`Error::WrongKind`] for a folder where a file
    /// was asked for, [`Error::HostExists`] for what is in the way, [`Error::File`] or
    /// [`Error::Transfer`] for other trouble on the host, [`Error::TooLarge`] and
    /// [`Error::TooManyEntries`] over the limits.
    pub async fn download(
        &self,
        guest: impl AsRef<[u8]>,
        host: impl AsRef<Path>,
        options: impl Into<DownloadOptions>,
    ) -> Result<Transfer> {
        let machine = self.machine("download")?;
        let request = Request {
            guest: guest.as_ref().into(),
            host: host.as_ref().to_owned(),
            options: options.into(),
        };
        let call = receiving::download(&machine.agent, request, &self.leftovers);
        let result = machine.during("a download", call).await;
        // A machine that ended has dropped the call.
        self.tidied().await;
        result
    }

    /// Waits until downloads of this sandbox that were cancelled have removed what they had written.
    pub async fn tidied(&self) {
        self.leftovers.tidied().await;
    }
}

//! The display of one machine: the file that pictures pass through, VNC's address and password,
//! and where the pointer was put.

use crate::error::{Error, Result};
use crate::plan::DisplayPlan;
use crate::qmp::Qmp;
use crate::secret;
use serde_json::json;
use std::io::{Read, Seek};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The number of the descriptor set through which QEMU writes pictures.
#[cfg(unix)]
const SET: u32 = 9;
/// Bytes of a picture's header.
const HEADER: u64 = 64;
/// VNC's authentication uses no more characters: <https://www.rfc-editor.org/rfc/rfc6143#section-7.2.2>.
const PASSWORD_LENGTH: usize = 8;

/// A VNC server that people can connect to.
#[derive(Clone, Debug)]
pub(crate) struct Vnc {
    pub port: u16,
    pub password: String,
}

/// The display of a machine.
pub(crate) struct Screen {
    file: tokio::sync::Mutex<DumpFile>,
    /// The most bytes of a picture that are read: the guest chooses its size.
    limit: u64,
    pointer: Mutex<Option<(u32, u32)>>,
    has_vnc: bool,
    vnc: OnceLock<Vnc>,
}

/// The file that QEMU writes a picture to. Without a name where descriptors can be handed over.
struct DumpFile {
    /// For QEMU.
    name: String,
    /// QEMU's own end: it shares the position with this one.
    #[cfg(unix)]
    written: std::fs::File,
    read: std::fs::File,
    #[cfg(not(unix))]
    _path: tempfile::TempPath,
}

impl Screen {
    /// Makes the file. On Unix QEMU inherits the second value as a descriptor of the set that the
    /// third one numbers.
    #[cfg(unix)]
    pub(crate) fn new(
        display: DisplayPlan,
        limit: u64,
    ) -> Result<(Self, std::os::fd::OwnedFd, u32)> {
        let failed = |source| Error::System { action: "make a file for screenshots", source };
        let named = tempfile::NamedTempFile::new().map_err(failed)?;
        let written =
            fs_err::OpenOptions::new().write(true).open(named.path()).map_err(failed)?.into_file();
        let (read, name) = named.into_parts();
        name.close().map_err(failed)?;
        let theirs = written.try_clone().map_err(failed)?;
        let file = DumpFile { name: format!("/dev/fdset/{SET}"), written, read };
        Ok((Self::with_file(file, display, limit), theirs.into(), SET))
    }

    #[cfg(not(unix))]
    pub(crate) fn new(display: DisplayPlan, limit: u64) -> Result<Self> {
        let failed = |source| Error::System { action: "make a file for screenshots", source };
        let (read, path) = tempfile::NamedTempFile::new().map_err(failed)?.into_parts();
        let file = DumpFile { name: path.to_string_lossy().into_owned(), read, _path: path };
        Ok(Self::with_file(file, display, limit))
    }

    fn with_file(file: DumpFile, display: DisplayPlan, limit: u64) -> Self {
        let has_vnc = matches!(display, DisplayPlan::Vnc { .. });
        Self {
            file: file.into(),
            limit: limit + HEADER,
            pointer: Mutex::default(),
            has_vnc,
            vnc: OnceLock::new(),
        }
    }

    /// What the screen shows, as PPM.
    pub(crate) async fn dump(&self, qmp: &Qmp) -> Result<Vec<u8>> {
        let mut file = self.file.lock().await;
        file.clear()?;
        qmp.execute("screendump", json!({"filename": file.name})).await.map_err(
            |error| match error {
                Error::Qmp { reason, .. } => Error::Screen { reason },
                error => error,
            },
        )?;
        file.take(self.limit)
    }

    /// Lets those in who know the password that is drawn here, and asks for the server's port.
    /// Without a VNC server there is nothing to do.
    pub(crate) async fn open_vnc(&self, qmp: &Qmp) -> Result<()> {
        if !self.has_vnc {
            return Ok(());
        }
        let password = secret::alphanumeric(PASSWORD_LENGTH)?;
        let arguments = json!({"protocol": "vnc", "password": password});
        qmp.execute("set_password", arguments).await?;
        let answer = qmp.execute("query-vnc", json!({})).await?;
        let port = answer["service"].as_str().and_then(|port| port.parse().ok());
        let port = port.ok_or_else(|| Error::Qmp {
            command: "query-vnc".into(),
            reason: "its answer names no port".into(),
        })?;
        // A machine starts once; nothing is there to be replaced.
        let _ = self.vnc.set(Vnc { port, password });
        Ok(())
    }

    pub(crate) fn vnc(&self) -> Option<&Vnc> {
        self.vnc.get()
    }

    pub(crate) fn pointer(&self) -> Option<(u32, u32)> {
        *self.pointer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note_pointer(&self, x: u32, y: u32) {
        *self.pointer.lock().unwrap_or_else(PoisonError::into_inner) = Some((x, y));
    }
}

impl DumpFile {
    /// QEMU truncates a file that it opens by name; a descriptor it takes as it is.
    fn clear(&mut self) -> Result<()> {
        #[cfg(unix)]
        self.written
            .set_len(0)
            .and_then(|()| self.written.rewind())
            .map_err(|source| Error::System { action: "empty the file of a screenshot", source })?;
        Ok(())
    }

    fn take(&mut self, limit: u64) -> Result<Vec<u8>> {
        let failed = |source| Error::System { action: "read a screenshot", source };
        let mut dump = Vec::new();
        self.read.rewind().map_err(failed)?;
        (&self.read).take(limit + 1).read_to_end(&mut dump).map_err(failed)?;
        if dump.len() as u64 > limit {
            return Err(Error::Screen {
                reason: format!("the guest's screen takes more than {} bytes", limit - HEADER),
            });
        }
        Ok(dump)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[tokio::test]
    async fn pictures_of_different_lengths_do_not_mix() {
        use std::io::Write;
        let (screen, theirs, _) = Screen::new(DisplayPlan::Hidden, 100).unwrap();
        let mut theirs = std::fs::File::from(theirs);
        let mut file = screen.file.lock().await;
        for content in [&b"a long one"[..], b"short"] {
            file.clear().unwrap();
            theirs.write_all(content).unwrap();
            assert_eq!(file.take(64 + 100).unwrap(), content);
        }
        file.clear().unwrap();
        theirs.write_all(&[0; 165]).unwrap();
        let error = file.take(screen.limit).unwrap_err().to_string();
        assert!(error.contains("more than 100 bytes"), "{error}");
    }
}

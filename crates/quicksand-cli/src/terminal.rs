//! The terminal that the command was called from: its size, raw mode with its way back, and the
//! file that takes a secret which must not be shown.
//!
//! Invariant: whoever enters raw mode holds a guard whose drop restores the terminal, also when
//! the stack is unwound by a panic.

use crate::report::{Failure, SANDBOX};
use std::{
    cell::Cell,
    io::{IsTerminal as _, Write as _},
    path::PathBuf,
};

/// The terminal's mode is raw while this lives.
pub struct RawMode(());

impl RawMode {
    /// Enters raw mode: every key goes to the guest, Ctrl-C included.
    pub fn enter() -> std::io::Result<Self> {
        crossterm::terminal::enable_raw_mode()?;
        Ok(Self(()))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        let _ = crossterm::terminal::disable_raw_mode();
    }
}

/// Whether a person sits at both ends: keys come from a terminal and output goes to one.
pub fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// Rows and columns; the classic size when nobody knows.
pub fn size() -> (u16, u16) {
    match crossterm::terminal::size() {
        Ok((cols, rows)) if cols > 0 && rows > 0 => (rows, cols),
        _ => (24, 80),
    }
}

/// The kind of terminal, for the guest's `TERM`.
pub fn kind() -> String {
    std::env::var("TERM").ok().filter(|term| !term.is_empty()).unwrap_or_else(|| "xterm".into())
}

/// A line on stderr that says what is being done, for a person; nothing elsewhere.
pub struct Status {
    is_terminal: bool,
}

impl Status {
    /// Nothing is shown yet.
    pub fn new() -> Self {
        Self { is_terminal: std::io::stderr().is_terminal() }
    }

    /// Whether a person sees what goes to stderr.
    pub fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Shows a line in place of the last one.
    pub fn show(&self, text: &str) {
        if self.is_terminal {
            let _ = write!(std::io::stderr(), "\r\x1b[2K{text}");
            let _ = std::io::stderr().flush();
        }
    }

    /// Takes the line away.
    pub fn clear(&self) {
        self.show("");
    }
}

/// A file that holds the password of the screen as long as this lives.
pub struct PasswordFile {
    /// Its place.
    pub path: PathBuf,
    is_written: Cell<bool>,
}

impl PasswordFile {
    /// Nothing is written yet.
    pub fn at(path: PathBuf) -> Self {
        Self { path, is_written: Cell::new(false) }
    }

    /// Writes the password for this user alone, beside the place and then into it.
    pub fn write(&self, password: &str) -> Result<(), Failure> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => std::path::Path::new("."),
        };
        // Temporary files are of mode 0600.
        let written = tempfile::NamedTempFile::new_in(folder).and_then(|mut file| {
            writeln!(file, "{password}")?;
            file.persist(&self.path).map(drop).map_err(std::io::Error::from)
        });
        written.map_err(|error| {
            let message = format!("Failed to write `{}`: {error}", self.path.display());
            Failure::new(SANDBOX, message, None)
        })?;
        self.is_written.set(true);
        Ok(())
    }
}

impl Drop for PasswordFile {
    fn drop(&mut self) {
        // What was there before a run that did not get this far is not ours.
        if self.is_written.get() {
            let _ = fs_err::remove_file(&self.path);
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn the_password_is_for_this_user_and_for_this_run() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let file = PasswordFile::at(path.clone());
        file.write("secret").unwrap();
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "secret\n");
        assert_eq!(fs_err::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(file);
        assert!(!path.exists());
        let nowhere = PasswordFile::at(folder.path().join("no/such/file"));
        assert!(nowhere.write("secret").is_err());
        fs_err::write(&path, "mine").unwrap();
        drop(PasswordFile::at(path.clone()));
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "mine");
    }
}

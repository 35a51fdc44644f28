//! The terminal that the command was called from: its size, and raw mode with its way back.
//!
//! Invariant: whoever enters raw mode holds a guard whose drop restores the terminal, also when
//! the stack is unwound by a panic.

use std::io::{IsTerminal as _, Write as _};

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

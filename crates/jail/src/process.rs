//! A program to run, and the process that it became: a direct child, also in a process namespace, so that
//! it is waited for and killed like any other.

use crate::Plan;
use crate::call::system;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;

/// What to run.
pub struct Program<'a> {
    /// The program's path.
    pub path: &'a Path,
    /// Its arguments, without its name.
    pub args: &'a [String],
    /// Descriptors that it keeps under their own numbers, of 10 and more.
    pub inherit: &'a [RawFd],
}

/// A running or ended program.
pub struct Child {
    pid: libc::pid_t,
    status: Option<ExitStatus>,
    /// What it writes to its standard output.
    pub stdout: Option<OwnedFd>,
    /// And to its standard error.
    pub stderr: Option<OwnedFd>,
    /// The walls around it.
    pub plan: Plan,
}

impl Child {
    pub(crate) fn new(
        pid: libc::pid_t,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
        plan: Plan,
    ) -> Self {
        Self { pid, status: None, stdout, stderr, plan }
    }

    /// The process number.
    pub fn id(&self) -> u32 {
        self.pid as u32
    }

    /// Ends it at once.
    ///
    /// # Errors
    /// What the system says; never for one that has been waited for.
    pub fn kill(&mut self) -> io::Result<()> {
        if self.status.is_some() {
            return Ok(());
        }
        // SAFETY: the number is this child's until it is waited for.
        system(unsafe { libc::kill(self.pid, libc::SIGKILL) }).map(drop)
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// What the system says, when somebody else has waited for it.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let mut status = 0;
        loop {
            // SAFETY: `status` is a number of this frame.
            match system(unsafe { libc::waitpid(self.pid, &mut status, 0) }) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                waited => {
                    waited?;
                    let status = ExitStatus::from_raw(status);
                    self.status = Some(status);
                    return Ok(status);
                }
            }
        }
    }
}

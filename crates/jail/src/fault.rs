//! What can go wrong in the child between fork and exec, as it is reported to the host: nothing may be allocated
//! there, so that a fault is two numbers.

/// A step of the child, as it is reported when it fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// Everything that cannot be left out.
    Process = 1,
    Identity = 2,
    Mounts = 3,
    /// Something that is to appear in the new root cannot be opened.
    Sources = 8,
    Limits = 4,
    Landlock = 5,
    Filter = 6,
    Exec = 7,
}

/// A step that failed, with the system's reason.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) stage: Stage,
    pub(crate) errno: i32,
}

/// A fault where a call gave a negative number.
pub(crate) fn checked(stage: Stage, result: i32) -> Result<(), Fault> {
    if result >= 0 {
        return Ok(());
    }
    // SAFETY: the place of the error number is this thread's own.
    Err(Fault { stage, errno: unsafe { *libc::__errno_location() } })
}

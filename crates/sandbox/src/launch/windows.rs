//! Spawning on Windows: a job object ends the child with its parent.
//!
//! Written after the documentation and not yet run on real hardware:
//! <https://learn.microsoft.com/windows/win32/procthread/job-objects>

use super::{Launch, Output, describe};
use std::io;
use std::os::windows::io::AsRawHandle;
pub(super) use std::process::Child;
use std::process::{Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::System::JobObjects::{
    AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
    JOBOBJECT_EXTENDED_LIMIT_INFORMATION, JobObjectExtendedLimitInformation,
    SetInformationJobObject,
};

/// Descriptors are not inherited on Windows: the `tcp` transport needs none.
pub(crate) enum Inherited {}

/// A handle that is never closed but by the system, when this process ends in whatever way.
struct Job(HANDLE);

// SAFETY: a job handle may be used from any thread.
unsafe impl Send for Job {}
// SAFETY: as above; the calls that take it are thread-safe.
unsafe impl Sync for Job {}

static JOB: OnceLock<Option<Job>> = OnceLock::new();

pub(super) fn spawn(launch: Launch) -> io::Result<Child> {
    // This is the one wrapper of processes in this crate.
    #[allow(clippy::disallowed_methods)]
    let mut command = Command::new(&launch.program);
    let mut child = command
        .args(&launch.args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let Some(Job(job)) = JOB.get_or_init(make_job) else {
        let _ = child.kill();
        return Err(io::Error::other("cannot make a job object"));
    };
    // SAFETY: both handles are open and belong to this process.
    if unsafe { AssignProcessToJobObject(*job, child.as_raw_handle() as HANDLE) } == 0 {
        let error = io::Error::last_os_error();
        let _ = child.kill();
        return Err(error);
    }
    Ok(child)
}

fn make_job() -> Option<Job> {
    // SAFETY: null asks for default security and no name; the structure is plain data of the size
    // that is passed.
    unsafe {
        let job = CreateJobObjectW(std::ptr::null(), std::ptr::null());
        let mut limits: JOBOBJECT_EXTENDED_LIMIT_INFORMATION = std::mem::zeroed();
        limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
        let is_set = SetInformationJobObject(
            job,
            JobObjectExtendedLimitInformation,
            (&raw const limits).cast(),
            size_of::<JOBOBJECT_EXTENDED_LIMIT_INFORMATION>() as u32,
        );
        (!job.is_null() && is_set != 0).then_some(Job(job))
    }
}

/// Looks for the end again and again, so that `kill` gets the lock in between.
pub(super) fn wait(_pid: u32, child: &Mutex<Child>) -> String {
    loop {
        let status = child.lock().unwrap_or_else(PoisonError::into_inner).try_wait();
        match status {
            Ok(Some(status)) => return describe(status),
            Ok(None) => std::thread::sleep(Duration::from_millis(20)),
            Err(error) => return error.to_string(),
        }
    }
}

pub(super) fn output(child: &mut Child) -> io::Result<Output> {
    let missing = || io::Error::other("QEMU has no output pipe");
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    Ok(Output {
        stdout: Box::new(tokio::process::ChildStdout::from_std(stdout)?),
        stderr: Box::new(tokio::process::ChildStderr::from_std(stderr)?),
    })
}

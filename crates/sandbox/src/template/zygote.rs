//! A machine that waits in memory, stopped, to be forked: each fork is a machine of its own that goes on
//! from there, with the same memory and translated code until one of them writes.
//!
//! Owns what is replaced in a fork and what becomes of its process. QEMU refuses a fork when it has
//! anything open that it does not know (`qemu/patches`, `x-fork-clone`), so that nothing is shared by
//! accident. Forks are children of the zygote: its end is theirs.

use super::store::Template;
use crate::boot::{Own, OwnEnd, Source, Start, attempt};
use crate::config::SandboxConfig;
use crate::error::{Error, Result};
use crate::execute::ExecuteRequest;
use crate::launch::{Inherited, Output, Process, adopt, output_pipe};
use crate::located::Located;
use crate::running::Machine;
use crate::sandbox::{Discard, run_to_end};
use crate::timing::{BootTiming, Stopwatch};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::Pid;
use serde_json::json;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// How often a zygote does what its template did: its code was translated in another process, and what
/// it has translated its forks need not.
const N_REHEARSALS: usize = 2;
/// How long its guest has to itself before it stops.
const REST: Duration = Duration::from_millis(50);
/// The fw_cfg item of the agent's token.
const TOKEN_ITEM: &str = agent_protocol::FW_CFG_TOKEN;
/// The descriptor set of the disk.
const DISK_SET: u64 = 0;

/// A machine that waits.
pub(crate) struct Zygote {
    machine: Machine,
    /// The template that it was copied from.
    pub template: Template,
    /// The descriptors that are replaced in each fork, with QEMU's numbers.
    own: Vec<Own>,
    /// Whoever forks: QEMU takes one command at a time then.
    turn: Mutex<()>,
}

impl Zygote {
    /// Copies a template and lets the copy come to rest. Must be called in the runtime that the machine
    /// belongs to.
    pub(super) async fn make(
        start: &Start<'_>,
        located: &Located,
        template: Template,
    ) -> Result<Self> {
        let (mut watch, mut timing) = (Stopwatch::start(), BootTiming::default());
        let source = Source::Zygote(template.clone());
        let machine = attempt(start, located, &source, &mut watch, &mut timing)
            .await
            .map_err(|failure| failure.error)?;
        for _ in 0..N_REHEARSALS {
            let request = ExecuteRequest::new(super::make::REHEARSAL)
                .timeout(Duration::from_secs(20))
                .cwd("/");
            run_to_end(&machine.agent, &request, &mut Discard).await?;
        }
        tokio::time::sleep(REST).await;
        machine.qmp.execute("stop", json!({})).await?;
        let own = numbers(&machine).await?;
        tracing::debug!(took_s = watch.total().as_secs_f64(), "a machine waits to be forked");
        Ok(Self { machine, template, own, turn: Mutex::new(()) })
    }

    /// What its agent was told.
    pub(crate) fn token(&self) -> &str {
        &self.machine.hull.token
    }

    /// Whether it can be forked still.
    pub(super) fn is_alive(&self) -> bool {
        self.machine.is_alive()
    }

    /// What it has written to its disk, which does not change while it stands still.
    pub(crate) fn disk(&self) -> &File {
        &self.machine.origin.overlay
    }

    /// Forks it. `inherit` has the new machine's descriptors, `own` says what they are, `qmp` is our end
    /// of one of them. The process ends with what is given, also when nobody waits for it any more.
    pub(crate) async fn fork(
        self: &Arc<Self>,
        inherit: Vec<Inherited>,
        own: &[Own],
        qmp: &UnixStream,
        token: &str,
    ) -> Result<(Process, Output)> {
        let failed = |source| Error::System { action: "fork a machine", source };
        let mut files = Vec::with_capacity(self.own.len());
        let mut inherit: Vec<Option<Inherited>> = inherit.into_iter().map(Some).collect();
        for theirs in &self.own {
            let ours = own.iter().find(|ours| ours.end == theirs.end).and_then(|ours| {
                inherit
                    .iter_mut()
                    .find(|file| file.as_ref().is_some_and(|file| file.number() == ours.number))?
                    .take()
            });
            let ours = ours.ok_or_else(|| {
                failed(io::Error::other(format!("the new machine has no {:?}", theirs.end)))
            })?;
            files.push((theirs.number, File::from(OwnedFd::from(ours))));
        }
        drop(inherit);
        let (stdout, their_stdout) = output_pipe().map_err(failed)?;
        let (stderr, their_stderr) = output_pipe().map_err(failed)?;
        files.push((1, their_stdout.into()));
        files.push((2, their_stderr.into()));
        rustix::net::sockopt::set_socket_passcred(qmp, true).map_err(|e| failed(e.into()))?;
        let ours = rustix::io::fcntl_dupfd_cloexec(qmp, 0).map_err(|e| failed(e.into()))?;
        let ours = UnixStream::from_std(ours.into()).map_err(failed)?;
        let (zygote, token) = (Arc::clone(self), token.to_owned());
        // A task of its own: a fork that was given up half-way would be a process that nobody ends.
        let forking = tokio::spawn(async move { zygote.fork_now(files, &ours, &token).await });
        let process =
            forking.await.map_err(|error| failed(io::Error::other(error.to_string())))??;
        Ok((process, Output { stdout: Box::new(stdout), stderr: Box::new(stderr) }))
    }

    async fn fork_now(
        &self,
        files: Vec<(i32, File)>,
        qmp: &UnixStream,
        token: &str,
    ) -> Result<Process> {
        let _turn = self.turn.lock().await;
        let mut fds = Vec::with_capacity(files.len());
        for (index, (number, file)) in files.into_iter().enumerate() {
            // The same names each time: a file that a fork left unused is closed by the next one.
            let name = format!("fork{index}");
            self.machine.qmp.name_file(file, &name).await?;
            fds.push(json!({ "fdname": name, "fd": number }));
        }
        let firmware = json!([{ "name": TOKEN_ITEM, "text": token }]);
        let arguments = json!({ "fds": fds, "firmware": firmware });
        let answer = self.machine.qmp.execute("x-fork-clone", arguments).await?;
        let inner = answer["pid"].as_u64().unwrap_or_default();
        tracing::debug!(%answer, "a machine was forked");
        let failed = |source| Error::System { action: "find a forked machine", source };
        let pid = sender(qmp).await.map_err(failed)?;
        adopt(pid, self.machine.hull.process.pid(), inner).map_err(failed)
    }
}

/// QEMU's numbers of what is replaced: those at its start, and for the disk one of its set, which has
/// copies of them.
async fn numbers(machine: &Machine) -> Result<Vec<Own>> {
    let sets = machine.qmp.execute("query-fdsets", json!({})).await?;
    let set = sets.as_array().into_iter().flatten().find(|set| set["fdset-id"] == DISK_SET);
    let number = set.and_then(|set| set["fds"][0]["fd"].as_i64()).unwrap_or(-1) as i32;
    let of_disk = |end| matches!(end, OwnEnd::Disk | OwnEnd::DiskForReading);
    let own = machine.hull.own.iter();
    Ok(own.map(|own| if of_disk(own.end) { Own { number, ..*own } } else { *own }).collect())
}

/// The process that sent the first bytes, which stay to be read: the kernel's word, and not the
/// sender's. See `SO_PASSCRED` in unix(7).
async fn sender(socket: &UnixStream) -> io::Result<Pid> {
    let peek = || {
        let mut byte = [0];
        let mut room = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
        let mut message = RecvAncillaryBuffer::new(&mut room);
        let mut parts = [IoSliceMut::new(&mut byte)];
        let received = recvmsg(socket, &mut parts, &mut message, RecvFlags::PEEK)?;
        if received.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let found = message.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmCredentials(credentials) => Some(credentials.pid),
            _ => None,
        });
        found.ok_or_else(|| io::Error::other("the sender is not told"))
    };
    let waiting = socket.async_io(tokio::io::Interest::READABLE, peek);
    let silent = Err(io::ErrorKind::TimedOut.into());
    tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap_or(silent)
}

/// The configuration of a zygote: that of its template.
pub(super) fn config(config: &SandboxConfig) -> SandboxConfig {
    super::make::plain_config(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[tokio::test]
    async fn the_sender_of_the_first_bytes_is_told_and_they_stay() {
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        rustix::net::sockopt::set_socket_passcred(&ours, true).unwrap();
        theirs.write_all(b"first").unwrap();
        ours.set_nonblocking(true).unwrap();
        let ours = UnixStream::from_std(ours).unwrap();
        assert_eq!(sender(&ours).await.unwrap(), rustix::process::getpid());
        let mut bytes = [0; 5];
        tokio::io::AsyncReadExt::read_exact(&mut { ours }, &mut bytes).await.unwrap();
        assert_eq!(&bytes, b"first");
    }
}

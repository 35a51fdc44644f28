//! A machine that can be forked: each fork is a process of its own that goes on from there, with the same
//! memory and translated code until one of them writes.
//!
//! Owns what is replaced in a fork and what becomes of its process. QEMU refuses a fork when it has
//! anything open that it does not know (`qemu/patches`, `x-fork-clone`), so that nothing is shared by
//! accident.

use crate::error::{Error, Result};
use crate::launch::{Inherited, Output, Process, adopt, end_in, namespace_of, output_pipe};
use crate::located::FORK_COMMAND;
use crate::qemu_process::{Own, OwnEnd, QemuProcess};
use crate::qmp::Qmp;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::process::Pid;
use serde_json::json;
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// QEMU's words for what passes by itself on a busy host: a thread that has just ended is still counted, a command
/// waits, an answer is not read yet.
const PASSING: [&str; 3] = ["threads, and", "waits for its turn", "not been read to the end"];
/// How long is waited before each further try, in milliseconds. The machine may stand still meanwhile.
const PAUSES: [u64; 6] = [2, 5, 10, 20, 50, 100];
/// How long a fork may take to its first word on its monitor.
const FIRST_WORD: Duration = Duration::from_secs(10);
/// The fw_cfg item of the agent's token.
const TOKEN_ITEM: &str = agent_protocol::FW_CFG_TOKEN;

/// Whose end is a fork's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// That of the process that it was forked from.
    Parent,
    /// That of the first process of their namespace, from which both descend.
    Namespace,
}

/// What is known of a machine for its forks.
pub(crate) struct Parent {
    qmp: Arc<Qmp>,
    pid: u32,
    /// The descriptors that are replaced in each fork, with QEMU's numbers.
    own: Vec<Own>,
    bound: Bound,
    /// The namespace of its forks, where they can outlive it.
    namespace: Option<PathBuf>,
    /// Whoever forks: QEMU takes one command at a time then.
    turn: Mutex<()>,
}

/// What a fork is to have.
pub(crate) struct Ready {
    /// Its files, each with QEMU's number of the one in whose place it comes.
    files: Vec<(i32, File)>,
    token: String,
    /// Our end of its monitor.
    qmp: UnixStream,
    output: Output,
}

impl Parent {
    /// The disk is the one of this descriptor set.
    pub(crate) async fn new(
        qemu: &QemuProcess,
        qmp: Arc<Qmp>,
        set: u32,
        bound: Bound,
    ) -> Result<Self> {
        let own = numbers(qemu, &qmp, set).await?;
        let pid = qemu.process.pid();
        let namespace = match bound {
            Bound::Parent => None,
            Bound::Namespace => Some(namespace_of(pid).map_err(failed)?),
        };
        Ok(Self { qmp, pid, own, bound, namespace, turn: Mutex::default() })
    }

    /// QEMU's numbers of the descriptors that no two machines share.
    pub(crate) fn own(&self) -> &[Own] {
        &self.own
    }

    /// Takes note of another descriptor as that of the disk.
    pub(crate) fn move_disk(&mut self, number: i32) {
        for own in &mut self.own {
            if is_disk(own.end) {
                own.number = number;
            }
        }
    }

    /// Forks a machine that stands still, and lets the fork run. `inherit` has the new machine's
    /// descriptors, `own` says what they are, `qmp` is our end of one of them. The process ends with what
    /// is given, also when nobody waits for it any more.
    pub(crate) async fn fork(
        self: &Arc<Self>,
        inherit: Vec<Inherited>,
        own: Vec<Own>,
        qmp: &UnixStream,
        token: &str,
    ) -> Result<(Process, Output)> {
        let (parent, token) = (Arc::clone(self), token.to_owned());
        let qmp = second(qmp)?;
        // A task of its own: a fork that was given up half-way would be a process that nobody ends.
        let forking = tokio::spawn(async move {
            let _turn = parent.turn.lock().await;
            let mut ready = parent.prepare(inherit, &own, qmp, token)?;
            let number = parent.fork_now(&mut ready, true).await?;
            parent.adopt(ready, number).await
        });
        forking.await.map_err(|error| failed(io::Error::other(error.to_string())))?
    }

    /// Puts together what a fork is to have.
    pub(crate) fn prepare(
        &self,
        inherit: Vec<Inherited>,
        own: &[Own],
        qmp: UnixStream,
        token: String,
    ) -> Result<Ready> {
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
        rustix::net::sockopt::set_socket_passcred(&qmp, true).map_err(|e| failed(e.into()))?;
        let output = Output { stdout: Box::new(stdout), stderr: Box::new(stderr) };
        Ok(Ready { files, token, qmp, output })
    }

    /// Forks a machine that stands still; gives the fork's number in its namespace. A machine that ends over it
    /// leaves no fork behind.
    pub(crate) async fn fork_now(&self, ready: &mut Ready, runs: bool) -> Result<u64> {
        let firmware = json!([{ "name": TOKEN_ITEM, "text": ready.token }]);
        let (numbers, files): (Vec<i32>, Vec<_>) =
            std::mem::take(&mut ready.files).into_iter().unzip();
        let mut arguments = json!({ "fds": numbers, "firmware": firmware, "cont": runs });
        if self.bound == Bound::Namespace {
            arguments["bound"] = json!(false);
        }
        let mut pauses = PAUSES.into_iter();
        let answer = loop {
            let same: io::Result<_> = files.iter().map(File::try_clone).collect();
            let same = same.map_err(failed)?;
            match self.qmp.execute_with(FORK_COMMAND, arguments.clone(), same).await {
                Err(Error::Qmp { reason, .. })
                    if PASSING.iter().any(|words| reason.contains(words))
                        && let Some(pause) = pauses.next() =>
                {
                    tracing::debug!(reason, "a fork is tried again");
                    tokio::time::sleep(Duration::from_millis(pause)).await;
                }
                answer => break answer,
            }
        };
        if answer.is_err() {
            self.end_orphan(&ready.qmp).await;
        }
        let answer = answer?;
        tracing::debug!(%answer, "a machine was forked");
        Ok(answer["pid"].as_u64().unwrap_or_default())
    }

    /// Takes over the process of a fork.
    pub(crate) async fn adopt(&self, ready: Ready, number: u64) -> Result<(Process, Output)> {
        let Ready { qmp, output, .. } = ready;
        let silent = Err(io::ErrorKind::TimedOut.into());
        let sender = tokio::time::timeout(FIRST_WORD, sender(&qmp)).await.unwrap_or(silent);
        let adopted = sender.and_then(|pid| adopt(pid, self.pid, number));
        match adopted {
            Ok(process) => Ok((process, output)),
            Err(source) => {
                self.end_orphan(&qmp).await;
                Err(Error::System { action: "find a forked machine", source })
            }
        }
    }

    /// Ends a fork that nobody has taken over, which would go on for ever, also one that comes late. Only where
    /// the parent has ended is it waited for: a parent that refuses makes none.
    async fn end_orphan(&self, qmp: &UnixStream) {
        let (Some(namespace), Ok(qmp)) = (self.namespace.clone(), second(qmp)) else { return };
        let ending = tokio::spawn(async move {
            if let Ok(pid) = sender(&qmp).await {
                let ended = end_in(pid, &namespace);
                tracing::debug!(?pid, ?ended, "a fork that nobody has taken over is ended");
            }
        });
        if !self.qmp.is_connected() {
            let _ = tokio::time::timeout(FIRST_WORD, ending).await;
        }
    }
}

fn failed(source: io::Error) -> Error {
    Error::System { action: "fork a machine", source }
}

/// The same socket another time.
pub(crate) fn second(socket: &UnixStream) -> Result<UnixStream> {
    let ours = rustix::io::fcntl_dupfd_cloexec(socket, 0).map_err(|e| failed(e.into()))?;
    UnixStream::from_std(ours.into()).map_err(failed)
}

fn is_disk(end: OwnEnd) -> bool {
    matches!(end, OwnEnd::Disk | OwnEnd::DiskForReading)
}

/// QEMU's numbers of what is replaced: those at its start, and for the disk one of its set, which has
/// copies of them.
async fn numbers(qemu: &QemuProcess, qmp: &Qmp, disk_set: u32) -> Result<Vec<Own>> {
    let sets = qmp.execute("query-fdsets", json!({})).await?;
    let set = sets.as_array().into_iter().flatten().find(|set| set["fdset-id"] == disk_set);
    let number = set.and_then(|set| set["fds"][0]["fd"].as_i64()).unwrap_or(-1) as i32;
    let own = qemu.own.iter();
    Ok(own.map(|own| if is_disk(own.end) { Own { number, ..*own } } else { *own }).collect())
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
        found.ok_or_else(|| io::Error::other("the socket does not name the sender"))
    };
    socket.async_io(tokio::io::Interest::READABLE, peek).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;

    #[test]
    fn what_passes_is_what_qemu_says() {
        let patch =
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../qemu/patches/10.2-fork-clone.patch");
        let patch = fs_err::read_to_string(patch).unwrap();
        for words in PASSING {
            assert!(patch.contains(words), "{words}");
        }
    }

    #[tokio::test]
    async fn the_sender_of_the_first_bytes_is_known_and_they_stay() {
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

//! A running machine is forked: one child from the machine itself, while it stands still for a moment; for
//! several a copy of its process stands still, the machine goes on, and they are forked from the copy, so
//! that the machine's moment is as short as for one. Under software emulation alone, for machines that are
//! forks themselves.
//!
//! Owns the moment when the machine stands still, and what becomes of its disk in it. What it has written is
//! copied while that is little. Otherwise it becomes a layer that nobody writes to any more, below an empty
//! one for the machine and an empty one for each child: nothing is copied then. QEMU has such a file open
//! in the machine, and each child has another one of the same bytes in its place.
//!
//! Invariant: whatever fails leaves the machine running, with its disk whole.

use super::assembly;
use super::wires::Wires;
use super::{ForkedFrom, Source};
use crate::blocking::blocking;
use crate::config::SandboxConfig;
use crate::error::{Error, Result};
use crate::fork_source::{Bound, Parent, Ready, Still, Zygote, second};
use crate::guest_memory::copy_sparse;
use crate::launch::{Inherited, Output, Process};
use crate::located::Located;
use crate::machine::Machine;
use crate::overlay::blank;
use crate::plan::DRIVE;
use crate::qemu_process::Own;
use crate::qmp::Qmp;
use crate::quota::used;
use crate::usernet::{Connection, UserNet};
use serde_json::json;
use std::fs::File;
use std::io;
use std::sync::{Arc, OnceLock};
use tokio::net::UnixStream;

/// What of a disk is copied while the machine stands still: less than a new layer costs.
const LITTLE: u64 = 4 << 20;
/// The most layers above the image's disks. Each is a file to look into for every block that nobody above
/// has written. From here on what is on top is copied, however much it is.
const MAX_LAYERS: usize = 16;
/// The descriptor set of the first new layer; those of saves and images are others.
const FIRST_SET: u32 = 1000;

/// A machine that is about to stand still for a moment.
pub(crate) struct Pause {
    machine: Arc<Machine>,
    parent: Parent,
    pub(super) zygote: Arc<Zygote>,
    /// What lies between the copy's disk and the image's own.
    pub(super) layers: Vec<Arc<File>>,
    /// What goes on top of the machine's disk, unless that is copied.
    cover: Option<Cover>,
    /// The connections that the guest had when it stood still.
    connections: OnceLock<Vec<Connection>>,
}

/// A new layer, which QEMU has open.
struct Cover {
    file: Arc<File>,
    set: u32,
    node: String,
    /// What the machine writes to until then, open for reading alone, and its descriptor set.
    below: Arc<File>,
    below_set: u32,
}

/// Makes a copy of a running machine. The machine stands still for a moment, goes on, and gets the time.
pub(crate) async fn stand(
    machine: Arc<Machine>,
    config: SandboxConfig,
    located: Located,
) -> Result<Still> {
    paused(machine, |pause| async move { copy(&pause, config, located).await }).await
}

/// The same for whoever holds the machine's state.
pub(crate) async fn stand_held(
    machine: &Arc<Machine>,
    config: SandboxConfig,
    located: Located,
) -> Result<Still> {
    paused_held(machine, |pause| async move { copy(&pause, config, located).await }).await
}

/// Does something with a machine that is about to stand still, and holds its state until then.
pub(crate) async fn paused<T: Send + 'static, F: Future<Output = Result<T>> + Send>(
    machine: Arc<Machine>,
    work: impl FnOnce(Arc<Pause>) -> F + Send + 'static,
) -> Result<T> {
    // A task of its own: half of it would leave the machine standing still.
    let work = tokio::spawn(async move {
        let checkpoints = machine.lock_state("fork").await?;
        if checkpoints.are_on_disk() {
            // They are in the file that would become a layer.
            return Err(cannot("it has checkpoints on its disk"));
        }
        paused_held(&machine, work).await
    });
    work.await.map_err(|error| failed(io::Error::other(error.to_string())))?
}

async fn paused_held<T, F: Future<Output = Result<T>>>(
    machine: &Arc<Machine>,
    work: impl FnOnce(Arc<Pause>) -> F,
) -> Result<T> {
    machine.check_quota()?;
    let pause = Arc::new(Pause::new(machine).await?);
    let done = work(Arc::clone(&pause)).await;
    if done.is_err() {
        pause.take_back().await;
    }
    done
}

fn cannot(reason: &str) -> Error {
    Error::CannotFork { reason: reason.into() }
}

fn failed(source: io::Error) -> Error {
    Error::System { action: "fork a running machine", source }
}

async fn copy(pause: &Arc<Pause>, config: SandboxConfig, located: Located) -> Result<Still> {
    let source = Source::Stand(Arc::clone(pause));
    let prepared = blocking(move || assembly::prepare(&config, &located, &source)).await?;
    let (qemu, wires, origin) = prepared.launch().await?;
    let Wires::Socket { qmp, agent, .. } = wires else {
        return Err(cannot("the transport is not `socket`"));
    };
    let qmp = Arc::new(Qmp::for_fork(qmp).await?);
    let place = pause.place();
    let parent = Parent::new(&qemu, qmp, place.1, Bound::Namespace).await?;
    let (token, had_shares) = pause.past();
    Ok(Still {
        parent: Arc::new(parent),
        zygote: Arc::clone(&pause.zygote),
        disk: origin.overlay(),
        layers: pause.layers.clone(),
        place,
        token: token.to_owned(),
        had_shares,
        connections: pause.connections().to_vec(),
        identity: pause.machine.agent.identity(),
        qemu,
        _agent: agent,
    })
}

impl Pause {
    /// Prepares everything that can be prepared while the machine runs.
    async fn new(machine: &Arc<Machine>) -> Result<Self> {
        let zygote = machine.zygote.clone();
        let zygote = zygote.ok_or_else(|| {
            cannot("it is no fork itself of a machine that waits in memory (`warm=\"fork\"`)")
        })?;
        if !zygote.is_first {
            return Err(cannot(
                "its children would end with it: there is no process namespace on this host",
            ));
        }
        let (origin, qmp) = (&machine.origin, Arc::clone(&machine.qmp));
        let mut parent = Parent::new(&machine.qemu, qmp, origin.set(), Bound::Namespace).await?;
        let mut layers = machine.own_layers();
        let is_little = used(&origin.overlay()).map_err(failed)? <= LITTLE;
        let cover = if is_little || layers.len() >= MAX_LAYERS {
            None
        } else {
            let (cover, number) = Cover::make(machine).await?;
            parent.move_disk(number);
            layers.push(Arc::clone(&cover.below));
            Some(cover)
        };
        Ok(Self {
            machine: Arc::clone(machine),
            parent,
            zygote,
            layers,
            cover,
            connections: OnceLock::new(),
        })
    }

    /// How many layers the copy counts as its own, and QEMU's descriptor set of its disk.
    pub(super) fn place(&self) -> (usize, u32) {
        let origin = &self.machine.origin;
        match &self.cover {
            None => (origin.n_counted(), origin.set()),
            // Asked before and after the machine has got the layer itself.
            Some(cover) if origin.set() == cover.set => (origin.n_counted(), cover.set),
            Some(cover) => (origin.n_counted() + 1, cover.set),
        }
    }

    /// The token that the machine's agent was given, and whether it had shares by FUSE.
    pub(super) fn past(&self) -> (&str, bool) {
        let of = &self.machine.qemu;
        (&of.token, of.has_used_shares())
    }

    /// The connections that the copy's guest believes to have.
    pub(super) fn connections(&self) -> &[Connection] {
        self.connections.get().map(Vec::as_slice).unwrap_or_default()
    }

    /// Forks the machine while it stands still. The copy has `disk` for its own, and runs where it is not
    /// to be forked itself.
    async fn fork(
        self: &Arc<Self>,
        runs: bool,
        inherit: Vec<Inherited>,
        own: Vec<Own>,
        qmp: &UnixStream,
        token: &str,
        disk: Arc<File>,
    ) -> Result<(Process, Output)> {
        let ready = self.parent.prepare(inherit, &own, second(qmp)?, token.to_owned())?;
        let pause = Arc::clone(self);
        // A task of its own: a start that is given up would leave the machine standing still.
        let standing = tokio::spawn(async move {
            // To its end: a fork of a machine that ends over it is looked for.
            pause.stand_still(ready, disk, runs).await
        });
        standing.await.map_err(|error| failed(io::Error::other(error.to_string())))?
    }

    async fn stand_still(
        &self,
        mut ready: Ready,
        disk: Arc<File>,
        runs: bool,
    ) -> Result<(Process, Output)> {
        let monitor = &self.machine.qmp;
        monitor.execute("stop", json!({})).await?;
        let forked = async {
            let net = self.machine.qemu.net();
            self.connections.get_or_init(|| net.map(UserNet::connections).unwrap_or_default());
            self.keep_disk(disk).await?;
            self.parent.fork_now(&mut ready, runs).await
        };
        let forked = forked.await;
        // Whatever has become of it: the machine goes on.
        let gone_on = monitor.execute("cont", json!({})).await;
        self.machine.tell_time_beside();
        let process = self.parent.adopt(ready, forked?).await?;
        gone_on.map(|_| process)
    }

    /// Keeps what the machine has written for the copy. QEMU has put the file in order when the machine
    /// stands still.
    async fn keep_disk(&self, disk: Arc<File>) -> Result<()> {
        let origin = &self.machine.origin;
        let Some(cover) = &self.cover else {
            let written = origin.overlay();
            let copying = move || disk.set_len(0).and_then(|()| copy_sparse(&written, &disk));
            return blocking(move || copying().map_err(failed)).await;
        };
        let qmp = &self.machine.qmp;
        let arguments = json!({ "node": DRIVE, "overlay": cover.node });
        qmp.execute("blockdev-snapshot", arguments).await?;
        origin.cover(Arc::clone(&cover.file), cover.set, Arc::clone(&cover.below));
        // Two processes may have it open for reading, and neither for more.
        qmp.execute("remove-fd", json!({ "fdset-id": cover.below_set })).await?;
        let below = cover.below.try_clone().map_err(failed)?;
        qmp.pass_file(below, cover.below_set).await?;
        Ok(())
    }

    /// Takes a layer back that the machine has not come to write to.
    async fn take_back(&self) {
        if let Some(cover) = &self.cover
            && cover.set != self.machine.origin.set()
        {
            cover.remove(&self.machine.qmp).await;
        }
    }
}

impl Cover {
    /// Makes it and has QEMU open it; gives QEMU's number of it.
    async fn make(machine: &Machine) -> Result<(Self, i32)> {
        let (origin, qmp) = (&machine.origin, &machine.qmp);
        let (file, read_only) = blank(origin.size)?;
        let below = crate::new_file::reopened(&origin.overlay()).map_err(failed)?;
        let set = FIRST_SET.max(origin.set() + 1);
        let cover = Self {
            file: Arc::new(file),
            set,
            node: format!("above{set}"),
            below: Arc::new(below),
            below_set: origin.set(),
        };
        let opened = async {
            let number = qmp.pass_file(cover.file.try_clone().map_err(failed)?, set).await?;
            qmp.pass_file(read_only.into(), set).await?;
            // As the disk of a start (`qemu_args.rs`).
            let node = json!({
                "driver": "qcow2",
                "node-name": cover.node,
                "cache": { "no-flush": true },
                "discard": "unmap",
                "detect-zeroes": "unmap",
                "file": {
                    "driver": "file", "filename": format!("/dev/fdset/{set}"), "locking": "off",
                },
                "backing": null,
            });
            qmp.execute("blockdev-add", node).await?;
            Ok(number)
        };
        match opened.await {
            Ok(number) => Ok((cover, number)),
            Err(error) => {
                cover.remove(qmp).await;
                Err(error)
            }
        }
    }

    /// Has QEMU close it. What is left of it there is refused by later forks.
    async fn remove(&self, qmp: &Qmp) {
        let removed = qmp.execute("blockdev-del", json!({ "node-name": self.node })).await;
        let closed = qmp.execute("remove-fd", json!({ "fdset-id": self.set })).await;
        if let Err(error) = removed.and(closed) {
            tracing::debug!(%error, "a layer that is not used stays open");
        }
    }
}

impl ForkedFrom {
    pub(super) async fn fork(
        &self,
        inherit: Vec<Inherited>,
        own: Vec<Own>,
        qmp: &UnixStream,
        token: &str,
        disk: Arc<File>,
    ) -> Result<(Process, Output)> {
        match self {
            Self::Waiting(parent) => parent.fork(inherit, own, qmp, token).await,
            Self::Running { pause, runs } => {
                pause.fork(*runs, inherit, own, qmp, token, disk).await
            }
        }
    }

    /// QEMU's numbers of the descriptors that no two machines share.
    pub(super) fn own(&self) -> Vec<Own> {
        match self {
            Self::Waiting(parent) => parent.own().to_vec(),
            Self::Running { pause, .. } => pause.parent.own().to_vec(),
        }
    }
}

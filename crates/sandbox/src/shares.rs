//! The host's shares while a machine runs: what is mounted, and in which order host and guest act.
//!
//! The guest's kernel asks by FUSE for what is shared, on a port of the machine's own (`share_port`),
//! and `share_server` answers below the one folder. Images without an agent for that have SMB: the
//! guest reaches the SMB server in this process (`server`) at 10.0.2.100:445 through `usernet`,
//! with credentials that exist for this machine alone. Each share is confined to its folder
//! (`folder`, by `cap-std`); read-only is enforced twice, by the folder and by the user's right.
//! Mounting asks the guest; taking a share back does not: it is withdrawn here first.

mod attempt;
mod folder;
mod fuse;
mod link;
mod node;
mod open;
mod server;

use crate::agent_client::AgentClient;
use crate::error::{Error, Result};
use crate::mount::{Mount, MountHandle, MountType, plan9_tag};
use crate::qemu_process::QemuProcess;
#[cfg(target_os = "linux")]
use crate::share_port::Channel;
use crate::usernet;
use agent_protocol::{MountRequest, UnmountRequest};
use attempt::{Attempt, farewell};
use folder::Revocation;
use server::{Served, Server};
use std::net::SocketAddrV4;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::Mutex as Turn;

/// Where the guest finds the server.
const ADDRESS: SocketAddrV4 = SocketAddrV4::new(usernet::SHARES, 445);

/// What is mounted.
#[derive(Default)]
pub(crate) struct Shares {
    active: Mutex<Vec<Active>>,
    /// One mount or unmount talks to the guest at a time; the rest wait for their turn.
    turn: Arc<Turn<Serving>>,
}

struct Active {
    handle: MountHandle,
    backing: Backing,
}

/// Who serves a share on the host.
#[derive(Clone)]
enum Backing {
    /// Our server of FUSE's requests, under the share's number.
    #[cfg(target_os = "linux")]
    Fuse(Arc<Channel>, u32),
    /// Our SMB server.
    Smb(Revocation),
    /// QEMU, until the machine ends.
    Plan9,
}

impl Backing {
    /// Serves it no more. Waits for nobody.
    fn revoke(&self) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Fuse(channel, number) => channel.remove(*number),
            Self::Smb(revocation) => revocation.revoke(),
            Self::Plan9 => {}
        }
    }
}

/// The two ends of a running machine that a share needs.
#[derive(Clone, Copy)]
pub(crate) struct Guest<'a> {
    pub qemu: &'a QemuProcess,
    pub agent: &'a AgentClient,
}

/// The server while there is a need for it.
#[derive(Default)]
struct Serving {
    server: Option<Arc<Server>>,
    last_id: u64,
}

fn failed(share: impl std::fmt::Display, reason: impl std::fmt::Display) -> Error {
    Error::Mount {
        action: "mount",
        share: share.to_string(),
        reason: reason.to_string(),
        hint: None,
    }
}

/// The error of a share that the guest refused.
fn refused_by_guest(action: &'static str, guest: &str, error: Error) -> Error {
    match error {
        Error::AgentRefused { message, hint, .. } | Error::InvalidPath { message, hint } => {
            Error::Mount { action, share: guest.to_owned(), reason: message, hint }
        }
        error => error,
    }
}

impl Serving {
    /// The server, made when it is not there yet.
    fn server(&mut self, qemu: &QemuProcess) -> Result<Arc<Server>> {
        let Some(net) = qemu.net() else {
            return Err(Error::Mount {
                action: "mount",
                share: "cifs".into(),
                reason: "this machine was started without a network for shares".into(),
                hint: Some(
                    "Use an image of this release, or transport=\"socket\" and a network mode other than \
                     none, or name a share at the start"
                        .into(),
                ),
            });
        };
        if let Some(server) = &self.server {
            return Ok(Arc::clone(server));
        }
        let server = Arc::new(Server::new(net.budget())?);
        let dial = Arc::downgrade(&server);
        net.offer(ADDRESS, move || {
            let server = dial.upgrade();
            async move { server.ok_or(std::io::ErrorKind::ConnectionRefused)?.connect().await }
        });
        self.server = Some(Arc::clone(&server));
        Ok(server)
    }

    /// Serves no more what was revoked.
    async fn sweep(&mut self) -> bool {
        match &self.server {
            Some(server) => server.sweep().await,
            None => false,
        }
    }
}

impl Shares {
    /// What is mounted.
    pub(crate) fn active(&self) -> Vec<MountHandle> {
        self.list().iter().map(|active| active.handle.clone()).collect()
    }

    /// Gives the shares that were mounted just now the names that their users know them by.
    #[cfg(target_os = "linux")]
    pub(crate) async fn take_over(&self, handles: &[MountHandle]) {
        let mut turn = self.turn.lock().await;
        turn.last_id = handles.iter().map(|handle| handle.id).fold(turn.last_id, u64::max);
        for (active, handle) in self.list().iter_mut().zip(handles) {
            active.handle.id = handle.id;
        }
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Active>> {
        self.active.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mounts one; 9p's device with the tag of this index is there already.
    pub(crate) async fn mount(
        &self,
        guest: Guest<'_>,
        mount: &Mount,
        index: usize,
    ) -> Result<MountHandle> {
        let has_fuse = guest.qemu.has_share_port();
        let mut mount = mount.clone();
        let is_chosen = mount.kind == MountType::Auto;
        if is_chosen {
            // What only FUSE can do is refused where there is none.
            let wants_fuse = has_fuse || mount.is_for_fuse();
            mount.kind = if wants_fuse { MountType::Fuse } else { MountType::Cifs };
        }
        match self.mount_as(guest, &mount, index).await {
            // An image with our agent on a kernel without FUSE.
            Err(GuestError { has_no_fuse: true, .. })
                if is_chosen && !mount.is_for_fuse() && guest.qemu.net().is_some() =>
            {
                mount.kind = MountType::Cifs;
                self.mount_as(guest, &mount, index).await.map_err(|failure| failure.error)
            }
            result => result.map_err(|failure| failure.error),
        }
    }

    async fn mount_as(
        &self,
        guest: Guest<'_>,
        mount: &Mount,
        index: usize,
    ) -> std::result::Result<MountHandle, GuestError> {
        let is_file = check_host(mount)?;
        let mut turn = Arc::clone(&self.turn).lock_owned().await;
        if self.list().iter().any(|active| active.handle.mount.guest == mount.guest) {
            return Err(failed(&mount.guest, "something is shared there already").into());
        }
        turn.last_id += 1;
        let handle = MountHandle { id: turn.last_id, mount: mount.clone() };
        let mut request = MountRequest {
            source: plan9_tag(index),
            target: mount.guest.clone(),
            kind: mount.kind.name().to_owned(),
            options: String::new(),
            readonly: mount.readonly,
            file: is_file,
        };
        let mut server = None;
        let backing = match mount.kind {
            MountType::Fuse | MountType::Auto => {
                request.source = handle.id.to_string();
                fuse::backing(guest.qemu, mount, handle.id)?
            }
            MountType::Cifs => {
                server = Some(turn.server(guest.qemu)?);
                Backing::Smb(Revocation::default())
            }
            MountType::Plan9 => {
                request.options =
                    "trans=virtio,version=9p2000.L,msize=262144,cache=mmap".to_owned();
                Backing::Plan9
            }
        };
        // From here on whatever ends this, the host's own doubts included, takes the share back.
        let mut attempt = Attempt {
            turn: Some(turn),
            backing: backing.clone(),
            agent: guest.agent.clone(),
            target: mount.guest.clone(),
        };
        match (&backing, server) {
            #[cfg(target_os = "linux")]
            (Backing::Fuse(channel, number), _) => {
                fuse::serve(guest.qemu, mount, channel, *number).await?;
            }
            (Backing::Smb(revocation), Some(server)) => {
                let name = format!("share{}", handle.id);
                request.source = format!("//{}/{name}", ADDRESS.ip());
                request.options = server.options(*ADDRESS.ip());
                let mount = Mount { host: mount.host_path(), ..mount.clone() };
                let served = server.add(Served { name, mount, revocation: revocation.clone() });
                served.await.map_err(|error| failed(handle.mount.host.display(), error))?;
            }
            _ => {}
        }
        guest.agent.mount(&request).await.map_err(|error| {
            let has_no_fuse = mount.kind == MountType::Fuse
                && matches!(&error, Error::AgentRefused { message, .. } if message.contains("file system"));
            GuestError { error: refused_by_guest("mount", &mount.guest, error), has_no_fuse }
        })?;
        self.list().push(Active { handle: handle.clone(), backing });
        attempt.turn = None;
        Ok(handle)
    }

    /// Takes a share back on the host, where that takes effect at once, and says whether the guest is to be
    /// reported by `clear`. A 9p device is QEMU's until the machine ends, so that only its mount point goes.
    pub(crate) async fn revoke(
        &self,
        guest: Guest<'_>,
        handle: &MountHandle,
        force: bool,
    ) -> Result<bool> {
        let target = &handle.mount.guest;
        let not_mounted = || Error::Mount {
            action: "unmount",
            share: target.clone(),
            reason: "it is not mounted".into(),
            hint: None,
        };
        if handle.mount.kind == MountType::Plan9 {
            let _turn = self.turn.lock().await;
            if !self.list().iter().any(|active| active.handle == *handle) {
                return Err(not_mounted());
            }
            let request = UnmountRequest { target: target.clone(), force };
            let unmounted = guest.agent.unmount(&request).await;
            unmounted.map_err(|error| refused_by_guest("unmount", target, error))?;
            self.list().retain(|active| active.handle != *handle);
            return Ok(false);
        }
        let taken = {
            let mut list = self.list();
            let index = list.iter().position(|active| active.handle == *handle);
            list.remove(index.ok_or_else(not_mounted)?)
        };
        taken.backing.revoke();
        Ok(true)
    }

    /// Ends the guest's connection to what was revoked, tells the guest, and ends the server that
    /// nobody needs any more.
    pub(crate) async fn clear(&self, guest: Guest<'_>, target: String) {
        let mut turn = self.turn.lock().await;
        let is_needed = turn.sweep().await;
        farewell(guest.agent, target).await;
        if !is_needed {
            turn.server = None;
            if let Some(net) = guest.qemu.net() {
                net.change(|policy| policy.unserve(ADDRESS));
            }
        }
    }
}

/// Looks at what is to be shared, and says whether it is a single file.
fn check_host(mount: &Mount) -> Result<bool> {
    let metadata = fs_err::metadata(mount.host_path());
    let metadata = metadata
        .map_err(|error| failed(mount.host.display(), std::io::Error::from(error.kind())))?;
    if metadata.is_dir() {
        return Ok(false);
    }
    let is_single = metadata.is_file();
    if is_single && matches!(mount.kind, MountType::Fuse | MountType::Auto) {
        return Ok(true);
    }
    let reason = match (is_single, mount.kind) {
        (true, kind) => format!("it is a file, and {} shares folders alone", kind.name()),
        _ => "it is neither a folder nor a file".to_owned(),
    };
    let hint = is_single.then(|| "Share its folder, or copy it with upload()".to_owned());
    Err(Error::Mount { action: "mount", share: mount.host.display().to_string(), reason, hint })
}

/// Why a mount failed.
struct GuestError {
    error: Error,
    /// Whether the guest's kernel does not know FUSE.
    has_no_fuse: bool,
}

impl From<Error> for GuestError {
    fn from(error: Error) -> Self {
        Self { error, has_no_fuse: false }
    }
}

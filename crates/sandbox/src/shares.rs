//! The host's shares while a machine runs: the SMB server in this process, and what is mounted.
//!
//! The server (`smb-server`) listens on a loopback port for as long as the machine has a share, asks
//! for credentials that exist for this machine alone, and takes nothing that is not signed. The guest
//! reaches it at 10.0.2.100:445 through `usernet`. Each share is confined to its folder by the
//! server's backend (`cap-std`); read-only is enforced twice, by the backend and by the user's
//! right. Leases are off: the host's own programs change files too, and the guest must see it.

use crate::agent_client::AgentClient;
use crate::error::{Error, Result};
use crate::mount::{Mount, MountHandle, MountType};
use crate::running::Machine;
use crate::sandbox::Sandbox;
use crate::usernet::{self, UserNet};
use agent_protocol::{MountRequest, UnmountRequest};
use smb_server::{Access, ConfigHandle, LocalFsBackend, Share, ShutdownHandle, SmbServer};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::Path;
use std::time::Duration;

/// Where the guest finds the server.
const ADDRESS: SocketAddrV4 = SocketAddrV4::new(usernet::SHARES, 445);
/// The most files that a guest may hold open.
const MAX_OPEN: usize = 16_384;
/// One TCP connection carries all of a guest's shares; a second comes with a reconnection.
const MAX_CONNECTIONS: usize = 32;

/// What is mounted, and the server while there is a need for it.
#[derive(Default)]
pub(crate) struct Shares {
    server: Option<Server>,
    active: Vec<MountHandle>,
    last_id: u64,
}

struct Server {
    config: ConfigHandle,
    shutdown: ShutdownHandle,
    address: SocketAddrV4,
    user: String,
    password: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.shutdown();
    }
}

impl Server {
    async fn start() -> Result<Self> {
        let (user, password) = (random_text()?, random_text()?);
        let server = SmbServer::builder()
            .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .user(&user, &password)
            .require_signing(false)
            .share_listing(false)
            // The password cannot be guessed, and a guest's user must not lock its root out.
            .logon_throttle(0, Duration::from_secs(1))
            .max_connections(MAX_CONNECTIONS)
            .max_opens_per_connection(MAX_OPEN)
            .netbios_name("QUICKSAND")
            .build()
            .map_err(|error| failed("the server", error))?;
        let address = match server.bind().await.map_err(|error| failed("the server", error))? {
            SocketAddr::V4(address) => address,
            SocketAddr::V6(address) => {
                return Err(failed("the server", format!("it listens on {address}")));
            }
        };
        let (config, shutdown) = (server.config_handle(), server.shutdown_handle());
        tokio::spawn(async move {
            if let Err(error) = server.serve().await {
                tracing::warn!(%error, "the server of shares ended");
            }
        });
        Ok(Self { config, shutdown, address, user, password })
    }

    async fn share(&self, name: &str, mount: &Mount) -> Result<()> {
        let host = &mount.host;
        let backend = LocalFsBackend::new(host).map_err(|error| failed(host.display(), error))?;
        let (backend, access) = match mount.readonly {
            true => (backend.read_only(), Access::Read),
            false => (backend, Access::ReadWrite),
        };
        let share = Share::new(name, backend)
            .user(&self.user, access)
            .leases(false)
            .durable_handles(false)
            .listed(false);
        self.config.add_share(share).await.map_err(|error| failed(host.display(), error))
    }

    fn options(&self) -> String {
        format!(
            "ip={},username={},password={},vers=3.1.1,sec=ntlmssp,uid=0,gid=0,file_mode=0777,\
             dir_mode=0777,mfsymlinks,cache=strict,actimeo=1,rsize=1048576,wsize=1048576",
            ADDRESS.ip(),
            self.user,
            self.password
        )
    }
}

/// Random text that fits any option.
fn random_text() -> Result<String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| failed("the server", error))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
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
fn of_guest(action: &'static str, guest: &str, error: Error) -> Error {
    match error {
        Error::AgentRefused { message, hint, .. } | Error::InvalidPath { message, hint } => {
            Error::Mount { action, share: guest.to_owned(), reason: message, hint }
        }
        error => error,
    }
}

impl Shares {
    /// What is mounted.
    pub(crate) fn active(&self) -> Vec<MountHandle> {
        self.active.clone()
    }

    /// Mounts one; 9p's device with the tag of this index is there already.
    async fn mount(
        &mut self,
        agent: &AgentClient,
        net: Option<&UserNet>,
        mount: &Mount,
        index: usize,
    ) -> Result<MountHandle> {
        check_host(&mount.host)?;
        let id = self.last_id + 1;
        let mut request = MountRequest {
            source: plan9_tag(index),
            target: mount.guest.clone(),
            kind: mount.kind.name().to_owned(),
            options: "trans=virtio,version=9p2000.L,msize=262144,cache=mmap".to_owned(),
            readonly: mount.readonly,
        };
        let share = format!("share{id}");
        if mount.kind == MountType::Cifs {
            let server = self.server(net).await?;
            server.share(&share, mount).await?;
            request.source = format!("//{}/{share}", ADDRESS.ip());
            request.options = server.options();
        }
        if let Err(error) = agent.mount(&request).await {
            self.withdraw(&share, mount.kind).await;
            return Err(of_guest("mount", &mount.guest, error));
        }
        self.last_id = id;
        let handle = MountHandle { id, mount: mount.clone() };
        self.active.push(handle.clone());
        Ok(handle)
    }

    async fn server(&mut self, net: Option<&UserNet>) -> Result<&Server> {
        let Some(net) = net else {
            return Err(Error::Mount {
                action: "mount",
                share: "cifs".into(),
                reason: "this machine was started without a network for shares".into(),
                hint: Some(
                    "Use transport=\"socket\" and a network mode other than none, or name a share at the \
                     start"
                        .into(),
                ),
            });
        };
        if self.server.is_none() {
            let server = Server::start().await?;
            net.change(|policy| policy.serve(ADDRESS, server.address));
            self.server = Some(server);
        }
        // It has just been made when it was not there.
        self.server.as_ref().ok_or_else(|| failed("the server", "it is gone"))
    }

    async fn withdraw(&self, share: &str, kind: MountType) {
        if kind == MountType::Cifs
            && let Some(server) = &self.server
            && let Err(error) = server.config.remove_share(share).await
        {
            tracing::warn!(%error, share, "a share could not be withdrawn");
        }
    }

    async fn unmount(
        &mut self,
        agent: &AgentClient,
        net: Option<&UserNet>,
        handle: &MountHandle,
        force: bool,
    ) -> Result<()> {
        let Some(index) = self.active.iter().position(|active| active == handle) else {
            return Err(Error::Mount {
                action: "unmount",
                share: handle.mount.guest.clone(),
                reason: "it is not mounted".into(),
                hint: None,
            });
        };
        let request = UnmountRequest { target: handle.mount.guest.clone(), force };
        agent
            .unmount(&request)
            .await
            .map_err(|error| of_guest("unmount", &handle.mount.guest, error))?;
        self.active.remove(index);
        self.withdraw(&format!("share{}", handle.id), handle.mount.kind).await;
        if !self.active.iter().any(|active| active.mount.kind == MountType::Cifs) {
            self.server = None;
            if let Some(net) = net {
                net.change(|policy| policy.unserve(ADDRESS));
            }
        }
        Ok(())
    }
}

/// The name under which the guest finds the 9p device of a share, by its place in the list.
pub(crate) fn plan9_tag(index: usize) -> String {
    format!("quicksand{index}")
}

fn check_host(host: &Path) -> Result<()> {
    match fs_err::metadata(host) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(failed(host.display(), "it is not a folder")),
        Err(error) => {
            let cause = std::io::Error::from(error.kind());
            Err(failed(host.display(), cause))
        }
    }
}

/// Mounts what the configuration names, in its order.
pub(crate) async fn mount_all(machine: &Machine, mounts: &[Mount]) -> Result<()> {
    let mut shares = machine.shares.lock().await;
    for (index, mount) in mounts.iter().enumerate() {
        shares.mount(&machine.agent, machine.hull.net(), mount, index).await?;
    }
    Ok(())
}

/// Folders of the host in the guest.
impl Sandbox {
    /// Shares a folder of the host with the running guest, by SMB.
    ///
    /// # Errors
    /// [`Error::Mount`]: the folder does not exist, the guest cannot mount it, or the share is 9p,
    /// which is for the start only.
    ///
    /// ```no_run
    /// # async fn example(sandbox: &sandbox::Sandbox) -> Result<(), sandbox::Error> {
    /// let handle = sandbox.mount(sandbox::Mount::new("/home/me/code", "/mnt/code")).await?;
    /// assert_eq!(sandbox.active_mounts(), [handle.clone()]);
    /// sandbox.unmount(&handle, false).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn mount(&self, mount: Mount) -> Result<MountHandle> {
        mount.check()?;
        let machine = self.machine("mount")?;
        if mount.kind == MountType::Plan9 {
            return Err(Error::Mount {
                action: "mount",
                share: mount.host.display().to_string(),
                reason: "9p is for the start only".into(),
                hint: Some("Name it in `mounts`, or use type=\"cifs\"".into()),
            });
        }
        let call = async {
            let mut shares = machine.shares.lock().await;
            let same = |active: &&MountHandle| active.mount.guest == mount.guest;
            if shares.active.iter().find(same).is_some() {
                return Err(failed(&mount.guest, "something is shared there already"));
            }
            shares.mount(&machine.agent, machine.hull.net(), &mount, 0).await
        };
        machine.during("a mount", call).await
    }

    /// Takes a share away from the guest. With `force` also when it is in use: whoever uses it sees
    /// errors then.
    ///
    /// # Errors
    /// [`Error::Mount`]: it is not mounted, or in use.
    pub async fn unmount(&self, handle: &MountHandle, force: bool) -> Result<()> {
        let machine = self.machine("unmount")?;
        let call = async {
            let mut shares = machine.shares.lock().await;
            shares.unmount(&machine.agent, machine.hull.net(), handle, force).await
        };
        machine.during("an unmount", call).await
    }

    /// What is shared now. While a share is being mounted or unmounted, what was shared before.
    pub fn active_mounts(&self) -> Vec<MountHandle> {
        match self.lifecycle_machine() {
            Some(machine) => machine.active_mounts(),
            None => Vec::new(),
        }
    }
}

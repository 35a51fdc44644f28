//! The SMB server in this process, and how the guest's connection gets to it.
//!
//! The server (`smb-server`) takes TCP connections alone. It therefore listens on a loopback port
//! of its own for each connection of the guest: this process connects before anything is accepted,
//! and the server accepts one connection. Another user of the host who finds the port is turned
//! away; one who was there in the microseconds before us holds a port without the password, and the
//! guest's next attempt gets another.

use super::folder::{Folder, Revocation};
use crate::budget::{Budget, Permit};
use crate::error::Result;
use crate::mount::Mount;
use crate::secret;
use crate::usernet::Dialed;
use smb_server::{Access, ConfigHandle, Share, ShutdownHandle, SmbServer};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::Mutex;

/// Connections of a guest at a time: one carries all of its shares, and a second comes when the
/// guest believes that the first is broken.
const MAX_CONNECTIONS: usize = 2;
/// How long a connection may take to its password.
const HANDSHAKE: Duration = Duration::from_secs(20);

/// What is served, and to whom.
pub(super) struct Server {
    user: String,
    password: String,
    budget: Arc<Budget>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    served: Vec<Served>,
    running: Vec<Running>,
}

/// One share by the name that the guest knows it by.
pub(super) struct Served {
    pub(super) name: String,
    pub(super) mount: Mount,
    pub(super) revocation: Revocation,
}

struct Running {
    config: ConfigHandle,
    shutdown: ShutdownHandle,
    task: tokio::task::JoinHandle<()>,
}

/// Ends the server of one connection with the connection.
struct End {
    shutdown: ShutdownHandle,
    _place: Permit,
}

impl Drop for End {
    fn drop(&mut self) {
        self.shutdown.shutdown();
    }
}

impl Server {
    pub(super) fn new(budget: Arc<Budget>) -> Result<Self> {
        let (user, password) =
            (secret::hexadecimal(secret::SHARE)?, secret::hexadecimal(secret::SHARE)?);
        Ok(Self { user, password, budget, state: Mutex::default() })
    }

    /// Serves a folder from now on, on the connections that there are as well.
    pub(super) async fn add(&self, share: Served) -> io::Result<()> {
        let mut state = self.state.lock().await;
        state.forget_ended();
        // A folder that cannot be opened is an error even before the guest connects.
        self.folder(&share)?;
        let shares: Vec<_> = state.running.iter().map(|_| self.share(&share)).collect();
        // It is in the list before the first connection has it, so that a sweep finds it.
        state.served.push(share);
        for (running, share) in state.running.iter().zip(shares) {
            running.config.add_share(share?).await.map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Serves no more what has been revoked: the guest's connections to it are closed. Says whether
    /// anything else is served.
    pub(super) async fn sweep(&self) -> bool {
        let mut state = self.state.lock().await;
        state.forget_ended();
        let State { served, running } = &mut *state;
        for share in served.extract_if(.., |share| share.revocation.is_revoked()) {
            for running in &*running {
                if let Err(error) = running.config.remove_share(&share.name).await {
                    tracing::debug!(%error, share.name, "a share was not there any more");
                }
            }
        }
        !served.is_empty()
    }

    /// The host's side of a new connection of the guest.
    pub(super) async fn connect(&self) -> io::Result<Dialed> {
        // The listener and the server's end; the stream itself is counted by whoever asks for it.
        let place = self.budget.descriptors(2).ok_or(io::ErrorKind::QuotaExceeded)?;
        let mut state = self.state.lock().await;
        state.forget_ended();
        while state.running.len() >= MAX_CONNECTIONS {
            let oldest = state.running.remove(0);
            oldest.shutdown.shutdown();
        }
        let mut builder = SmbServer::builder()
            .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
            .user(&self.user, &self.password)
            .require_signing(false)
            .share_listing(false)
            // The password cannot be guessed, and a guest's user must not lock its root out.
            .logon_throttle(0, Duration::from_secs(1))
            .handshake_timeout(HANDSHAKE)
            .max_connections(1)
            .max_opens_per_connection(self.budget.max_descriptors())
            .netbios_name("QUICKSAND");
        for share in state.served.iter().filter(|share| !share.revocation.is_revoked()) {
            builder = builder.share(self.share(share)?);
        }
        let server = builder.build().map_err(io::Error::other)?;
        let address = server.bind().await?;
        // The first in the listener's queue is the one that is accepted.
        let stream = TcpStream::connect(address).await?;
        let (config, shutdown) = (server.config_handle(), server.shutdown_handle());
        let task = tokio::spawn(async move {
            if let Err(error) = server.serve().await {
                tracing::warn!(%error, "the server of shares ended");
            }
        });
        state.running.push(Running { config, shutdown: shutdown.clone(), task });
        Ok(Dialed {
            stream: Box::new(stream),
            _keep: Some(Box::new(End { shutdown, _place: place })),
        })
    }

    fn folder(&self, share: &Served) -> io::Result<Folder> {
        let (budget, revocation) = (Arc::clone(&self.budget), share.revocation.clone());
        Folder::open(&share.mount.host, share.mount.readonly, budget, revocation)
    }

    /// Leases are off, since programs of the host change files too and the guest must see it.
    fn share(&self, share: &Served) -> io::Result<Share> {
        let access = if share.mount.readonly { Access::Read } else { Access::ReadWrite };
        Ok(Share::new(&share.name, self.folder(share)?)
            .user(&self.user, access)
            .leases(false)
            .durable_handles(false)
            .change_notify(false)
            .listed(false))
    }

    /// The options of the guest's mount command.
    pub(super) fn options(&self, address: Ipv4Addr) -> String {
        format!(
            "ip={address},username={},password={},vers=3.1.1,sec=ntlmssp,uid=0,gid=0,\
             file_mode=0777,dir_mode=0777,mfsymlinks,cache=strict,actimeo=1,rsize=1048576,\
             wsize=1048576",
            self.user, self.password
        )
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for running in &self.state.get_mut().running {
            running.shutdown.shutdown();
        }
    }
}

impl State {
    fn forget_ended(&mut self) {
        self.running.retain(|running| !running.task.is_finished());
    }
}

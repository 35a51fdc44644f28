//! Ports and the allow-list while the machine runs.
//!
//! Where this process is the guest's network they are changed there; QEMU's own network (the `tcp`
//! transport) is set by a monitor command, into which only checked numbers and addresses go.

use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::network::{Direction, Forward, NetworkMode, check_forwards, check_guest_end};
use crate::sandbox::Sandbox;
use crate::usernet::{self, AllowList};
use serde_json::json;

/// The network of a running machine.
impl Sandbox {
    /// Forwards a port from now on, and gives the forward as it is: with the port that was free when
    /// any was asked for.
    ///
    /// # Errors
    /// [`Error::PortInUse`]; [`Error::InvalidValue`] for a forward that is there already or that this
    /// network cannot have.
    ///
    /// ```no_run
    /// # async fn example(sandbox: &sandbox::Sandbox) -> Result<(), sandbox::Error> {
    /// let forward = sandbox.add_forward(sandbox::Forward::new(0, 80)).await?;
    /// println!("http://127.0.0.1:{}", forward.host_port);
    /// sandbox.remove_forward(&forward).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn add_forward(&self, mut forward: Forward) -> Result<Forward> {
        let machine = self.machine("forward a port")?;
        let mut forwards = machine.forwards.lock().await;
        let all: Vec<Forward> = forwards.iter().chain([&forward]).cloned().collect();
        check_forwards(self.config().network_mode(), &all)?;
        let host_to_guest = forward.direction == Direction::HostToGuest;
        match machine.qemu.net() {
            Some(net) if host_to_guest => {
                let listener = usernet::bind(&mut forward)?;
                let listener = tokio::net::TcpListener::from_std(listener)
                    .map_err(|source| Error::System { action: "use a forwarded port", source })?;
                net.listen(listener, &forward);
            }
            Some(net) => {
                check_guest_end(&forward)?;
                let named = forward.clone();
                let looking = tokio::task::spawn_blocking(move || named.destination());
                let host = looking.await.map_err(|error| Error::System {
                    action: "look a name up",
                    source: std::io::Error::other(error.to_string()),
                })??;
                net.change(|policy| policy.serve(forward.guest_end(), host));
            }
            None if host_to_guest => {
                // The port is free a moment before QEMU takes it.
                drop(usernet::bind(&mut forward)?);
                tell_qemu(&machine, "hostfwd_add", &forward).await?;
            }
            None => return Err(fixed("port_forwards", "ports that lead into the guest")),
        }
        forwards.push(forward.clone());
        Ok(forward)
    }

    /// Forwards a port no more. Connections that exist go on.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for a forward that is not there.
    pub async fn remove_forward(&self, forward: &Forward) -> Result<()> {
        let machine = self.machine("remove a forward")?;
        let mut forwards = machine.forwards.lock().await;
        let Some(index) = forwards.iter().position(|known| known == forward) else {
            return Err(Error::InvalidValue {
                option: "port_forwards",
                value: forward.to_value().to_string(),
                allowed: "a forward that there is".into(),
                hint: None,
            });
        };
        match (machine.qemu.net(), forward.direction) {
            (Some(net), Direction::HostToGuest) => {
                net.unlisten(forward);
            }
            (Some(net), Direction::GuestToHost) => {
                net.change(|policy| policy.unserve(forward.guest_end()));
            }
            (None, _) => tell_qemu(&machine, "hostfwd_remove", forward).await?,
        }
        forwards.remove(index);
        Ok(())
    }

    /// The forwards of the running machine; those of the configuration before the start.
    pub async fn forwards(&self) -> Vec<Forward> {
        match self.lifecycle_machine() {
            Some(machine) => machine.forwards.lock().await.clone(),
            None => self.config().port_forwards().to_vec(),
        }
    }

    /// Changes what the guest may reach from now on; `None`: everything but the host itself.
    /// Connections that exist go on.
    ///
    /// # Errors
    /// [`Error::InvalidValue`] for an entry that means nothing, and without [`NetworkMode::Full`].
    pub async fn set_allow(&self, allow: Option<Vec<String>>) -> Result<()> {
        let allow = allow.map(|entries| AllowList::parse(&entries)).transpose()?;
        let machine = self.machine("change the allow-list")?;
        match machine.qemu.net() {
            Some(net) if self.config().network_mode() == NetworkMode::Full => {
                net.change(|policy| policy.set_allow(allow));
                Ok(())
            }
            _ => Err(fixed("allow", "nothing but with network_mode=\"full\"")),
        }
    }
}

fn fixed(option: &'static str, allowed: &str) -> Error {
    Error::InvalidValue {
        option,
        value: "a change while the machine runs".into(),
        allowed: allowed.into(),
        hint: Some("Give it at the start".into()),
    }
}

/// Has QEMU's own network open or close a port.
async fn tell_qemu(machine: &Machine, command: &str, forward: &Forward) -> Result<()> {
    let host = forward.host_end();
    let line = match command {
        "hostfwd_add" => {
            let guest = forward.guest_address.map(|address| address.to_string());
            let guest = guest.unwrap_or_default();
            format!("hostfwd_add net0 tcp:{host}-{guest}:{}", forward.guest_port)
        }
        command => format!("{command} net0 tcp:{host}"),
    };
    let arguments = json!({"command-line": line});
    let said = machine.qmp.execute("human-monitor-command", arguments).await?;
    // The monitor says nothing when it has done it, and that it has removed something.
    match said.as_str().unwrap_or_default().trim() {
        "" => Ok(()),
        said if said.contains("removed") => Ok(()),
        said if said.contains("Could not set up host forwarding") => Err(Error::PortInUse {
            port: forward.host_port,
            address: forward.host_address.to_string(),
        }),
        said => Err(Error::Qmp { command: line, reason: said.to_owned() }),
    }
}

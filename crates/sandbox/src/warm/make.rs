//! How a template comes about: a machine boots with nothing of the user's, comes to rest, is frozen,
//! and its parts are kept.

use super::rest;
use crate::agent_client::execution::{Discard, run_to_end};
use crate::blocking::blocking;
use crate::boot::{Forks, Source, Start, attempt, boot_timeout};
use crate::error::{Error, Result};
use crate::execute::ExecuteRequest;
use crate::guest_memory::copy_sparse;
use crate::located::Located;
use crate::machine::Machine;
use crate::templates::{Parts, Store, Template};
use crate::timing::{BootTiming, Stopwatch};
use crate::vmstate;
use serde_json::json;
use std::time::Duration;

/// What the guest has done once it is frozen, every copy has done: started a shell, read what common
/// commands need, and written everything to its disk.
pub(super) const REHEARSAL: &str = "uname -a; cat /etc/os-release; ls -l /; sync";
const N_REHEARSALS: usize = 3;
/// How long the guest may take to come to rest before it is frozen.
const REST: Duration = Duration::from_secs(20);

/// Makes a template and publishes it.
pub(super) async fn make(
    start: &Start<'_>,
    located: &Located,
    store: &Store,
    key: &str,
) -> Result<Template> {
    let config = start.config.without_host();
    let quiet = |_: &str, _: usize, _: usize| {};
    let plain = Start { config: &config, progress: &quiet, forks: Forks::Never, ..*start };
    tracing::info!(image = config.image(), "a template is made, once for this configuration");
    let (mut watch, mut timing) = (Stopwatch::start(), BootTiming::default());
    let machine = attempt(&plain, located, &Source::Make, &mut watch, &mut timing)
        .await
        .map_err(|failure| failure.error)?;
    let limit = boot_timeout(&config, Some(located.accelerator));
    let frozen = tokio::time::timeout(limit, freeze(&machine, store));
    let frozen = frozen.await.unwrap_or(Err(Error::GuestSilent { timeout: limit }));
    machine.end_now().await;
    let (state, token) = frozen?;
    let failed = |source| Error::System { action: "keep a template", source };
    let memory = machine.qemu.memory.as_ref().map(std::fs::File::try_clone);
    let memory =
        memory.ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?.map_err(failed)?;
    let disk = machine.origin.overlay().try_clone().map_err(failed)?;
    let files = [store.new_file(), store.new_file()];
    let copied = blocking(move || {
        let [new_memory, new_disk] = files;
        let (new_memory, new_disk) = (new_memory.map_err(failed)?, new_disk.map_err(failed)?);
        copy_sparse(&memory, new_memory.file()).map_err(failed)?;
        copy_sparse(&disk, new_disk.file()).map_err(failed)?;
        Ok((new_memory, new_disk))
    });
    let (memory, disk) = copied.await?;
    let parts = Parts { token, memory, state, disk };
    let template = store.publish(key, config.image(), parts).map_err(failed)?;
    tracing::info!(took_s = watch.total().as_secs_f64(), "the template is made");
    Ok(template)
}

/// Brings a machine to rest, stops it and writes the state of its devices.
async fn freeze(machine: &Machine, store: &Store) -> Result<(crate::new_file::NewFile, String)> {
    let failed = |source| Error::System { action: "keep a template", source };
    for _ in 0..N_REHEARSALS {
        let request = ExecuteRequest::new(REHEARSAL).timeout(Duration::from_secs(20)).cwd("/");
        run_to_end(&machine.agent, &request, &mut Discard).await?;
    }
    rest::come_to_rest(machine, REST).await?;
    machine.qmp.execute("stop", json!({})).await?;
    let state = store.new_file().map_err(failed)?;
    let writer = state.reopened_for_writing().map_err(failed)?;
    vmstate::write(&machine.qmp, writer).await?;
    Ok((state, machine.qemu.token.clone()))
}

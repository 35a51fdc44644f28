//! How the disk of a running machine becomes a save, while it runs on.
//!
//! The guest writes everything out and stands still for a moment; in that moment QEMU begins a
//! backup of the overlay. From then on the guest writes again, and QEMU keeps what the backup has not
//! copied yet (<https://www.qemu.org/docs/master/interop/live-block-operations.html>). The layers of
//! the save that the machine started from are taken over as they are.

#[cfg(target_os = "linux")]
pub(crate) mod memory;

use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::new_file::NewFile;
use crate::overlay::Origin;
use crate::plan::DRIVE;
use crate::save::{SaveManifest, Staging, portable};
use disk_formats::qcow2::{self, Fault};
use package_layout::save::overlay_name;
#[cfg(target_os = "linux")]
use package_layout::save::{MEMORY_FILE, MEMORY_MANIFEST_FILE};
use runtime_locator::OWN_KEY;
use serde_json::{Map, Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// QEMU's names of the copy and of the job that makes it. There is one at a time.
const COPY: &str = "save-copy";
/// How long the guest may take to show that it is there.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// How long QEMU may take to say how far the copy is.
const BUSY: Duration = Duration::from_secs(60);
/// The descriptor set of the copy; those of the machine's own disks are others.
#[cfg(unix)]
const COPY_SET: u32 = 90;

/// What is to be saved, where and how.
pub(crate) struct SaveRequest {
    /// The save's folder.
    pub target: PathBuf,
    /// Whether what was written is compressed.
    pub compress: bool,
    /// What the guest's memory depends on, where it is kept as well.
    #[cfg(target_os = "linux")]
    pub memory: Option<memory::Needs>,
    /// The options of the sandbox.
    pub config: Map<String, Value>,
    /// Our folder below the user's data folder, where the key of the user's seals is.
    pub data_dir: Option<PathBuf>,
    /// Whether a stop asks for it: the first one saves, those that wait for it do not.
    pub is_last: bool,
}

/// Makes the save; `None` when another stop has made it. Dropping the future ends the copy and removes what was written.
pub(crate) async fn take(
    machine: Arc<Machine>,
    request: SaveRequest,
) -> Result<Option<SaveManifest>> {
    let target = request.target.clone();
    let (keep, mut dropped) = oneshot::channel::<()>();
    // A task of its own goes on when the caller gives up, and leaves QEMU in order.
    let work = tokio::spawn(async move { on_task(&machine, request, &mut dropped).await });
    let result = match work.await {
        Ok(result) => result,
        Err(error) => Err(Error::System {
            action: "run the task that saves",
            source: std::io::Error::other(error.to_string()),
        }),
    };
    drop(keep);
    result.map_err(|error| match error {
        // These say by themselves where and why.
        Error::InvalidValue { .. } | Error::SaveInTheWay { .. } | Error::Stopped { .. } => error,
        error => Error::SaveFailed { path: target, source: Box::new(error) },
    })
}

async fn on_task(
    machine: &Machine,
    request: SaveRequest,
    dropped: &mut oneshot::Receiver<()>,
) -> Result<Option<SaveManifest>> {
    let _state = machine.lock_state("save").await?;
    if machine.is_stopping() && request.is_last {
        return Ok(None);
    }
    if machine.qemu.process.exit_status().is_none() {
        // Asked before anything is written: a guest that does not answer cannot stand still.
        machine.during("save", machine.agent.ping_within(ANSWER_TIME)).await?;
    }
    let origin = &machine.origin;
    let (target, layers) = (request.target.clone(), origin.save_layers());
    let number = layers.len();
    let mut staging = blocking(move || {
        let mut staging = Staging::create(&target)?;
        for (number, layer) in layers.iter().enumerate() {
            staging.adopt(layer, number)?;
        }
        Ok(staging)
    })
    .await?;
    let path = staging.path(number);
    let failed = |source| Error::File { action: "write", path: path.clone(), source };
    let overlay = staging.layer(number).map_err(failed)?;
    let below = match number.checked_sub(1) {
        Some(below) => overlay_name(below),
        None => origin.base.clone(),
    };
    match machine.qemu.process.exit_status() {
        #[cfg(target_os = "linux")]
        None if request.memory.is_some() => {
            let copy = overlay.file().try_clone().map_err(failed)?;
            let needs = request.memory.as_ref().map(memory::Needs::to_json);
            let state = with_memory(&mut staging, &needs.unwrap_or_default()).map_err(failed)?;
            // What the guest has not written to its disk yet is in its memory: a start elsewhere does
            // without.
            if machine.agent.freeze().await? {
                machine.agent.thaw().await?;
            }
            // To its end: whoever gave it up half-way would leave the machine standing still.
            let written = crate::frozen::stand_still(machine, state, copy, &path, &below).await;
            written.map_err(|error| match machine.is_stopping() {
                true => Error::Stopped { action: "save" },
                false => error,
            })?;
        }
        None => {
            write_empty(overlay.file(), origin.size, &below).map_err(failed)?;
            machine
                .during(
                    "save",
                    copy(machine, (overlay, &request.target), request.compress, dropped),
                )
                .await?;
        }
        // The guest has powered itself off: QEMU has put everything in order, and nothing changes
        // any more.
        Some(status) if status == "exit code 0" => {
            let source = origin.overlay().try_clone().map_err(failed)?;
            let copy = overlay.file().try_clone().map_err(failed)?;
            let path = path.clone();
            blocking(move || copy_disk(source, copy, &path, &below)).await?;
        }
        Some(_) => return Err(machine.qemu.death().await),
    }
    let mut manifest = manifest(origin, &request.config);
    blocking(move || {
        staging.seal(&mut manifest, request.data_dir.as_deref());
        staging.commit(&manifest.to_json(), &mut |_| {})?;
        Ok(Some(manifest))
    })
    .await
}

/// Makes the files of the guest's memory; gives the one that QEMU writes.
#[cfg(target_os = "linux")]
fn with_memory(staging: &mut Staging, needs: &str) -> std::io::Result<File> {
    let state = staging.other(MEMORY_FILE)?.reopened_for_writing()?;
    let mut file = staging.other(MEMORY_MANIFEST_FILE)?.file();
    std::io::Write::write_all(&mut file, needs.as_bytes())?;
    Ok(state)
}

/// What a save says of itself.
fn manifest(origin: &Origin, options: &Map<String, Value>) -> SaveManifest {
    let mut config = portable::kept(options);
    config.insert("image".into(), json!(origin.base));
    config.insert("memory".into(), json!(origin.memory));
    config.insert("cpus".into(), json!(origin.cpus));
    let mut manifest = SaveManifest::new(config, origin.arch.qemu_name());
    let mut own = json!({
        "made_by": env!("CARGO_PKG_VERSION"),
        "base_version": origin.version,
        "base_fingerprint": origin.fingerprint,
    });
    if origin.base != origin.base_name {
        own[portable::BASE_NAME] = json!(origin.base_name);
    }
    manifest.other.insert(OWN_KEY.into(), own);
    manifest
}

/// Runs what waits for a disk where that keeps no other sandbox waiting.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        let source = std::io::Error::other(error.to_string());
        Err(Error::System { action: "run a part of the save", source })
    })
}

fn write_empty(mut file: &File, size: u64, below: &str) -> std::io::Result<()> {
    // A name that is too long is left out: it is there for people alone.
    let (head, length) = qcow2::empty_overlay(size, below)
        .or_else(|| qcow2::empty_overlay(size, ""))
        .ok_or(std::io::ErrorKind::InvalidInput)?;
    std::io::Write::write_all(&mut file, &head)?;
    file.set_len(length)
}

/// Copies the disk as it is now out of an overlay that nobody writes to any more. Checkpoints, which
/// hold the guest's memory, are not part of it.
fn copy_disk(mut overlay: File, mut copy: File, path: &Path, below: &str) -> Result<()> {
    match qcow2::copy_active(&mut overlay, &mut copy, below) {
        Ok(()) => Ok(()),
        Err(Fault::Bad(reason)) => Err(Error::BadImage { path: path.into(), reason }),
        Err(Fault::Io(source)) => {
            Err(Error::File { action: "copy the disk to", path: path.into(), source })
        }
    }
}

/// Copies the overlay of the running machine to an empty one.
async fn copy(
    machine: &Machine,
    (overlay, target): (&NewFile, &Path),
    compress: bool,
    dropped: &mut oneshot::Receiver<()>,
) -> Result<()> {
    let qmp = &machine.qmp;
    let file = pass(machine, overlay, target).await?;
    let node = json!({
        "driver": "qcow2",
        "node-name": COPY,
        "file": {"driver": "file", "filename": file},
        "backing": null,
    });
    qmp.execute("blockdev-add", node).await?;
    let copied = backup(machine, compress, dropped).await;
    // Closing the copy writes its tables out.
    let closed = qmp.execute("blockdev-del", json!({"node-name": COPY})).await;
    // A set that is empty already is gone, which is no error of the save's.
    #[cfg(unix)]
    let _ = qmp.execute("remove-fd", json!({"fdset-id": COPY_SET})).await;
    copied?;
    closed?;
    Ok(())
}

/// What QEMU reaches the copy by: it opens nothing by its path.
#[cfg(unix)]
async fn pass(machine: &Machine, overlay: &NewFile, _: &Path) -> Result<String> {
    let failed = |source| Error::System { action: "open the copy of the disk", source };
    let writing = overlay.file().try_clone().map_err(failed)?;
    machine.qmp.pass_file(writing, COPY_SET).await?;
    machine.qmp.pass_file(overlay.reopened().map_err(failed)?, COPY_SET).await?;
    Ok(format!("/dev/fdset/{COPY_SET}"))
}

#[cfg(not(unix))]
async fn pass(_: &Machine, overlay: &NewFile, target: &Path) -> Result<String> {
    let path = target.with_file_name(overlay.name().unwrap_or_default());
    Ok(path.to_string_lossy().into_owned())
}

async fn backup(
    machine: &Machine,
    compress: bool,
    dropped: &mut oneshot::Receiver<()>,
) -> Result<()> {
    const COMMAND: &str = "blockdev-backup";
    let qmp = &machine.qmp;
    let job = json!({
        "job-id": COPY,
        "device": DRIVE,
        "target": COPY,
        "sync": "top",
        "compress": compress,
        "auto-dismiss": false,
    });
    let is_frozen = machine.agent.freeze().await?;
    let begun = qmp.execute(COMMAND, job).await;
    // A guest that does not hear it thaws by itself, but then nobody knows what it did meanwhile.
    let thawed = if is_frozen { machine.agent.thaw().await } else { Ok(()) };
    begun?;
    let ended = match thawed {
        Ok(()) => tokio::select! {
            ended = qmp.finish_job(COMMAND, COPY, BUSY) => return ended,
            given_up = dropped => {
                debug_assert!(given_up.is_err(), "nothing is ever sent");
                Error::Stopped { action: "save" }
            }
        },
        Err(error) => error,
    };
    qmp.execute("job-cancel", json!({"id": COPY})).await?;
    qmp.finish_job(COMMAND, COPY, BUSY).await.and(Err(ended))
}

//! A start from its beginning to its end: what this host has is found, and of all ways to a machine that
//! answers the shortest is taken that there is.

use crate::blocking::blocking;
use crate::boot::{Failure, Source, Start, attempt, boot_timeout, within};
use crate::budget::raise_descriptors;
use crate::error::{Error, Result};
use crate::located::{Located, locate};
use crate::machine::Machine;
use crate::timing::{BootTiming, DONE, STAGES, Stopwatch};
#[cfg(target_os = "linux")]
use crate::warm;
use runtime_locator::Accelerator;

/// The name of the log of starts, which users of Python know as the logger `quicksand.sandbox.boot`.
const LOG: &str = "sandbox::boot";

/// Starts a machine and waits for its first answer.
pub(crate) async fn boot(start: Start<'_>) -> Result<Machine> {
    raise_descriptors();
    let mut watch = Stopwatch::start();
    let mut timing = BootTiming::default();
    start.stage(0);
    let mut located = {
        let (config, search) = (start.config.clone(), start.search.clone());
        let assumed = start.assumed;
        let locating =
            blocking(move || locate(&config, &search, assumed).map_err(unless_exhausted));
        // A file system that does not answer would hold the start up for ever.
        within(boot_timeout(start.config, None), "find QEMU and the image", locating).await?
    };
    timing.locate = watch.lap();
    let accelerator = located.accelerator.name();
    tracing::info!(target: LOG, accelerator, reason = located.reason, "start");
    #[cfg(target_os = "linux")]
    if let Some(machine) =
        Box::pin(warm::start_from_memory(&start, &located, &mut watch, &mut timing)).await
    {
        (start.progress)(DONE, STAGES.len(), STAGES.len());
        return Ok(machine);
    }
    // Boxed, as are the attempts in it: together they would be large for the stack of a thread.
    #[cfg(target_os = "linux")]
    if let Some(machine) =
        Box::pin(warm::start_from_template(&start, &located, &mut watch, &mut timing)).await
    {
        (start.progress)(DONE, STAGES.len(), STAGES.len());
        return Ok(machine);
    }
    let machine = match attempt(&start, &located, &Source::Cold, &mut watch, &mut timing).await {
        Ok(machine) => machine,
        Err(Failure { error, may_be_accelerator }) => {
            if may_be_accelerator {
                let given_up = located.accelerator.name();
                tracing::warn!(target: LOG, %error, "the guest made no progress under {given_up}; using tcg");
                located.accelerator = Accelerator::Tcg;
                located.reason = format!("the guest made no progress under {given_up}");
            } else if error.is_crash() {
                // Nobody has asked the guest for anything yet but its shares.
                tracing::warn!(target: LOG, %error, "QEMU crashed while the machine started; starting it once more");
            } else {
                return Err(error);
            }
            let again = attempt(&start, &located, &Source::Cold, &mut watch, &mut timing).await;
            again.map_err(|failure| failure.error)?
        }
    };
    (start.progress)(DONE, STAGES.len(), STAGES.len());
    Ok(machine)
}

/// Starts a machine that goes on from another, and waits for its first answer. `unforked` says why it is not
/// a fork of that one's process.
#[cfg(target_os = "linux")]
pub(crate) async fn go_on(
    start: Start<'_>,
    located: &Located,
    source: &Source,
    unforked: Option<String>,
) -> Result<Machine> {
    raise_descriptors();
    let (mut watch, mut timing) = (Stopwatch::start(), BootTiming::default());
    timing.warm = true;
    (timing.forked, timing.unforked_reason) = (unforked.is_none(), unforked);
    let machine = Box::pin(attempt(&start, located, source, &mut watch, &mut timing)).await;
    let machine = machine.map_err(|failure| failure.error)?;
    (start.progress)(DONE, STAGES.len(), STAGES.len());
    Ok(machine)
}

/// Believes that something was not found only where this process can open files at all: a folder
/// that cannot be read for want of descriptors looks like one that is not there.
fn unless_exhausted(error: Error) -> Error {
    match std::env::current_dir().and_then(fs_err::File::open) {
        Err(source) if Error::is_exhaustion(&source) => {
            Error::System { action: "look for QEMU and the image", source }
        }
        _ => error,
    }
}

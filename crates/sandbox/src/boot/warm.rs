//! Starts of machines whose guest has booted already: from a template, from a fork of one that waits, from
//! another machine or from a save with memory. All but the start from another machine end in a start from
//! the disk when anything is not as expected.

use super::{DONE, Failure, STAGES, Source, Start, attempt, boot_timeout};
use crate::budget::raise_descriptors;
use crate::config::Warm;
use crate::error::{Error, Result};
use crate::located::Located;
use crate::qmp::Qmp;
use crate::running::Machine;
use crate::timing::{BootTiming, Stopwatch};
use std::time::Duration;

/// A start from a save with memory. Whatever goes wrong ends in a start from its disk.
pub(super) async fn of_memory(
    start: &Start<'_>,
    located: &Located,
    watch: &mut Stopwatch,
    timing: &mut BootTiming,
) -> Option<Machine> {
    let reason = match crate::save::memory::find(start.config, located)? {
        Ok((frozen, located)) => {
            timing.warm = true;
            let source = Source::Resume(std::sync::Arc::new(frozen));
            match Box::pin(attempt(start, &located, &source, watch, timing)).await {
                Ok(machine) => return Some(machine),
                Err(Failure { error, .. }) => error.to_string(),
            }
        }
        Err(reason) => reason,
    };
    tracing::warn!(reason, "the save's memory is not used: the machine boots from its disk");
    timing.warm = false;
    timing.cold_reason = Some(reason);
    None
}

/// Starts a machine that goes on from another, and waits for its first answer. `unforked` says why it is not
/// a fork of that one's process.
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

/// A start from a template, where there is one or can be one. Whatever goes wrong ends in a start from
/// the image.
pub(super) async fn of_template(
    start: &Start<'_>,
    located: &Located,
    watch: &mut Stopwatch,
    timing: &mut BootTiming,
) -> Option<Machine> {
    let limit = boot_timeout(start.config, Some(located.accelerator));
    if start.config.warm() == Warm::Off {
        return None;
    }
    let looking = tokio::time::timeout(limit, crate::template::of(start, located));
    let template = match looking.await.unwrap_or_else(|_| Err("there was no time for it".into())) {
        Ok(template) => template,
        Err(reason) => {
            // What was said of the save's own memory comes first.
            timing.cold_reason.get_or_insert(reason);
            return None;
        }
    };
    let key = template.key.clone();
    timing.warm = true;
    if let Some(machine) = Box::pin(forked(start, located, &template, watch, timing)).await {
        return Some(machine);
    }
    match Box::pin(attempt(start, located, &Source::Copy(template), watch, timing)).await {
        Ok(machine) => Some(machine),
        Err(Failure { error, .. }) => {
            tracing::warn!(%error, "a copy of the template did not answer: it is removed");
            timing.warm = false;
            crate::template::give_up(start.search, &key, &error);
            timing.cold_reason = Some(error.to_string());
            None
        }
    }
}

/// A start by a fork of a machine that waits, where there can be one.
async fn forked(
    start: &Start<'_>,
    located: &Located,
    template: &crate::template::store::Template,
    watch: &mut Stopwatch,
    timing: &mut BootTiming,
) -> Option<Machine> {
    use crate::template::zygotes;
    let reason = match zygotes::of(start, located, template).await {
        Ok(zygote) => {
            timing.forked = true;
            let source = Source::Fork(zygote.clone());
            match Box::pin(attempt(start, located, &source, watch, timing)).await {
                Ok(machine) => {
                    zygotes::note_fork(&zygote);
                    return Some(machine);
                }
                Err(Failure { error, .. }) => {
                    tracing::warn!(%error, "a machine could not be forked: the template is copied");
                    zygotes::note_failure(&zygote, &error.to_string());
                    error.to_string()
                }
            }
        }
        Err(reason) => {
            tracing::info!(reason, "a copy of the template, not a fork");
            reason
        }
    };
    timing.forked = false;
    timing.unforked_reason = Some(reason);
    None
}

/// Has QEMU take up the state that a machine begins with; gives the token that its agent knows.
pub(super) async fn load<'a>(source: &'a Source, qmp: &Qmp) -> Result<&'a str> {
    // Opened anew: another machine may read the same file at this moment, from a position of its own.
    let open = |state: &std::fs::File| {
        let state = crate::new_file::reopened(state);
        state.map_err(|source| Error::System { action: "hand a file to QEMU", source })
    };
    match source {
        Source::Copy(template) | Source::Zygote(template) => {
            crate::template::load::read(qmp, open(&template.state)?).await?;
            Ok(&template.token)
        }
        Source::Resume(frozen) => {
            // The start's own time ends this.
            let state = open(&frozen.state)?;
            crate::template::load::read_all(qmp, state, Duration::from_secs(3600)).await?;
            Ok(&frozen.token)
        }
        Source::Cold
        | Source::Make
        | Source::Fork(_)
        | Source::Live(_)
        | Source::Stand(_)
        | Source::Still(_)
        | Source::Back(..) => {
            let source = std::io::ErrorKind::InvalidInput.into();
            Err(Error::System { action: "take up a machine that boots", source })
        }
    }
}

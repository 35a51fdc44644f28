//! Starts of machines whose guest has booted already: copies of a template, forks of one that waits in
//! memory, and saves with memory. All of them end in a start from the disk when anything is not as expected.
//!
//! A template is three files of the user's cache folder: the guest's memory, the state of its devices
//! and what it has written to its disk. A start maps the memory as its own, loads the state and has
//! the agent become another machine's; see `templates::key` for what a template depends on, `templates::store`
//! for the files, `make` for how one comes about, `find` for which one a start has. Under software emulation a
//! copy may wait in memory, to be forked for each later start (`zygote`, `zygotes`).
//!
//! Invariant: a template is an accelerator and never the only way. Whatever is unexpected ends in a
//! start from the disk, and the reason in the log.

mod find;
mod make;
mod rest;
mod zygote;
mod zygotes;

use crate::boot::{Failure, Source, Start, attempt, boot_timeout};
use crate::config::Warm;
use crate::located::Located;
use crate::machine::Machine;
use crate::saving::memory;
use crate::templates::Template;
use crate::timing::{BootTiming, Stopwatch};
use std::sync::Arc;

/// A start from a save with memory. Whatever goes wrong ends in a start from its disk.
pub(crate) async fn start_from_memory(
    start: &Start<'_>,
    located: &Located,
    watch: &mut Stopwatch,
    timing: &mut BootTiming,
) -> Option<Machine> {
    let reason = match memory::find(start.config, located)? {
        Ok((frozen, located)) => {
            timing.warm = true;
            let source = Source::Resume(Arc::new(frozen));
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

/// A start from a template, where there is one or can be one. Whatever goes wrong ends in a start from
/// the image.
pub(crate) async fn start_from_template(
    start: &Start<'_>,
    located: &Located,
    watch: &mut Stopwatch,
    timing: &mut BootTiming,
) -> Option<Machine> {
    let limit = boot_timeout(start.config, Some(located.accelerator));
    if start.config.warm() == Warm::Off {
        return None;
    }
    let looking = tokio::time::timeout(limit, find::template_for(start, located));
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
            find::give_up(start.search, &key, &error);
            timing.cold_reason = Some(error.to_string());
            None
        }
    }
}

/// A start by a fork of a machine that waits, where there can be one.
async fn forked(
    start: &Start<'_>,
    located: &Located,
    template: &Template,
    watch: &mut Stopwatch,
    timing: &mut BootTiming,
) -> Option<Machine> {
    let reason = match zygotes::zygote_for(start, located, template).await {
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

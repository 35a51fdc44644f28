//! Templates: machines that have booted once, were frozen, and are copied at later starts.
//!
//! A template is three files of the user's cache folder: the guest's memory, the state of its devices
//! and what it has written to its disk. A start maps the memory as its own, loads the state and has
//! the agent become another machine's; see `key` for what a template depends on, `store` for the files,
//! `make` for how one comes about, `load` for what a copy does with it. Under software emulation a copy
//! may wait in memory, to be forked for each later start (`zygote`, `zygotes`).
//!
//! Invariant: a template is an accelerator and never the only way. Whatever is unexpected ends in a
//! start from the disk, and the reason in the log.

pub(crate) mod key;
pub(crate) mod load;
mod make;
pub(crate) mod parent;
mod rest;
pub(crate) mod store;
pub(crate) mod zygote;
pub(crate) mod zygotes;

pub(crate) use make::make;

use crate::boot::Start;
use crate::config::Warm;
use crate::error::Error;
use crate::located::Located;
use crate::templates::TemplateEntry;
use host_platform::Arch;
use runtime_locator::Search;
use store::{Store, Template};

/// The template of a start, made first where there is none yet; or why this start goes from the disk.
pub(crate) async fn of(
    start: &Start<'_>,
    located: &Located,
) -> std::result::Result<Template, String> {
    find_or_make(start, located).await.inspect_err(|reason| {
        tracing::info!(reason, "a start from the disk, not from a template");
    })
}

/// All templates of this user, the one that was used last first.
pub(crate) fn list(search: &Search) -> std::io::Result<Vec<TemplateEntry>> {
    let Some(folder) = &search.cache_dir else { return Ok(Vec::new()) };
    if !folder.join(store::FOLDER).is_dir() {
        return Ok(Vec::new());
    }
    Store::open(folder)?.list()
}

/// Removes a template that cannot be used.
pub(crate) fn remove(search: &Search, key: &str) {
    if let Some(store) = store_of(search) {
        store.remove(key);
    }
}

/// Removes a template whose copy did not become a machine. Where the guest itself refused to become another, a
/// copy of any other template would too: none is made for a while.
pub(crate) fn give_up(search: &Search, key: &str, error: &Error) {
    remove(search, key);
    if let (Error::AgentRefused { .. }, Some(store)) = (error, store_of(search)) {
        store.refuse(key, &error.to_string());
    }
}

fn store_of(search: &Search) -> Option<Store> {
    search.cache_dir.as_deref().and_then(|folder| Store::open(folder).ok())
}

async fn find_or_make(start: &Start<'_>, located: &Located) -> Result<Template, String> {
    let key = check(start, located)?;
    let folder = start.search.cache_dir.as_deref().ok_or("no folder for caches is known")?;
    let store = Store::open(folder).map_err(|error| format!("the folder of templates: {error}"))?;
    match store.find(&key) {
        Ok(Some(template)) => return Ok(template),
        Ok(None) => {}
        // A new one takes its place.
        Err(reason) => tracing::warn!(reason, "a template is not used"),
    }
    store.check_refusal(&key)?;
    if start.config.warm() == Warm::Auto && !store.was_started(&key) {
        return Err("the first start of this configuration: the next one makes a template".into());
    }
    let Some(turn) = store.turn().map_err(|error| error.to_string())? else {
        return Err("another process is making a template".into());
    };
    let made = Box::pin(make(start, located, &store, &key)).await;
    drop(turn);
    made.map_err(|error| {
        let reason = error.to_string();
        tracing::warn!(reason, "no template could be made");
        store.refuse(&key, &reason);
        reason
    })
}

/// The key of a start's template, or why it has none.
fn check(start: &Start<'_>, located: &Located) -> Result<String, String> {
    let config = start.config;
    let image = &located.image;
    let refused = [
        (!located.has_identity_agent, "the image's agent takes no new identity"),
        (image.arch != Arch::Amd64, "the guest is not for x86_64"),
        (image.chain.len() > image.n_base_disks, "it goes on from a save"),
        (!config.extra_qemu_args().is_empty(), "extra_qemu_args"),
        (config.enable_display(), "enable_display"),
    ];
    if let Some((_, reason)) = refused.iter().find(|(is_refused, _)| *is_refused) {
        return Err((*reason).to_owned());
    }
    let wanted = crate::boot::preview(config, located).map_err(|error| error.to_string())?;
    let plain = make::plain_config(config);
    let made = crate::boot::preview(&plain, located).map_err(|error| error.to_string())?;
    if wanted != made {
        return Err("shares by 9p, or another transport than `socket`".into());
    }
    key::of(&made, located, &located.image.files.chain).map_err(|error| error.to_string())
}

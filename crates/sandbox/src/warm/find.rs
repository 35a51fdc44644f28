//! Which template a start is a copy of: one that there is, or one that is made first.

use super::make::make;
use crate::boot::{Start, preview};
use crate::config::Warm;
use crate::error::Error;
use crate::located::Located;
use crate::templates::{self, Store, Template, key, store_of};
use host_platform::Arch;
use runtime_locator::Search;

/// The template of a start, made first where there is none yet; or why this start goes from the disk.
pub(super) async fn template_for(
    start: &Start<'_>,
    located: &Located,
) -> std::result::Result<Template, String> {
    find_or_make(start, located).await.inspect_err(|reason| {
        tracing::info!(reason, "a start from the disk, not from a template");
    })
}

/// Removes a template whose copy did not become a machine. Where the guest itself refused to become another, a
/// copy of any other template would too: none is made for a while.
pub(super) fn give_up(search: &Search, key: &str, error: &Error) {
    templates::remove(search, key);
    if let (Error::AgentRefused { .. }, Some(store)) = (error, store_of(search)) {
        store.refuse(key, &error.to_string());
    }
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
    let wanted = preview(config, located).map_err(|error| error.to_string())?;
    let plain = config.without_host();
    let made = preview(&plain, located).map_err(|error| error.to_string())?;
    if wanted != made {
        return Err("shares by 9p, or another transport than `socket`".into());
    }
    key::compute(&made, located, &located.image.files.chain).map_err(|error| error.to_string())
}

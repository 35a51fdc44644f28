//! The zygotes of this process: which there are, when one is made, and when it goes.
//!
//! One for each template, and a template is one user's, of one image and one machine: what is forked from
//! it shares the layout of its memory. They belong to a thread of their own, because whoever starts
//! sandboxes may end the runtime of one and go on with another. A zygote ends when it was not used for a
//! while, unless machines live that were forked from it, and with this process.

use super::zygote::make_zygote;
use crate::boot::{Forks, Start};
use crate::fork::PerProcess;
use crate::fork_source::Zygote;
use crate::located::Located;
use crate::templates::Template;
use std::collections::HashMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle};
use tokio::sync::Mutex;

/// The most zygotes of a process.
const MAX_ZYGOTES: usize = 4;
/// How long one waits for the next start.
const IDLE: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_secs(20);
/// How long what could not be forked is not tried again, and after how many failures in a row.
const REFUSED: Duration = Duration::from_secs(600);
const MAX_FAILURES: u32 = 3;

#[derive(Default)]
struct Zygotes {
    places: HashMap<String, Place>,
    runtime: Option<Handle>,
}

/// What there is for one template.
struct Place {
    n_starts: u64,
    used: Instant,
    n_failures: u32,
    refused: Option<(Instant, String)>,
    zygote: Option<Arc<Zygote>>,
    /// Held by whoever makes one.
    making: Arc<Mutex<()>>,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            n_starts: 0,
            used: Instant::now(),
            n_failures: 0,
            refused: None,
            zygote: None,
            making: Default::default(),
        }
    }
}

static ZYGOTES: PerProcess<Zygotes> = PerProcess::new();

fn zygotes() -> MutexGuard<'static, Zygotes> {
    ZYGOTES.get().lock().unwrap_or_else(PoisonError::into_inner)
}

/// The zygote of a template, made where it is worth it; or why there is none.
pub(super) async fn zygote_for(
    start: &Start<'_>,
    located: &Located,
    template: &Template,
) -> Result<Arc<Zygote>, String> {
    if !located.may_fork || start.forks == Forks::Never {
        return Err("this QEMU or machine cannot be forked".into());
    }
    let making = {
        let mut all = zygotes();
        let place = all.places.entry(template.key.clone()).or_default();
        place.n_starts += 1;
        if let Some(found) = place.look()? {
            return Ok(found);
        }
        if place.n_starts == 1 && start.forks != Forks::Now {
            return Err("it is the first start of this machine in this process".into());
        }
        Arc::clone(&place.making)
    };
    // Whoever else wants one waits for the same.
    let _making = making.lock().await;
    if let Some(found) = zygotes().places.entry(template.key.clone()).or_default().look()? {
        return Ok(found);
    }
    make(start, located, template).await
}

async fn make(
    start: &Start<'_>,
    located: &Located,
    template: &Template,
) -> Result<Arc<Zygote>, String> {
    let runtime = runtime().map_err(|error| error.to_string())?;
    // That of its template.
    let config = start.config.without_host();
    let (search, assumed) = (start.search.clone(), start.assumed);
    let (located, from) = (located.clone(), template.clone());
    let task = runtime.spawn(async move {
        let progress = &|_: &str, _: usize, _: usize| {};
        let start =
            Start { config: &config, search: &search, assumed, progress, forks: Forks::Never };
        make_zygote(&start, &located, from).await
    });
    let made = task.await.map_err(|error| error.to_string())?;
    let mut all = zygotes();
    let place = all.places.entry(template.key.clone()).or_default();
    match made {
        Ok(zygote) => {
            let zygote = Arc::new(zygote);
            place.zygote = Some(Arc::clone(&zygote));
            place.used = Instant::now();
            all.make_room();
            Ok(zygote)
        }
        Err(error) => {
            let reason = format!("no machine that can be forked: {error}");
            tracing::warn!(reason, "machines are copied from the template");
            place.refused = Some((Instant::now(), reason.clone()));
            Err(reason)
        }
    }
}

/// Takes note of a fork that became a machine.
pub(super) fn note_fork(zygote: &Zygote) {
    if let Some(place) = zygotes().places.get_mut(&zygote.template.key) {
        place.n_failures = 0;
        place.used = Instant::now();
    }
}

/// Takes note of a fork that failed. The zygote is not used again.
pub(super) fn note_failure(zygote: &Arc<Zygote>, reason: &str) {
    let mut all = zygotes();
    let Some(place) = all.places.get_mut(&zygote.template.key) else { return };
    place.n_failures += 1;
    place.zygote.take_if(|known| Arc::ptr_eq(known, zygote));
    if place.n_failures >= MAX_FAILURES {
        place.n_failures = 0;
        place.refused = Some((Instant::now(), reason.to_owned()));
    }
}

impl Place {
    /// The zygote that there is, or why none is made.
    fn look(&mut self) -> Result<Option<Arc<Zygote>>, String> {
        if let Some((since, reason)) = &self.refused {
            if since.elapsed() < REFUSED {
                return Err(reason.clone());
            }
            self.refused = None;
        }
        self.zygote.take_if(|zygote| !zygote.is_alive());
        self.used = Instant::now();
        Ok(self.zygote.clone())
    }
}

impl Zygotes {
    /// Lets those go that were used longest ago, when there are too many.
    fn make_room(&mut self) {
        let mut known: Vec<&mut Place> =
            self.places.values_mut().filter(|place| place.zygote.is_some()).collect();
        known.sort_by_key(|place| std::cmp::Reverse(place.used));
        for place in known.into_iter().skip(MAX_ZYGOTES) {
            place.zygote = None;
        }
    }
}

/// The runtime of the zygotes, in a thread that lives as long as this process.
fn runtime() -> std::io::Result<Handle> {
    let mut all = zygotes();
    if let Some(runtime) = &all.runtime {
        return Ok(runtime.clone());
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    std::thread::Builder::new().name("quicksand-zygotes".into()).spawn(move || {
        runtime.block_on(async {
            loop {
                tokio::time::sleep(LOOK).await;
                let mut all = zygotes();
                for place in all.places.values_mut() {
                    if place.used.elapsed() > IDLE {
                        place.zygote = None;
                    }
                }
            }
        });
    })?;
    all.runtime = Some(handle.clone());
    Ok(handle)
}

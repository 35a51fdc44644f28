//! The lock of an image and its packages: read or renewed, and fetched into the cache.

use super::{Host, KEYRING_PACKAGES, Outcome, StepOf};
use crate::{
    Error, LockError,
    apk::{Apk, Keys},
    apt::{self, Apt},
    beside,
    lock::{ArchLock, Lock, Package},
    package_store,
    recipe::{DistributionName, Recipe},
};
use duct::Expression;
use host_platform::Arch;
use std::path::Path;
use tempfile::TempDir;

/// How many packages one run of apt's downloader fetches: enough to keep a connection busy, few
/// enough to show progress.
const BATCH: usize = 16;

/// What a lock is made for.
pub struct Wanted<'a, H> {
    /// Who runs the bake.
    pub host: &'a H,
    /// The layer.
    pub recipe: &'a Recipe,
    /// Whose packages.
    pub arch: Arch,
    /// Where packages are kept.
    pub store: &'a Path,
    /// The locks of what an overlay lies on, the bottom one first.
    pub base: &'a [ArchLock],
    /// What dpkg says is installed below, where the locks of that are not at hand.
    pub status: Option<&'a str>,
}

/// A new lock of the recipe for this architecture, with every package in the store.
///
/// # Errors
/// Packages can be neither chosen nor fetched.
pub fn lock<H: Host>(wanted: &Wanted<'_, H>) -> Outcome<ArchLock, H> {
    let chosen = choose(wanted)?;
    fetched(wanted, &chosen, false)
}

/// The lock, with every package in the store. Where the mirror no longer has one, `is_lenient` chooses again.
pub fn fetched<H: Host>(
    wanted: &Wanted<'_, H>,
    lock: &ArchLock,
    is_lenient: bool,
) -> Outcome<ArchLock, H> {
    let Some(gone) = fetch(wanted, lock)? else { return Ok(lock.clone()) };
    if !is_lenient {
        return Err(gone.into());
    }
    wanted.host.line(&format!("warning: {gone}"));
    let what = "warning: newer packages are used for this bake, and the lock stays as it is";
    wanted.host.line(what);
    self::lock(wanted)
}

/// What chooses and fetches the packages of a distribution, in a folder of its own: another bake may be
/// at the same distribution at the same time.
struct Manager {
    kind: Kind,
    _folder: TempDir,
}

enum Kind {
    Apt(Apt),
    Apk(Apk),
}

impl Manager {
    /// The command that fetches locked packages, each checked against its sha256.
    fn fetch(&self, packages: &[&Package], store: &Path) -> Result<Expression, Error> {
        match &self.kind {
            Kind::Apt(apt) => apt.fetch(packages, store),
            Kind::Apk(apk) => Ok(apk.fetch(packages, store)),
        }
    }

    /// Fetches what the mirror no longer has from the archives of the day of the lock, as far as it is
    /// known where those are. Everything is held against the lock's hashes.
    fn fetch_past<H: Host>(
        &self,
        step: StepOf<'_, H>,
        lock: &ArchLock,
        store: &Path,
    ) -> Outcome<(), H> {
        let Kind::Apt(apt) = &self.kind else { return Ok(()) };
        step.say("Asking for the archive of the lock's day".to_owned());
        let mut archives = apt.past(lock);
        if archives.is_empty() {
            // The present releases say where the past ones are.
            let _ = step.run("apt-get", apt.update());
            archives = apt.past(lock);
        }
        for past in &archives {
            let missing = package_store::missing(lock, store)?;
            let (mut n_came, mut n_failed) = (0, 0);
            for batch in missing.chunks(BATCH) {
                let arriving = beside(store)?;
                let _ = step.run("apt-helper", apt.fetch_from(past, batch, arriving.path())?);
                let gone = package_store::take_in(batch, arriving.path(), store)?;
                n_came += batch.len() - gone.len();
                n_failed += gone.len();
                // Nothing of that day is there.
                if n_came == 0 {
                    break;
                }
            }
            if n_failed == 0 && n_came == missing.len() {
                break;
            }
        }
        Ok(())
    }
}

fn manager<H: Host>(wanted: &Wanted<'_, H>) -> Outcome<Manager, H> {
    let Wanted { host, recipe, arch, .. } = *wanted;
    let distribution = recipe.body.distribution.name;
    if distribution == DistributionName::Debian {
        host.install(KEYRING_PACKAGES)?;
    }
    let mut archives = apt::archives(distribution, arch)?;
    let folder = beside(&host.folder("apt")?)?;
    let kind = if let (DistributionName::Alpine, Some(archive)) = (distribution, archives.pop()) {
        let memory = host.folder("apk-indexes")?;
        Kind::Apk(Apk::new(folder.path(), &memory, recipe, arch, archive, Keys::from_host()?)?)
    } else {
        let keyring = apt::keyring(distribution)?;
        let archives = apt::archives(distribution, arch)?;
        let apt = Apt::new(folder.path(), recipe, arch, archives, &keyring)?;
        match wanted.status {
            Some(status) => apt.assume_status(status)?,
            None => apt.assume(wanted.base, wanted.store)?,
        }
        Kind::Apt(apt)
    };
    Ok(Manager { kind, _folder: folder })
}

fn choose<H: Host>(wanted: &Wanted<'_, H>) -> Outcome<ArchLock, H> {
    let Wanted { host, recipe, arch, base, .. } = *wanted;
    if host.is_offline() {
        let name = &recipe.name;
        let what = format!(
            "The lock of `{name}` does not answer its recipe, and choosing packages needs the mirror"
        );
        return Err(Error::Offline { what }.into());
    }
    let manager = manager(wanted)?;
    host.step(&format!("Choose the packages of {}", recipe.name), |step| match &manager.kind {
        Kind::Apt(apt) => {
            step.run("apt-get update", apt.update())?;
            step.say("Resolving dependencies".to_owned());
            Ok(apt.resolve(recipe, arch, base)?)
        }
        Kind::Apk(apk) => {
            step.run("apt-helper", apk.update()?)?;
            step.say("Resolving dependencies".to_owned());
            let chosen = apk.choose(recipe, arch, base, wanted.store)?;
            let mut packages = Vec::new();
            for batch in chosen.chunks(BATCH) {
                let arriving = beside(wanted.store)?;
                step.run("apt-helper", apk.fetch_chosen(batch, arriving.path()))?;
                for package in batch {
                    packages.push(apk.admit(package, arriving.path(), wanted.store)?);
                }
                step.progress(packages.len() as u64, chosen.len() as u64);
            }
            Ok(apk.lock(recipe, arch, base, &chosen, packages, wanted.store)?)
        }
    })
}

/// Fetches what the store does not hold yet, and says what the mirror no longer has. Everything that was
/// fetched is checked before it is used, and what the store holds was checked when it came: its names are its
/// hashes.
fn fetch<H: Host>(wanted: &Wanted<'_, H>, lock: &ArchLock) -> Outcome<Option<Error>, H> {
    let Wanted { host, recipe, store, .. } = *wanted;
    let missing = package_store::missing(lock, store)?;
    if missing.is_empty() {
        return Ok(None);
    }
    if host.is_offline() {
        let names: Vec<&str> = missing.iter().map(|package| package.name.as_str()).collect();
        let (name, names) = (&recipe.name, names.join(", "));
        let what = format!("Packages of `{name}` are not in the cache: {names}");
        return Err(Error::Offline { what }.into());
    }
    let manager = manager(wanted)?;
    host.step(&format!("Fetch the packages of {}", recipe.name), |step| {
        let n_total = missing.iter().map(|package| package.size).sum::<u64>() >> 10;
        step.progress(0, n_total);
        let mut n_done = 0;
        let mut gone = Vec::new();
        let mut outcome = Ok(());
        for batch in missing.chunks(BATCH) {
            let arriving = beside(store)?;
            outcome = step.run("apt-helper", manager.fetch(batch, arriving.path())?);
            gone.extend(package_store::take_in(batch, arriving.path(), store)?);
            n_done += batch.iter().map(|package| package.size).sum::<u64>() >> 10;
            // One package that is gone is usual; so many mean an old lock, or no mirror at all.
            if gone.len() >= BATCH {
                break;
            }
            step.progress(n_done, n_total);
        }
        let is_other = step.has_printed("Hash Sum mismatch");
        if !gone.is_empty() && !is_other {
            manager.fetch_past::<H>(step, lock, store)?;
            let name = |package: &Package| format!("{} {}", package.name, package.version);
            gone = package_store::missing(lock, store)?.into_iter().map(name).collect();
            // A mirror that cannot be reached is another matter than packages gone.
            if gone.len() >= BATCH {
                outcome?;
            }
        }
        let recipe = recipe.name.clone();
        if gone.is_empty() {
            Ok(None)
        } else if is_other {
            Err(Error::Lock(LockError::OtherOnMirror { recipe, packages: gone }).into())
        } else {
            let renewal = host.renewal(&recipe, wanted.arch);
            Ok(Some(Error::Lock(LockError::Gone { recipe, renewal, packages: gone })))
        }
    })
}

/// What is said of an image that has no lock yet, when none could be made.
pub(super) fn none_made<H: Host>(wanted: &Wanted<'_, H>, failure: H::Failure) -> H::Failure {
    let Wanted { host, recipe, arch, .. } = *wanted;
    let renewal = host.renewal(&recipe.name, arch);
    let hint = match host.hint(&failure) {
        Some(hint) => format!("{hint}; then: {renewal}"),
        None => renewal,
    };
    let detail = format!("{failure:#}");
    Error::Lock(LockError::NoLock {
        image: recipe.name.clone(),
        arch: arch.image_name(),
        detail,
        hint,
    })
    .into()
}

/// What the store does not hold of each layer of an image, in words; `renewed` is the image whose lock is chosen
/// again.
pub fn missing(recipe: &Recipe, arch: Arch, store: &Path, renewed: Option<&str>) -> Vec<String> {
    let mut found = Vec::new();
    let mut base: Vec<ArchLock> = Vec::new();
    for layer in recipe.layers() {
        let name = &layer.name;
        let lock = Lock::load(&layer.lock_path()).unwrap_or_default();
        let locked = lock.get(arch, &apt::request(layer, arch, &base));
        let Some(locked) = locked.filter(|_| renewed != Some(name.as_str())) else {
            found.push(format!("the list of packages and the packages of {name}"));
            continue;
        };
        let missing = package_store::missing(locked, store).unwrap_or_default();
        if !missing.is_empty() {
            let size = missing.iter().map(|package| package.size).sum::<u64>() >> 20;
            found.push(format!("{} packages of {name} ({size} MiB)", missing.len()));
        }
        base.push(locked.clone());
    }
    found
}

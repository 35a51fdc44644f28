//! The lock of an image and its packages: read or renewed, and fetched into the cache.

use super::{Args, needs::KEYRING_PACKAGES};
use crate::{
    context::Context,
    setup,
    ui::{Step, hinted},
};
use anyhow::{Context as _, Result};
use duct::Expression;
use host_platform::Arch;
use image_builder::{
    Error,
    apk::{Apk, Keys},
    apt::{self, Apt},
    lock::{ArchLock, Lock, Package, difference},
    pool,
    recipe::{DistributionName, Recipe},
};
use std::path::Path;
use tempfile::TempDir;

/// How many packages one run of apt's downloader fetches: enough to keep a connection busy, few
/// enough to show progress.
const BATCH: usize = 16;

/// What a lock is made for.
pub struct Wanted<'a> {
    pub context: &'a Context,
    pub recipe: &'a Recipe,
    pub arch: Arch,
    /// Where packages are kept.
    pub pool: &'a Path,
    /// The locks of what an overlay lies on, the bottom one first.
    pub base: &'a [ArchLock],
    /// Where the lock lies.
    pub path: &'a Path,
}

/// The lock of the recipe for this architecture, with every package in the pool.
pub fn lock(args: &Args, wanted: &Wanted) -> Result<ArchLock> {
    let Wanted { context, recipe, arch, base, path, .. } = *wanted;
    let request = apt::request(recipe, arch, base);
    let lock = match Lock::load(path) {
        // What cannot be read is written anew.
        Err(error) if args.update && args.name == recipe.name => {
            context.ui.line(&format!("warning: {error}"));
            Lock::default()
        }
        outcome => outcome?,
    };
    // Only what the person named is renewed: an overlay's base stays what its own lock says.
    if !(args.update && args.name == recipe.name)
        && let Some(locked) = lock.get(arch, &request)
    {
        match fetch(wanted, locked) {
            Ok(()) => return Ok(locked.clone()),
            Err(error) if args.is_lenient && is_gone(&error) => {
                context.ui.line(&format!("warning: {error:#}"));
                context.ui.line(
                    "warning: newer packages are used for this bake, and the lock stays as it is",
                );
                let locked = choose(wanted)?;
                fetch(wanted, &locked)?;
                return Ok(locked);
            }
            Err(error) => return Err(error),
        }
    }
    let chosen = choose(wanted).map_err(|error| match lock.any(arch) {
        Some(_) => error,
        None => without_lock(wanted, &error),
    })?;
    fetch(wanted, &chosen)?;
    for line in difference(lock.any(arch), &chosen) {
        context.ui.line(&format!("    {line}"));
    }
    Lock::put(path, &recipe.name, arch, chosen.clone())?;
    Ok(chosen)
}

/// What to say where there is no lock yet and none can be made.
fn without_lock(wanted: &Wanted, error: &anyhow::Error) -> anyhow::Error {
    let (name, arch) = (&wanted.recipe.name, wanted.arch.image_name());
    let cause = error.chain().find_map(|cause| cause.downcast_ref::<Error>()?.hint());
    let hint = cause.map(|hint| format!("{hint}; then: ")).unwrap_or_default();
    hinted(
        format!("`{name}` has no lock for {arch} yet, and none could be made: {error:#}"),
        format!("{hint}cargo xtask bake {name} --arch {arch} --update"),
    )
}

fn is_gone(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(Error::Gone { .. })))
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
    fn fetch(&self, packages: &[&Package], pool: &Path) -> Result<Expression> {
        match &self.kind {
            Kind::Apt(apt) => Ok(apt.fetch(packages, pool)?),
            Kind::Apk(apk) => Ok(apk.fetch(packages, pool)),
        }
    }

    /// Fetches what the mirror no longer has from the archives of the day of the lock, as far as it is
    /// known where those are. Everything is held against the lock's hashes.
    fn fetch_past(&self, step: &Step, lock: &ArchLock, pool: &Path) -> Result<()> {
        let Kind::Apt(apt) = &self.kind else { return Ok(()) };
        step.say("Asking for the archive of the lock's day");
        let mut archives = apt.past(lock);
        if archives.is_empty() {
            // The present releases say where the past ones are.
            let _ = step.run(apt.update());
            archives = apt.past(lock);
        }
        for past in &archives {
            let missing = pool::missing(lock, pool)?;
            let (mut n_came, mut n_failed) = (0, 0);
            for batch in missing.chunks(BATCH) {
                let arriving = image_builder::beside(pool)?;
                let _ = step.run(apt.fetch_from(past, batch, arriving.path())?);
                let gone = pool::take_in(batch, arriving.path(), pool)?;
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

fn manager(wanted: &Wanted) -> Result<Manager> {
    let Wanted { context, recipe, arch, .. } = *wanted;
    let distribution = recipe.body.distribution.name;
    if distribution == DistributionName::Debian {
        setup::ensure_packages(context, KEYRING_PACKAGES)?;
    }
    let mut archives = apt::archives(distribution, arch)?;
    let folder = image_builder::beside(&context.cache.folder("apt")?)?;
    let kind = if distribution == DistributionName::Alpine {
        let archive = archives.pop().context("Alpine has one archive")?;
        let memory = context.cache.folder("apk-indexes")?;
        Kind::Apk(Apk::new(folder.path(), &memory, recipe, arch, archive, Keys::of_host()?)?)
    } else {
        let keyring = apt::keyring(distribution)?;
        let apt = Apt::new(folder.path(), recipe, arch, archives, &keyring)?;
        apt.assume(wanted.base, wanted.pool)?;
        Kind::Apt(apt)
    };
    Ok(Manager { kind, _folder: folder })
}

fn choose(wanted: &Wanted) -> Result<ArchLock> {
    let Wanted { context, recipe, arch, base, .. } = *wanted;
    if context.offline {
        return Err(hinted(
            format!(
                "The lock of `{}` does not answer its recipe, and choosing packages needs the mirror",
                recipe.name
            ),
            "run once without --offline",
        ));
    }
    let manager = manager(wanted)?;
    context.ui.step(&format!("Choose the packages of {}", recipe.name), |step| {
        match &manager.kind {
            Kind::Apt(apt) => {
                step.run(apt.update())?;
                step.say("Resolving dependencies");
                Ok(apt.resolve(recipe, arch, base)?)
            }
            Kind::Apk(apk) => {
                step.run(apk.update()?)?;
                step.say("Resolving dependencies");
                let chosen = apk.choose(recipe, arch, base, wanted.pool)?;
                step.expect(chosen.len() as u64);
                let mut packages = Vec::new();
                for batch in chosen.chunks(BATCH) {
                    let arriving = image_builder::beside(wanted.pool)?;
                    step.run(apk.fetch_chosen(batch, arriving.path()))?;
                    for package in batch {
                        packages.push(apk.admit(package, arriving.path(), wanted.pool)?);
                    }
                    step.reach(packages.len() as u64);
                }
                Ok(apk.lock(recipe, arch, base, &chosen, packages, wanted.pool)?)
            }
        }
    })
}

/// Fetches what the pool does not hold yet. Everything that was fetched is checked before it is
/// used, and what the pool holds was checked when it came: its names are its hashes.
fn fetch(wanted: &Wanted, lock: &ArchLock) -> Result<()> {
    let Wanted { context, recipe, pool, .. } = *wanted;
    let missing = pool::missing(lock, pool)?;
    if missing.is_empty() {
        return Ok(());
    }
    if context.offline {
        let names: Vec<&str> = missing.iter().map(|package| package.name.as_str()).collect();
        return Err(hinted(
            format!("Packages of `{}` are not in the cache: {}", recipe.name, names.join(", ")),
            "run once without --offline, or take them with --import-cache from where they were exported",
        ));
    }
    let manager = manager(wanted)?;
    context.ui.step(&format!("Fetch the packages of {}", recipe.name), |step| {
        step.expect(missing.iter().map(|package| package.size).sum::<u64>() >> 10);
        let mut n_done = 0;
        let mut gone = Vec::new();
        let mut outcome = Ok(());
        for batch in missing.chunks(BATCH) {
            let arriving = image_builder::beside(pool)?;
            outcome = step.run(manager.fetch(batch, arriving.path())?);
            gone.extend(pool::take_in(batch, arriving.path(), pool)?);
            n_done += batch.iter().map(|package| package.size).sum::<u64>() >> 10;
            // One package that is gone is usual; so many mean an old lock, or no mirror at all.
            if gone.len() >= BATCH {
                break;
            }
            step.reach(n_done);
        }
        let is_other = step.has_printed("Hash Sum mismatch");
        if !gone.is_empty() && !is_other {
            manager.fetch_past(step, lock, pool)?;
            let name = |package: &Package| format!("{} {}", package.name, package.version);
            gone = pool::missing(lock, pool)?.into_iter().map(name).collect();
            // A mirror that cannot be reached is another matter than packages gone.
            if gone.len() >= BATCH {
                outcome?;
            }
        }
        if gone.is_empty() {
            Ok(())
        } else if is_other {
            Err(Error::OtherOnMirror { recipe: recipe.name.clone(), packages: gone }.into())
        } else {
            let name = recipe.name.clone();
            let renewal =
                format!("cargo xtask bake {name} --arch {} --update", wanted.arch.image_name());
            Err(Error::Gone { recipe: name, renewal, packages: gone }.into())
        }
    })
}

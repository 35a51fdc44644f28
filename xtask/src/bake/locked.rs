//! The lock of an image and its packages: read or renewed, and fetched into the cache.

use super::Args;
use crate::{cache::Key, context::Context, setup, ui::hinted};
use anyhow::Result;
use host_platform::Arch;
use image_builder::{
    Error,
    apt::{self, Apt},
    lock::{ArchLock, Lock, Package, difference},
    recipe::Recipe,
};
use std::path::Path;

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
    let mut lock = Lock::load(path)?;
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
    let chosen = choose(wanted)?;
    fetch(wanted, &chosen)?;
    for line in difference(lock.any(arch), &chosen) {
        context.ui.line(&format!("    {line}"));
    }
    lock.set(arch, chosen.clone());
    lock.save(path, &recipe.name)?;
    Ok(chosen)
}

fn is_gone(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(Error::Gone { .. })))
}

fn private_apt(wanted: &Wanted) -> Result<Apt> {
    let Wanted { context, recipe, arch, .. } = *wanted;
    setup::ensure_packages(context, &["debian-archive-keyring"])?;
    let archives = apt::archives(recipe.body.distribution.name)?;
    let mut key = Key::new("apt");
    key.add("what", format!("{archives:?} {:?} {arch:?}", recipe.body.distribution).as_bytes());
    let folder = context.cache.folder(&format!("apt/{}", key.digest()))?;
    let apt = Apt::new(&folder, recipe, arch, archives)?;
    apt.assume(wanted.base, wanted.pool)?;
    Ok(apt)
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
    let apt = private_apt(wanted)?;
    context.ui.step(&format!("Choose the packages of {}", recipe.name), |step| {
        step.run(apt.update())?;
        step.say("Resolving dependencies");
        Ok(apt.resolve(recipe, arch, base)?)
    })
}

/// Fetches what the pool does not hold yet. Everything that was fetched is checked before it is
/// used, and what the pool holds was checked when it came: its names are its hashes.
fn fetch(wanted: &Wanted, lock: &ArchLock) -> Result<()> {
    let Wanted { context, recipe, pool, .. } = *wanted;
    let missing: Vec<&Package> =
        lock.all().filter(|package| !apt::pool_path(pool, package).is_file()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if context.offline {
        let names: Vec<&str> = missing.iter().map(|package| package.name.as_str()).collect();
        return Err(hinted(
            format!("Packages of `{}` are not in the cache: {}", recipe.name, names.join(", ")),
            "run once without --offline",
        ));
    }
    let apt = private_apt(wanted)?;
    context.ui.step(&format!("Fetch the packages of {}", recipe.name), |step| {
        step.expect(missing.iter().map(|package| package.size).sum::<u64>() >> 10);
        let mut n_done = 0;
        let mut gone = Vec::new();
        for batch in missing.chunks(BATCH) {
            let arriving = tempfile::Builder::new().prefix(".part-").tempdir_in(pool)?;
            let outcome = step.run(apt.fetch(batch, arriving.path())?);
            for package in batch {
                let came = apt::pool_path(arriving.path(), package);
                if came.is_file() {
                    apt::checked_path(arriving.path(), package)?;
                    fs_err::rename(came, apt::pool_path(pool, package))?;
                } else {
                    gone.push(format!("{} {}", package.name, package.version));
                }
                n_done += package.size >> 10;
            }
            // A mirror that cannot be reached at all is another matter than one package gone.
            if gone.len() >= BATCH {
                outcome?;
            }
            step.reach(n_done);
        }
        if gone.is_empty() {
            Ok(())
        } else {
            Err(Error::Gone { recipe: recipe.name.clone(), packages: gone }.into())
        }
    })
}

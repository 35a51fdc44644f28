//! What a bake needs from the host and the network, as far as the cache does not hold it.

use super::{Args, host::Baking};
use crate::{
    context::Context,
    preflight::{Needs, Registry, Room, RootFileSystem},
    setup,
};
use anyhow::Result;
use image_builder::{
    bake::{self, KERNEL_PACKAGES, KEYRING_PACKAGES, PACKAGES},
    foreign::Runner,
    programs,
    recipe::{self, DistributionName, Recipe},
};
use runtime_builder::agent;
use runtime_locator::Search;

/// What makes an environment that has pip.
pub(super) const PIP: &[&str] = &["wheel==0.48.0", "packaging==26.3"];

/// Seconds of one processor for a base image with its boot: the steps of `dist`'s plan for `debian`.
const BASE_SECONDS: f64 = 70.0;

/// The same for an overlay, estimated for `debian-desktop`.
const OVERLAY_SECONDS: f64 = 240.0;

/// The most that a base image writes, estimated for `debian`.
const BASE_ROOM: Room = Room { cache: 1100, target: 0, temporary: 1000 };

/// The same for an overlay, estimated for `debian-desktop`.
const OVERLAY_ROOM: Room = Room { cache: 2500, target: 0, temporary: 2500 };

/// What is needed; nothing when the image is baked and proved already.
pub fn needs(context: &Context, args: &Args) -> Needs {
    let recipes = args.recipes(context);
    let arch = args.arch();
    if args.renew {
        return needs_of_renewal(context, args);
    }
    if args.usual || is_made(context, args) {
        return Needs::default();
    }
    // A recipe that cannot be read is the bake's to complain of, at once.
    let Ok(recipe) = recipe::load(&recipes, args.name()) else { return Needs::default() };
    let Ok(store) = context.cache.folder("packages") else { return Needs::default() };
    let mut needs = Needs {
        root_file_system: Some(RootFileSystem { ownership: args.ownership }),
        ..Needs::default()
    }
    .packages(PACKAGES)
    .packages(KERNEL_PACKAGES)
    .and(agent::needs(context, arch));
    for layer in recipe.layers() {
        let (seconds, room) = match layer.base {
            Some(_) => (OVERLAY_SECONDS, OVERLAY_ROOM),
            None => (BASE_SECONDS, BASE_ROOM),
        };
        needs = needs.build(format!("the image {}", layer.name), seconds, room);
    }
    if args.import_cache.is_none() {
        let renewed = args.update.then(|| args.name());
        for fetch in bake::missing(&recipe, arch, &store, renewed) {
            needs = needs.fetch(fetch, archive(&recipe));
            if recipe.body.distribution.name == DistributionName::Debian {
                needs = needs.packages(KEYRING_PACKAGES);
            }
        }
        for wheel in programs::wheels(&recipe, arch).unwrap_or_default() {
            let there = programs::digest(wheel, arch).map(|it| programs::store_path(&store, it));
            if !there.is_ok_and(|path| path.is_file()) {
                needs = needs
                    .fetch(format!("the wheel {} {}", wheel.name, wheel.version), Registry::Python)
                    .and(setup::needs_of_python_tools(context, PIP));
            }
        }
    }
    if Runner::for_arch(arch).is_none() {
        needs = needs.fetch("an emulator for programs", Registry::Host);
    }
    let has_qemu = || runtime_locator::find_qemu(&Search::from_process(Vec::new()), arch).is_ok();
    if !args.no_boot && !has_qemu() {
        needs = needs.and(qemu_builder::needs(context, &qemu_builder::Args::default()));
    }
    needs
}

/// What choosing packages needs: the mirrors' lists, and what reads them.
fn needs_of_renewal(context: &Context, args: &Args) -> Needs {
    let recipes = args.recipes(context);
    let names = match args.name() {
        "" => recipe::names(&recipes),
        name => vec![name.to_owned()],
    };
    let mut needs = Needs::default();
    for name in names {
        let Ok(recipe) = recipe::load(&recipes, &name) else { continue };
        if args.name().is_empty() && !recipe.lock_path().is_file() {
            continue;
        }
        needs = needs.fetch(format!("the list of packages of {name}"), archive(&recipe));
        if recipe.body.distribution.name == DistributionName::Debian {
            needs = needs.packages(KEYRING_PACKAGES);
        }
    }
    needs
}

/// Whether each stage is in the cache: the bake itself is run, and nothing is made.
fn is_made(context: &Context, args: &Args) -> bool {
    let wants_more = args.no_cache || args.update;
    if wants_more || args.import_cache.is_some() || args.export_cache.is_some() {
        return false;
    }
    let look = context.looking();
    let outcome = || -> Result<()> {
        let (baking, out) = (Baking(&look), args.out(&look));
        let baked = super::make(&look, args)?;
        bake::proved(&baking, &baked, &args.publication(&out, &baking)).map(drop)
    };
    outcome().is_ok()
}

fn archive(recipe: &Recipe) -> Registry {
    let distribution = &recipe.body.distribution;
    Registry::Images(distribution.name.as_str(), distribution.suite.clone())
}

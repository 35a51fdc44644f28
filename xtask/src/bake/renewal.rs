//! `cargo xtask bake --renew`: moves the lock of one image or of all, and says what that changes and mends. Nothing
//! is baked.

use super::{Args, host::Baking};
use crate::context::Context;
use anyhow::Result;
use host_platform::Arch;
use image_builder::{
    audit::Advisories,
    bake::{self, Renewal},
    lock::Lock,
    recipe::{self, Recipe},
};
use std::path::Path;

/// Renews and prints, a line for each lock and for each source that changed, or all of it as JSON.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let advisories = Advisories::read(&args.advisories)?;
    let pool = context.cache.folder("packages")?;
    let mut renewals: Vec<Renewal> = Vec::new();
    for (recipe, arch) in locks(&args.recipes(context), args)? {
        let renewal = bake::renew(&Baking(context), &recipe, arch, &pool, &advisories)?;
        if !args.json {
            renewal.lines().iter().for_each(|line| println!("{line}"));
        }
        renewals.push(renewal);
    }
    if args.json {
        println!("{:#}", serde_json::to_value(&renewals)?);
    }
    Ok(())
}

/// The locks to renew: that of the image that was named, for this host's architecture or the one that was asked
/// for; else every lock that there is, what lies on others after them.
fn locks(recipes: &Path, args: &Args) -> Result<Vec<(Recipe, Arch)>> {
    if !args.name().is_empty() {
        return Ok(vec![(recipe::load(recipes, args.name())?, args.arch())]);
    }
    let mut found = Vec::new();
    for name in recipe::names(recipes) {
        let recipe = recipe::load(recipes, &name)?;
        let path = recipe.lock_path();
        if !path.is_file() {
            continue;
        }
        let lock = Lock::load(&path)?;
        for arch in [Arch::Amd64, Arch::Arm64] {
            if lock.any(arch).is_some() && args.arch.is_none_or(|asked| asked == arch) {
                found.push((recipe.clone(), arch));
            }
        }
    }
    found.sort_by_key(|(recipe, arch)| (recipe.layers().len(), recipe.name.clone(), *arch));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lock_is_renewed_after_those_that_it_lies_on() {
        let recipes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../recipes");
        let names = |args: &Args| -> Vec<String> {
            let found = locks(&recipes, args).unwrap();
            found.iter().map(|(it, arch)| format!("{} {}", it.name, arch.image_name())).collect()
        };
        let all = names(&Args::of(""));
        let place = |name: &str| all.iter().position(|it| it == name).unwrap();
        assert!(place("debian arm64") < place("debian-agent amd64"), "{all:?}");
        assert!(!all.iter().any(|name| name.starts_with("ubuntu")), "{all:?}");
        assert_eq!(
            names(&Args { arch: Some(Arch::Arm64), ..Args::of("debian") }),
            ["debian arm64"]
        );
        let arm = names(&Args { arch: Some(Arch::Arm64), ..Args::of("") });
        assert_eq!(arm, ["debian arm64", "minimal arm64"]);
    }
}

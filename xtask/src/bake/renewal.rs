//! `cargo xtask bake --renew`: moves the lock of one image or of all, and says what that changes and mends. Nothing
//! is baked.

use super::{Args, host::Baking};
use crate::context::Context;
use anyhow::Result;
use image_builder::{
    audit::Advisories,
    bake::{self, Renewal},
};

/// Renews and prints, a line for each lock and for each source that changed, or all of it as JSON.
pub fn run(context: &Context, args: &Args) -> Result<()> {
    let advisories = Advisories::read(&args.advisories)?;
    let pool = context.cache.folder("packages")?;
    let mut renewals: Vec<Renewal> = Vec::new();
    for (recipe, arch) in bake::to_renew(&args.recipes(context), args.name(), args.arch)? {
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

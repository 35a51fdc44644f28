//! `quicksand dev bake`: finds the base, bakes, proves and says where the wheel is.

use super::registry;
use crate::{
    args::{BakeArgs, arch_of},
    places,
    report::{FAILURE, Failure, USAGE},
};
use host_platform::Arch;
use image_builder::{
    Error,
    bake::{Baked, Prover},
    standalone::{self, Base, Options},
};
use image_prover::Subject;
use runtime_locator::Search;
use serde_json::Value;
use std::path::Path;

/// Bakes and prints the wheel's path.
pub fn run(args: &BakeArgs) -> Result<(), Failure> {
    image_builder::bake::check_system(host_platform::Os::OF_PROCESS)?;
    if !args.dir.join(standalone::RECIPE).is_file() {
        let message = format!("`{}` holds no {}", args.dir.display(), standalone::RECIPE);
        let hint = "make a folder with: quicksand dev new-image NAME --base IMAGE";
        return Err(Failure::new(USAGE, message, Some(hint)));
    }
    let arch = arch_of(args.arch.as_deref())?;
    let search = places::search();
    let base = base(&search, &standalone::base_of(&args.dir)?, arch)?;
    let out = args.out.clone().unwrap_or_else(|| args.dir.join("dist"));
    let cache = search.cache_dir.clone().ok_or_else(|| {
        let hint = "set HOME or XDG_CACHE_HOME";
        Failure::new(FAILURE, "No folder for caches is known", Some(hint))
    })?;
    // The base stays where it was found.
    let search = Search {
        image_path: base.chain[0].parent().map(Path::to_owned).into_iter().collect(),
        ..search
    };
    let prover = Machine(search);
    let options = Options {
        out: &out,
        cache: &cache.join("images"),
        python: &wheel_installer::active_python(),
        ownership: args.ownership,
        update: args.update,
        prover: (!args.no_boot).then_some(&prover as _),
        say: &|what| eprintln!("{what}"),
        pull: &|wanted| registry::pull(&cache.join("oci"), wanted, &|what| eprintln!("{what}")),
    };
    println!("{}", standalone::bake(&args.dir, &base, &options)?.display());
    Ok(())
}

/// Proves images in a machine that has what this finds.
struct Machine(Search);

impl Prover<Error> for Machine {
    // What this bake makes goes with it: no proof is kept for another one.
    fn identity(&self, _arch: Arch) -> Result<Vec<u8>, Error> {
        Ok(Vec::new())
    }

    fn prove(&self, baked: &Baked, images: &Path, say: &dyn Fn(String)) -> Result<Value, Error> {
        let subject = Subject::from_any_recipe(&baked.recipe, baked.arch)?;
        image_prover::prove_in(images, &subject, self.0.clone(), say)
            .map_err(|error| Error::Proof(Box::new(error)))
    }
}

fn base(search: &Search, name: &str, arch: Arch) -> Result<Base, Failure> {
    let found = runtime_locator::find_image(search, name, Some(arch))
        .map_err(|error| Failure::locate(&error))?;
    if found.n_base_disks != found.chain.len() {
        let message = format!("`{name}` is a save, and an image lies on an image");
        return Err(Failure::new(USAGE, message, Some("name an installed image as the base")));
    }
    Ok(image_inspect::base_of(found, name))
}

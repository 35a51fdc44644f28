//! `quicksand dev`: images of people who do not have this project's repository. The baking itself is
//! `image_builder::outside`'s; here are places, words and the proof by boot.

mod audit;
mod bake;
mod new_image;
mod registry;

use crate::{
    args::{DevAction, ScaffoldKind},
    report::Failure,
};
use image_builder::standalone::template::RootFs;

/// Does it.
pub fn run(action: &DevAction) -> Result<(), Failure> {
    match action {
        DevAction::NewImage(args) => {
            let root = match &args.from {
                Some(reference) => RootFs::Registry(reference.clone()),
                None => RootFs::Base,
            };
            new_image::run(args, root)
        }
        DevAction::Scaffold(args) => {
            let root = match args.kind {
                ScaffoldKind::Base => RootFs::Tar,
                ScaffoldKind::Overlay => RootFs::Base,
            };
            new_image::run(&args.image(), root)
        }
        DevAction::Bake(args) => bake::run(args),
        DevAction::Audit(args) => audit::run(args),
    }
}

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
use image_builder::outside::template::Ground;

/// Does it.
pub fn run(action: &DevAction) -> Result<(), Failure> {
    match action {
        DevAction::NewImage(args) => {
            let ground = match &args.from {
                Some(reference) => Ground::Registry(reference.clone()),
                None => Ground::Image,
            };
            new_image::run(args, ground)
        }
        DevAction::Scaffold(args) => {
            let ground = match args.kind {
                ScaffoldKind::Base => Ground::Brought,
                ScaffoldKind::Overlay => Ground::Image,
            };
            new_image::run(&args.image(), ground)
        }
        DevAction::Bake(args) => bake::run(args),
        DevAction::Audit(args) => audit::run(args),
    }
}

//! `quicksand dev`: images of people who do not have this project's repository. The baking itself is
//! `image_builder::outside`'s; here are places, words and the proof by boot.

mod bake;
mod boot;
mod new_image;

use crate::{args::DevAction, report::Failure};

/// Does it.
pub fn run(action: &DevAction) -> Result<(), Failure> {
    match action {
        DevAction::NewImage(args) => new_image::run(args),
        DevAction::Bake(args) => bake::run(args),
    }
}

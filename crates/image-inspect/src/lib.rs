//! What is in images as they are found, by a name, as a wheel or as a disk, and how two of them differ.
//!
//! `runtime-locator` finds images, `image-builder` reads and compares what is in them; this is where both meet, for
//! `cargo xtask image` and `quicksand dev audit` alike. `base` makes one
//! something to bake on, `opened` takes an image apart, `text` says what differs.

mod base;
mod error;
mod opened;
mod text;

pub use base::base_of;
pub use error::Error;
pub use opened::Image;

use image_builder::{
    audit::bills,
    compare::{self, Report},
};
use opened::{forget_packages_of_one, other_parts};
use runtime_locator::Search;
use serde_json::Value;
use std::path::Path;

/// How two images differ.
pub struct Difference {
    report: Report,
    /// What differs beside the tree: disk, kernel, initrd, defaults, manifest.
    parts: Vec<&'static str>,
}

impl Difference {
    /// Compares two images.
    ///
    /// # Errors
    /// The trees cannot be compared.
    pub fn between(mut a: Image, mut b: Image) -> Result<Self, Error> {
        forget_packages_of_one(&mut a, &mut b);
        let report = compare::compare(&a.side(), &b.side())?;
        Ok(Self { report, parts: other_parts(&a.parts, &b.parts) })
    }

    /// Whether both are the same in each byte of kernel, initrd and disk.
    pub fn is_same(&self) -> bool {
        self.report.is_same() && self.parts.is_empty()
    }

    /// As JSON: `packages`, `files`, the other `parts` that differ, and whether the two are the `same`.
    pub fn json(&self) -> Value {
        let mut value = serde_json::json!(self.report);
        value["same"] = Value::from(self.is_same());
        value["parts"] = Value::from(self.parts.clone());
        value
    }

    /// As text, a line each.
    pub fn text(&self) -> String {
        text::render(&self.report, &self.parts)
    }
}

/// The bills of materials of an image and of what it lies on: of a wheel, a file NAME.cdx.json, or an image that
/// `search` finds by its name.
///
/// # Errors
/// The image is not found, or its bill cannot be read.
pub fn bills_of(search: &Search, given: &str) -> Result<Vec<Value>, Error> {
    let path = Path::new(given);
    match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("whl") => return Ok(vec![bills::from_wheel(path)?]),
        Some("json") => return Ok(vec![bills::from_file(path)?]),
        _ => {}
    }
    let found = runtime_locator::find_image(search, given, None)?;
    // Disks above those of the image are a save's, which no package made.
    let disks = found.chain.iter().take(found.n_base_disks);
    Ok(disks.map(|disk| bills::from_disk(disk)).collect::<Result<_, _>>()?)
}

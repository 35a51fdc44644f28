//! `quicksand dev audit`: finds the bills of an image and prints what the comparison with advisories says.

use crate::{
    args::AuditArgs,
    places,
    report::{FAILURE, Failure},
};
use image_builder::audit::{self, Advisories, bills};
use serde_json::Value;
use std::path::Path;

/// Prints what was found; a failure where a component has a known flaw.
pub fn run(args: &AuditArgs) -> Result<(), Failure> {
    let report = audit::audit(&bills_of(&args.image)?, &Advisories::read(&args.advisories)?);
    if args.json {
        println!("{:#}", serde_json::json!(report));
    } else {
        report.lines().iter().for_each(|line| println!("{line}"));
    }
    match report.findings.len() {
        0 => Ok(()),
        n_findings => {
            let message = format!("`{}` has {n_findings} known flaws", args.image);
            let hint =
                "install a newer one, or renew the lock of an own one: quicksand dev bake --update";
            Err(Failure::new(FAILURE, message, Some(hint)))
        }
    }
}

/// The bills of an image and of what it lies on.
fn bills_of(image: &str) -> Result<Vec<Value>, Failure> {
    let path = Path::new(image);
    match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("whl") => return Ok(vec![bills::of_wheel(path)?]),
        Some("json") => return Ok(vec![bills::of_file(path)?]),
        _ => {}
    }
    let found = runtime_locator::find_image(&places::search(), image, None)
        .map_err(|error| Failure::locate(&error))?;
    // Disks above those of the image are a save's, which no package made.
    let disks = found.chain.iter().take(found.n_base_disks);
    Ok(disks.map(|disk| bills::of_disk(disk)).collect::<Result<_, _>>()?)
}

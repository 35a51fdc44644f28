//! `quicksand dev audit`: finds the bills of an image and prints what the comparison with advisories says.

use crate::{
    args::AuditArgs,
    places,
    report::{FAILURE, Failure},
};
use image_builder::audit::{self, Advisories};
use image_inspect::bills_of;

/// Prints what was found; a failure where a component has a known flaw.
pub fn run(args: &AuditArgs) -> Result<(), Failure> {
    let report = audit::audit(
        &bills_of(&places::search(), &args.image)?,
        &Advisories::read(&args.advisories)?,
    );
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

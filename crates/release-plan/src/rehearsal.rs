//! The whole release on one host: wheels that are there are taken as they are, and for each other wheel of the plan
//! there is a stand-in with a binary of the right format.

use crate::{
    Error, Plan,
    gather::gather,
    gather::spread,
    name_of,
    stand_ins::stand_in,
    verify::{Release, check_complete, check_true, look},
};
use fs_err as fs;
use std::path::{Path, PathBuf};
use wheel_audit::{merge, retag_images};

/// What was played.
#[derive(Debug)]
pub struct Rehearsed {
    /// Wheels of this host.
    pub n_real: usize,
    /// Wheels that stand for those of other machines.
    pub n_stand_ins: usize,
    /// What was gathered from where, a line each.
    pub news: Vec<String>,
    /// What is allowed and yet to be looked at.
    pub warnings: Vec<String>,
    /// The folder at the end.
    pub release: Release,
}

/// Plays what the runners and the merge do, in the order of the workflow, into the folder `wheels`; `have` are the
/// wheels of this host.
///
/// # Errors
/// A step fails, or what comes of them is not the plan's.
pub fn rehearse(have: &[PathBuf], wheels: &Path) -> Result<Rehearsed, Error> {
    let plan = Plan::from_this_tree();
    let (mut n_real, mut n_stand_ins) = (0, 0);
    let mut warnings = Vec::new();
    for runner in &plan.runners {
        let folder = wheels.join(runner.runner.name());
        fs::create_dir_all(&folder)?;
        for planned in &runner.builds {
            match have.iter().find(|wheel| Plan::is_planned_as(planned, &name_of(wheel))) {
                Some(wheel) => {
                    fs::copy(wheel, folder.join(name_of(wheel)))?;
                    n_real += 1;
                }
                None => {
                    stand_in(planned, &folder)?;
                    n_stand_ins += 1;
                }
            }
        }
        warnings.extend(retag_images(&folder, runner.runner)?.warnings);
    }
    let news = gather(wheels)?.into_iter().chain(spread(wheels)?).collect();
    warnings.extend(merge(wheels)?.into_iter().flat_map(|merged| merged.warnings));
    let release = look(wheels)?;
    check_true(&release)?;
    check_complete(&release)?;
    Ok(Rehearsed { n_real, n_stand_ins, news, warnings, release })
}

//! `quicksand install` and `quicksand uninstall`: QEMU and images from an index or a folder.
//!
//! Everything is fetched and proved before anything is put in place, and all of it is put in place
//! at once. Must not know what is in the packages.

pub mod environment;
mod fetch;
#[cfg(test)]
mod fuzz;
mod http;
pub mod names;
mod page;
mod pip_config;
mod place;
mod python;
mod resolve;
mod supply;
mod tags;
mod transaction;

use crate::{
    args::{InstallArgs, UninstallArgs},
    places,
    report::{FAILURE, Failure},
};
use environment::{Environment, Installed};
use names::Request;
use package_layout::image;
use pip_config::{Given, sources};
pub use python::of_folder as python_of;
use resolve::Solution;
use runtime_locator::Search;
use std::{collections::BTreeSet, path::PathBuf};

/// Installs what was named and what it needs.
pub fn run(args: &InstallArgs) -> Result<(), Failure> {
    let requests = read(&args.names)?;
    let environment = environment::choose(args.python.as_deref())?;
    transaction::tidy(&environment.purelib)?;
    let given = Given {
        index_url: args.index_url.clone(),
        find_links: args.find_links.clone(),
        no_index: args.no_index,
    };
    let prefix = environment.python.as_ref().map(|python| python.prefix.as_path());
    let settings = pip_config::settings(host_platform::Os::OF_PROCESS, prefix, |name| {
        std::env::var(name).ok()
    })?;
    let sources = sources(&given, &settings)?;
    let is_by_name = |request: &Request| request.file.is_none();
    if sources.indexes.is_empty()
        && sources.find_links.is_empty()
        && requests.iter().any(is_by_name)
    {
        return Err(pip_config::nowhere());
    }
    let mut supply = supply::Supply::new(sources, cache()?);
    let solution = resolve::solve(&environment, &requests, args.upgrade, &mut supply)?;
    conclude(&environment, &solution)
}

fn read(words: &[String]) -> Result<Vec<Request>, Failure> {
    let mut requests: Vec<Request> = Vec::new();
    for word in words {
        for request in names::read(word)? {
            if !requests.contains(&request) {
                requests.push(request);
            }
        }
    }
    Ok(requests)
}

/// The variable that has missing images installed when it is 1.
const AUTO_INSTALL: &str = "QUICKSAND_AUTO_INSTALL";

/// Installs an image that a start would not find, where the environment says so. What is no name of
/// ours is for the start to refuse.
pub fn missing(image: &str, arch: Option<host_platform::Arch>) -> Result<(), Failure> {
    if std::env::var(AUTO_INSTALL).as_deref() != Ok("1") {
        return Ok(());
    }
    let names = [image.to_owned()];
    let is_name = read(&names).is_ok_and(|requests| requests.iter().all(|it| it.file.is_none()));
    let found = runtime_locator::find_image(&places::search(), image, arch);
    if !is_name || !matches!(found, Err(runtime_locator::Error::ImageNotFound { .. })) {
        return Ok(());
    }
    eprintln!("quicksand: installing {image}, which is missing ({AUTO_INSTALL}=1)");
    run(&InstallArgs { names: names.into(), ..InstallArgs::default() })
}

/// Where downloads are kept: in the user's cache, or where the system keeps what may go.
fn cache() -> Result<PathBuf, Failure> {
    let folder = places::search()
        .cache_dir
        .unwrap_or_else(|| std::env::temp_dir().join(package_layout::user_data::APPLICATION_DIR));
    let folder = folder.join("wheels");
    fs_err::create_dir_all(&folder)?;
    Ok(folder)
}

/// Puts the wheels in place and tells what was done.
fn conclude(environment: &Environment, solution: &Solution) -> Result<(), Failure> {
    for (distribution, version) in &solution.already {
        println!("{distribution} {version} is installed already");
    }
    if solution.chosen.is_empty() && solution.already.is_empty() {
        let reasons: Vec<String> = solution
            .left_out
            .iter()
            .map(|(name, reason)| format!("\n  {name}: {reason}"))
            .collect();
        let message = format!("Nothing to install:{}", reasons.concat());
        return Err(Failure::new(FAILURE, message, None));
    }
    for (distribution, reason) in &solution.left_out {
        eprintln!("left out {distribution}: {}", sandbox::printable(reason));
    }
    if solution.chosen.is_empty() {
        return Ok(());
    }
    transaction::with(&environment.purelib, |transaction| {
        for chosen in &solution.chosen {
            place::plan(environment, transaction, &chosen.wheel, chosen.is_requested)?;
        }
        transaction.commit()
    })?;
    for chosen in &solution.chosen {
        println!("installed {} {}", chosen.distribution, chosen.version);
    }
    println!("into {}", environment.purelib.display());
    solution.chosen.iter().try_for_each(|chosen| prove_base(environment, &chosen.distribution))
}

/// An overlay image is good for the very disk that it was made on: better told now than when a
/// sandbox starts.
fn prove_base(environment: &Environment, distribution: &str) -> Result<(), Failure> {
    let name = distribution.strip_prefix(names::PREFIX).unwrap_or(distribution);
    let search = Search { site_packages: environment.sites(), ..places::search() };
    let is_overlay = environment
        .sites()
        .iter()
        .any(|site| site.join(image::images_dir(name)).join(image::MANIFEST_FILE).is_file());
    if !is_overlay {
        return Ok(());
    }
    runtime_locator::find_image(&search, name, None)
        .and_then(|find| runtime_locator::check_base_disks(&find))
        .map_err(|error| {
            let message = format!("{distribution} is installed and cannot start: {error}");
            Failure::new(FAILURE, message, error.hint().as_deref())
        })
}

/// Removes what was named, all or nothing.
pub fn uninstall(args: &UninstallArgs) -> Result<(), Failure> {
    let requests = read(&args.names)?;
    let mut places = vec![environment::choose(args.python.as_deref())?];
    if args.python.is_none() {
        places
            .extend(environment::of_user()?.filter(|of_user| of_user.purelib != places[0].purelib));
    }
    places.iter().try_for_each(|place| transaction::tidy(&place.purelib))?;
    let mut found: Vec<(&Environment, Installed)> = Vec::new();
    for request in &requests {
        let installed = places.iter().find_map(|place| {
            let installed = place.installed(&request.distribution)?;
            Some((place, installed))
        });
        match installed {
            Some(installed) => found.push(installed),
            None if request.is_optional => {}
            None => {
                let message = format!("{} is not installed", request.distribution);
                return Err(Failure::new(
                    FAILURE,
                    message,
                    Some("`quicksand list --all` shows what is"),
                ));
            }
        }
    }
    if found.is_empty() {
        println!("nothing is installed");
    }
    for place in &places {
        let here: Vec<&Installed> =
            found.iter().filter(|(of, _)| std::ptr::eq(*of, place)).map(|(_, it)| it).collect();
        if here.is_empty() {
            continue;
        }
        warn_of_dependents(place, &here);
        transaction::with(&place.purelib, |transaction| {
            for installed in &here {
                place::plan_removal(place, transaction, installed)?;
            }
            transaction.commit()
        })?;
        for installed in here {
            println!("uninstalled {} {}", installed.distribution, installed.version);
        }
    }
    Ok(())
}

/// Says which installed distributions need what leaves.
fn warn_of_dependents(place: &Environment, leaving: &[&Installed]) {
    let names: BTreeSet<&str> = leaving.iter().map(|it| it.distribution.as_str()).collect();
    for site in place.sites() {
        for other in environment::installed_in(&site) {
            if names.contains(other.distribution.as_str()) {
                continue;
            }
            let text = fs_err::read_to_string(other.info.join("METADATA")).unwrap_or_default();
            for requirement in resolve::requirements(&text, &other.distribution).unwrap_or_default()
            {
                let name = requirement.name.to_string();
                if names.contains(name.as_str()) && requirement.marker.evaluate(&place.markers, &[])
                {
                    eprintln!("warning: {} needs {name}", other.distribution);
                }
            }
        }
    }
}

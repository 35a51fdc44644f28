//! Installs QEMU and images from an index or a folder, and removes them: the command's `install` and `uninstall`,
//! and Python's `quicksand.install`.
//!
//! Everything is fetched and proved before anything is put in place, and all of it is put in place
//! at once. Must not know what is in the packages, nor who asked: whoever asks hears of it as a [`Listener`].

pub mod environment;
mod error;
mod fetch;
#[cfg(test)]
mod fuzz;
mod http;
mod listener;
pub mod names;
mod page;
mod patience;
mod pip_config;
mod place;
mod python;
mod resolve;
mod supply;
mod tags;
mod transaction;

pub use error::{Error, ErrorKind};
pub use listener::{Listener, Watch, line_of_fetching};
pub use python::active as active_python;

use environment::{Environment, Installed};
use names::Request;
use package_layout::image;
use pip_config::{Given, sources};
use resolve::Solution;
use runtime_locator::Search;
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

/// What to install, and from where.
#[derive(Clone, Debug, Default)]
pub struct Order {
    /// Names, with or without a version, and paths of wheels.
    pub names: Vec<String>,
    /// The index to ask; pip's configuration says it unless given.
    pub index_url: Option<String>,
    /// Folders of wheels, and pages that link to wheels.
    pub find_links: Vec<String>,
    /// Ask no index, whatever pip's configuration says.
    pub no_index: bool,
    /// Take the newest version even if another one is installed.
    pub upgrade: bool,
    /// The interpreter or environment to install into; see [`environment::choose`] for what is meant
    /// unless given.
    pub python: Option<PathBuf>,
}

/// Installs what was named and what it needs, all or none. `search` says where this user's data and caches lie.
///
/// # Errors
/// A name is unknown, nothing that fits is offered, or what is offered is not what the index says.
pub fn install(order: &Order, search: &Search, listener: &dyn Listener) -> Result<(), Error> {
    let requests = names::read_all(&order.names)?;
    let environment = environment::choose(search, order.python.as_deref())?;
    transaction::tidy(&environment.purelib, listener)?;
    let given = Given {
        index_url: order.index_url.clone(),
        find_links: order.find_links.clone(),
        no_index: order.no_index,
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
        return Err(Error::Nowhere);
    }
    let mut supply = supply::Supply::new(sources, cache(search)?, listener);
    let solution = resolve::solve(&environment, &requests, order.upgrade, &mut supply)?;
    conclude(&environment, &solution, search, listener)
}

/// Where downloads are kept: in the user's cache, or where the system keeps what may go.
fn cache(search: &Search) -> Result<PathBuf, Error> {
    let folder = search
        .cache_dir
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(package_layout::user_data::APPLICATION_DIR));
    let folder = folder.join("wheels");
    fs_err::create_dir_all(&folder)?;
    Ok(folder)
}

/// Puts the wheels in place and tells what was done.
fn conclude(
    environment: &Environment,
    solution: &Solution,
    search: &Search,
    listener: &dyn Listener,
) -> Result<(), Error> {
    for (distribution, version) in &solution.already {
        listener.done(&format!("{distribution} {version} is installed already"));
    }
    if solution.chosen.is_empty() && solution.already.is_empty() {
        let reason = |(name, reason): &(String, String)| format!("\n  {name}: {reason}");
        return Err(Error::Nothing { reasons: solution.left_out.iter().map(reason).collect() });
    }
    for (distribution, reason) in &solution.left_out {
        listener.note(&format!("left out {distribution}: {reason}"));
    }
    if solution.chosen.is_empty() {
        return Ok(());
    }
    transaction::with(&environment.purelib, listener, |transaction| {
        for chosen in &solution.chosen {
            listener.goes_on()?;
            place::plan(environment, transaction, &chosen.wheel, chosen.is_requested)?;
        }
        listener.goes_on()?;
        transaction.commit()
    })?;
    for chosen in &solution.chosen {
        listener.done(&format!("installed {} {}", chosen.distribution, chosen.version));
    }
    listener.done(&format!("into {}", environment.purelib.display()));
    let mut chosen = solution.chosen.iter();
    chosen.try_for_each(|chosen| prove_base(environment, search, &chosen.distribution))
}

/// An overlay image is good for the very disk that it was made on: better told now than when a
/// sandbox starts.
fn prove_base(environment: &Environment, search: &Search, distribution: &str) -> Result<(), Error> {
    let name = distribution.strip_prefix(names::PREFIX).unwrap_or(distribution);
    let search = Search { site_packages: environment.sites(), ..search.clone() };
    let is_overlay = environment
        .sites()
        .iter()
        .any(|site| site.join(image::images_dir(name)).join(image::MANIFEST_FILE).is_file());
    if !is_overlay {
        return Ok(());
    }
    runtime_locator::find_image(&search, name, None)
        .and_then(|find| runtime_locator::check_base_disks(&find))
        .map_err(|source| Error::CannotStart {
            distribution: distribution.to_owned(),
            source: Box::new(source),
        })
}

/// Removes what was named, all or nothing, from the environment that is meant (see [`environment::choose`]), and
/// where none is named from the user's data folder too.
///
/// # Errors
/// A name is unknown or not installed, or a RECORD cannot be trusted.
pub fn uninstall(
    words: &[String],
    python: Option<&Path>,
    search: &Search,
    listener: &dyn Listener,
) -> Result<(), Error> {
    let requests = names::read_all(words)?;
    let mut places = vec![environment::choose(search, python)?];
    if python.is_none() {
        let of_user = environment::for_user(search)?;
        places.extend(of_user.filter(|of_user| of_user.purelib != places[0].purelib));
    }
    places.iter().try_for_each(|place| transaction::tidy(&place.purelib, listener))?;
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
                return Err(Error::NotInstalled { distribution: request.distribution.clone() });
            }
        }
    }
    if found.is_empty() {
        listener.done("nothing is installed");
    }
    for place in &places {
        let here: Vec<&Installed> =
            found.iter().filter(|(of, _)| std::ptr::eq(*of, place)).map(|(_, it)| it).collect();
        if here.is_empty() {
            continue;
        }
        warn_of_dependents(place, &here, listener);
        transaction::with(&place.purelib, listener, |transaction| {
            for installed in &here {
                place::plan_removal(place, transaction, installed)?;
            }
            transaction.commit()
        })?;
        for installed in here {
            let Installed { distribution, version, .. } = installed;
            listener.done(&format!("uninstalled {distribution} {version}"));
        }
    }
    Ok(())
}

/// Says which installed distributions need what leaves.
fn warn_of_dependents(place: &Environment, leaving: &[&Installed], listener: &dyn Listener) {
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
                    listener.note(&format!("warning: {} needs {name}", other.distribution));
                }
            }
        }
    }
}

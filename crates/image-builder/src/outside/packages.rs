//! The packages of a recipe outside of this repository: chosen and fetched by apt under our
//! configuration, and installed inside of the tree below.

use super::{Options, as_locked};
use crate::{
    Error,
    apt::{self, Apt},
    foreign::Runner,
    lock::ArchLock,
    recipe::Recipe,
    rootfs::{self, Means},
    tiers::Tier,
    tree::Tree,
};
use fs_err as fs;
use host_platform::Arch;
use std::{io, path::Path};

/// The lock of packages that answers the recipe, the old one if it does, with every package in the
/// pool. Without packages nothing is asked of a mirror.
pub(super) fn lock(
    recipe: &Recipe,
    arch: Arch,
    below: &Tree,
    old: Option<&ArchLock>,
    options: &Options,
) -> Result<ArchLock, Error> {
    let base = [as_locked(below, below.newest_time())?];
    let request = apt::request(recipe, arch, &base);
    if recipe.body.packages.is_empty() {
        let [base] = base;
        return Ok(ArchLock { request, package: Vec::new(), ..base });
    }
    let pool = pool(options)?;
    let folders = options.cache.join("apt");
    fs::create_dir_all(&folders)?;
    // A folder of its own: another bake may be at the same distribution at the same time.
    let folder = crate::beside(&folders)?;
    let apt = apt(folder.path(), recipe, arch, below)?;
    let chosen = match old.filter(|old| old.request == request && !options.update) {
        Some(old) => old.clone(),
        None => {
            (options.say)("Choosing packages");
            run(apt.update(), "apt-get update")?;
            apt.resolve(recipe, arch, &base)?
        }
    };
    let missing: Vec<_> =
        chosen.package.iter().filter(|one| !apt::pool_path(&pool, one).is_file()).collect();
    let mut past = None;
    for package in &missing {
        (options.say)(&format!("Fetching {}", package.name));
        let arriving = tempfile::Builder::new().prefix(".part-").tempdir_in(&pool)?;
        let mut outcome = run(apt.fetch(&[*package], arriving.path())?, "apt-helper");
        let came = apt::pool_path(arriving.path(), package);
        if !came.is_file() {
            // The archive of the lock's day has it, where it is known where that is.
            let archives = past.get_or_insert_with(|| {
                let _ = run(apt.update(), "apt-get update");
                apt.past(&chosen)
            });
            for archives in archives.iter() {
                outcome =
                    run(apt.fetch_from(archives, &[*package], arriving.path())?, "apt-helper");
                if came.is_file() {
                    break;
                }
            }
        }
        if !came.is_file() {
            outcome?;
            let packages = vec![format!("{} {}", package.name, package.version)];
            let (recipe, renewal) = (recipe.name.clone(), super::RENEWAL.to_owned());
            return Err(Error::Gone { recipe, renewal, packages });
        }
        apt::checked_path(arriving.path(), package)?;
        fs::rename(came, apt::pool_path(&pool, package))?;
    }
    Ok(chosen)
}

/// The tree with the packages installed and the recipe's commands run inside of it.
pub(super) fn install(
    recipe: &Recipe,
    arch: Arch,
    below: &Tree,
    lock: &ArchLock,
    options: &Options,
) -> Result<Tree, Error> {
    if lock.package.is_empty() && recipe.body.commands.is_empty() {
        return Ok(below.clone());
    }
    let (way, lacking) = rootfs::way(options.ownership)?;
    if !lacking.is_empty() {
        let tried = vec![format!("{} (its programs are not installed)", way.describe())];
        return Err(Error::NoWay { tried, hint: format!("install {}", lacking.join(" and ")) });
    }
    let means = Means { way, runner: Runner::ready(arch)? };
    (options.say)(&format!("Installing ({})", means.describe()));
    let repository = crate::beside(&std::env::temp_dir())?;
    rootfs::lay_out(&lock.package, recipe, arch, &pool(options)?, repository.path())?;
    below.write_tar(&repository.path().join(rootfs::BASE_TAR))?;
    rootfs::share(repository.path())?;
    let tar = repository.path().join("installed.tar");
    let made = tempfile::NamedTempFile::new()?;
    let all = Tier::whole(lock, recipe);
    let outcome = run(
        rootfs::install_over(&all, recipe, arch, &means, repository.path(), made.path()),
        "mmdebstrap",
    );
    outcome.map_err(|error| match error {
        Error::Tool { source, .. } if source.kind() != io::ErrorKind::NotFound => {
            Error::Installation { way: means.way, source }
        }
        other => other,
    })?;
    fs::copy(made.path(), &tar)?;
    let mut tree = Tree::new(lock.source_date);
    tree.add_tar_file(&tar)?;
    Ok(tree)
}

/// Where packages and wheels that were fetched are kept.
pub(super) fn pool(options: &Options) -> Result<std::path::PathBuf, Error> {
    let pool = options.cache.join("packages");
    fs::create_dir_all(&pool)?;
    Ok(pool)
}

fn apt(folder: &Path, recipe: &Recipe, arch: Arch, below: &Tree) -> Result<Apt, Error> {
    let status = below.read("var/lib/dpkg/status")?.ok_or_else(|| Error::NoPackageManager {
        base: recipe.base.as_ref().map(|base| base.name.clone()).unwrap_or_default(),
    })?;
    let distribution = recipe.body.distribution.name;
    let archives = apt::archives(distribution, arch)?;
    let apt = Apt::new(folder, recipe, arch, archives, &apt::keyring(distribution)?)?;
    apt.assume_status(&String::from_utf8_lossy(&status))?;
    Ok(apt)
}

/// Runs a tool; the end of what it printed becomes part of the error.
pub(super) fn run(command: duct::Expression, program: &str) -> Result<(), Error> {
    const SHOWN: usize = 2000;
    let failed = |source| Error::Tool { program: program.to_owned(), source };
    let output = command
        .stdin_null()
        .stderr_to_stdout()
        .stdout_capture()
        .unchecked()
        .run()
        .map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let start = printed.char_indices().rev().nth(SHOWN).map_or(0, |(at, _)| at);
    Err(failed(std::io::Error::other(printed[start..].trim().to_owned())))
}

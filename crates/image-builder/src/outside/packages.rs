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
use std::io;

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
    let apt = apt(recipe, arch, below, options)?;
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
    for package in &missing {
        (options.say)(&format!("Fetching {}", package.name));
        let arriving = tempfile::Builder::new().prefix(".part-").tempdir_in(&pool)?;
        let outcome = run(apt.fetch(&[*package], arriving.path())?, "apt-helper");
        let came = apt::pool_path(arriving.path(), package);
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

fn apt(recipe: &Recipe, arch: Arch, below: &Tree, options: &Options) -> Result<Apt, Error> {
    let status = below.read("var/lib/dpkg/status")?.ok_or_else(|| Error::NoPackageManager {
        base: recipe.base.as_ref().map(|base| base.name.clone()).unwrap_or_default(),
    })?;
    let distribution = &recipe.body.distribution;
    let what = crate::sha256(format!("{distribution:?} {}", arch.image_name()).as_bytes());
    let folder = options.cache.join("apt").join(&what[..16]);
    fs::create_dir_all(&folder)?;
    let archives = apt::archives(distribution.name, arch)?;
    let keyring = apt::keyring(distribution.name)?;
    let apt = Apt::new(&folder, recipe, arch, archives, &keyring)?;
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

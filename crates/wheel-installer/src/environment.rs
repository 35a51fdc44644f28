//! Where to install: a Python environment, or the user's data folder when there is none.
//!
//! Owns the choice and what is already there. Must not know indexes or downloads.

use crate::Error;
use crate::{
    python::{self, Interpreter},
    tags::{Compatible, hardware},
};
use host_platform::{Host, LibC, Os};
use package_layout::user_data;
use pep440_rs::Version;
use pep508_rs::MarkerEnvironment;
use runtime_locator::Search;
use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
};

/// The distribution that brings this command.
const OWN_DISTRIBUTION: &str = "quicksand-runtime";

/// A place for packages.
#[derive(Clone, Debug)]
pub struct Environment {
    /// For packages without native files.
    pub purelib: PathBuf,
    /// For packages with native files; often the same folder.
    pub platlib: PathBuf,
    /// For what people start from their shell.
    pub scripts: PathBuf,
    /// For the rest, as wheels name it (`share/…`).
    pub data: PathBuf,
    /// The interpreter, if there is one.
    pub python: Option<Interpreter>,
    /// What fits.
    pub compatible: Compatible,
    /// What the markers of requirements are about.
    pub markers: MarkerEnvironment,
}

/// A distribution that is installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// In PEP 503's normal form.
    pub distribution: String,
    pub version: Version,
    /// The folder with the packages.
    pub site: PathBuf,
    /// Its `.dist-info` folder.
    pub info: PathBuf,
}

/// The environment that is meant: the one that was named, the one that this command was installed
/// in, the active one, or the user's data folder.
pub fn choose(search: &Search, named: Option<&Path>) -> Result<Environment, Error> {
    let host = host_platform::host();
    if let Some(python) = named {
        return from_interpreter(&host, python::ask(python)?);
    }
    let program = env::current_exe().ok();
    if let Some(bin) = program.as_deref().and_then(Path::parent)
        && let Some(environment) = own(&host, bin)?
    {
        return Ok(environment);
    }
    let active = env::var_os("VIRTUAL_ENV").filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(python) = active.as_deref().and_then(python::in_folder) {
        return from_interpreter(&host, python::ask(&python)?);
    }
    for_user(search)?.ok_or(Error::NoPlace)
}

/// The packages of the user's data folder.
pub fn for_user(search: &Search) -> Result<Option<Environment>, Error> {
    let host = host_platform::host();
    search.data_dir.as_deref().map(|folder| from_data_folder(&host, folder)).transpose()
}

/// The environment that the command in this folder belongs to, if it was installed as a package.
fn own(host: &Host, bin: &Path) -> Result<Option<Environment>, Error> {
    let beside = ["python3", "python", "python.exe", "../python.exe"]
        .iter()
        .map(|name| bin.join(name))
        .find(|path| path.is_file());
    if let Some(program) = beside {
        let said = python::ask(&program)?;
        let environment = place(host, said.paths.clone(), said.clone())?;
        if has_command(&environment) {
            return from_interpreter(host, said).map(Some);
        }
    }
    // `pip install --user` puts the command in a folder without an interpreter.
    let Some(said) = python::ask(Path::new("python3")).ok() else { return Ok(None) };
    if let Some(paths) = said.user_paths.clone()
        && paths.get("scripts").is_some_and(|scripts| is_same(scripts, bin))
    {
        let environment = place(host, paths, said)?;
        return Ok(has_command(&environment).then_some(environment));
    }
    Ok(None)
}

fn has_command(environment: &Environment) -> bool {
    environment.sites().iter().any(|site| find(site, OWN_DISTRIBUTION).is_some())
}

fn is_same(a: &Path, b: &Path) -> bool {
    matches!((fs_err::canonicalize(a), fs_err::canonicalize(b)), (Ok(a), Ok(b)) if a == b)
}

fn from_interpreter(host: &Host, said: Interpreter) -> Result<Environment, Error> {
    if said.is_externally_managed && !said.is_virtual {
        return Err(Error::Managed { python: said.executable });
    }
    place(host, said.paths.clone(), said)
}

fn place(
    host: &Host,
    mut paths: BTreeMap<String, PathBuf>,
    said: Interpreter,
) -> Result<Environment, Error> {
    let broken =
        |what: &str| Error::Untold { python: said.executable.clone(), what: what.to_owned() };
    let mut path = |name: &str| {
        paths.remove(name).filter(|path| path.is_absolute()).ok_or_else(|| broken(name))
    };
    let own = said.platform(host);
    let hardware = hardware(host, own.libc, own.macos);
    Ok(Environment {
        purelib: path("purelib")?,
        platlib: path("platlib")?,
        scripts: path("scripts")?,
        data: path("data")?,
        compatible: Compatible::new(hardware, Some((said.tag(), own))),
        markers: said.marker_environment().ok_or_else(|| broken("version"))?,
        python: Some(said),
    })
}

/// Our folder of the user's data, laid out as `site-packages`.
fn from_data_folder(host: &Host, folder: &Path) -> Result<Environment, Error> {
    let packages = folder.join(user_data::PACKAGES_DIR);
    let libc = match host.os {
        Os::Linux => host_platform::libc_of_host(),
        Os::Macos | Os::Windows => LibC::Unknown,
    };
    let macos = match host.os {
        Os::Macos => {
            let said = duct::cmd!("sw_vers", "-productVersion").read().unwrap_or_default();
            python::macos_version(said.trim())
        }
        Os::Linux | Os::Windows => (0, 0),
    };
    Ok(Environment {
        purelib: packages.clone(),
        platlib: packages.clone(),
        scripts: packages.join("bin"),
        data: packages,
        python: None,
        compatible: Compatible::new(hardware(host, libc, macos), None),
        markers: markers_without_python(host).ok_or(Error::UnknownHost)?,
    })
}

/// Requirements can ask for a version of Python even here; any that is not too old will do.
fn markers_without_python(host: &Host) -> Option<MarkerEnvironment> {
    let (os_name, system, platform) = match host.os {
        Os::Linux => ("posix", "Linux", "linux"),
        Os::Macos => ("posix", "Darwin", "darwin"),
        Os::Windows => ("nt", "Windows", "win32"),
    };
    python::marker_environment(|name| match name {
        "implementation_name" => "cpython",
        "platform_python_implementation" => "CPython",
        "implementation_version" | "python_full_version" => "3.12.0",
        "python_version" => "3.12",
        "os_name" => os_name,
        "platform_system" => system,
        "sys_platform" => platform,
        "platform_machine" => host.arch.qemu_name(),
        _ => "",
    })
}

impl Environment {
    /// The folders with packages, each once.
    pub fn sites(&self) -> Vec<PathBuf> {
        let mut sites = vec![self.purelib.clone()];
        if !is_same(&self.purelib, &self.platlib) {
            sites.push(self.platlib.clone());
        }
        sites
    }

    /// The distribution of that name, if it is installed.
    pub fn installed(&self, distribution: &str) -> Option<Installed> {
        self.sites().iter().find_map(|site| find(site, distribution))
    }

    /// The folders below which an installation may have files.
    pub fn roots(&self) -> Vec<&Path> {
        vec![&self.purelib, &self.platlib, &self.scripts, &self.data]
    }
}

/// The distribution of that name in a folder.
pub fn find(site: &Path, distribution: &str) -> Option<Installed> {
    installed_in(site).into_iter().find(|installed| installed.distribution == distribution)
}

/// Every distribution in a folder, sorted by name.
pub fn installed_in(site: &Path) -> Vec<Installed> {
    let mut list = Vec::new();
    for entry in fs_err::read_dir(site).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(stem) = name.strip_suffix(".dist-info") else { continue };
        let Some((distribution, version)) = stem.rsplit_once('-') else { continue };
        let Ok(distribution) = wheel_retag::normalize_distribution(distribution) else { continue };
        let Ok(version) = version.parse() else { continue };
        // An interrupted removal of other tools leaves a folder without this file.
        if entry.path().join("METADATA").is_file() {
            let (site, info) = (site.to_owned(), entry.path());
            list.push(Installed { distribution, version, site, info });
        }
    }
    list.sort_by(|a, b| (&a.distribution, &a.version).cmp(&(&b.distribution, &b.version)));
    list
}

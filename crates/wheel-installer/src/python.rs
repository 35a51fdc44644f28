//! Asks an interpreter what it is and where its packages go.
//!
//! Owns the one script that runs in somebody's Python; it only reads. Must not know wheels.

use crate::Error;
use crate::tags::{Platform, PythonTag};
use host_platform::{Arch, Host, LibC, Os};
use pep508_rs::{MarkerEnvironment, MarkerEnvironmentBuilder};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Prints one JSON object. Runs in every Python 3.8 and later; `-I` keeps the caller's folders and
/// variables out.
const QUESTION: &str = r#"
import json, os, platform, sys, sysconfig
info = sys.implementation.version
full = "{0.major}.{0.minor}.{0.micro}".format(info)
if info.releaselevel != "final":
    full += info.releaselevel[0] + str(info.serial)
try:
    glibc = os.confstr("CS_GNU_LIBC_VERSION")
except (AttributeError, OSError, ValueError):
    glibc = None
try:
    user = sysconfig.get_paths(sysconfig.get_preferred_scheme("user"))
except (AttributeError, KeyError):
    user = None
marker = os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")
print(json.dumps({
    "markers": {
        "implementation_name": sys.implementation.name,
        "implementation_version": full,
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    },
    "executable": sys.executable,
    "prefix": sys.prefix,
    "is_virtual": sys.prefix != sys.base_prefix,
    "is_externally_managed": os.path.isfile(marker),
    "is_free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "minor": sys.version_info[1],
    "platform": sysconfig.get_platform(),
    "machine": platform.machine(),
    "macos": platform.mac_ver()[0],
    "glibc": glibc,
    "paths": sysconfig.get_paths(),
    "user_paths": user,
}))
"#;

/// What an interpreter says of itself.
#[derive(Clone, Debug, Deserialize)]
pub struct Interpreter {
    markers: BTreeMap<String, String>,
    /// Its own path.
    pub executable: PathBuf,
    /// The environment's folder.
    pub prefix: PathBuf,
    /// Whether it is one of a virtual environment.
    pub is_virtual: bool,
    /// Whether the distribution forbids others to install here (PEP 668).
    pub is_externally_managed: bool,
    is_free_threaded: bool,
    minor: u32,
    platform: String,
    machine: String,
    macos: String,
    glibc: Option<String>,
    /// Where things of an installation go, by sysconfig's names.
    pub paths: BTreeMap<String, PathBuf>,
    /// The same for the user's own installations.
    pub user_paths: Option<BTreeMap<String, PathBuf>>,
}

/// Asks an interpreter, or the one of the environment in a folder.
pub fn ask(python: &Path) -> Result<Interpreter, Error> {
    let program = if python.is_dir() {
        in_folder(python).ok_or_else(|| Error::NoPython { folder: python.to_owned() })?
    } else {
        python.to_owned()
    };
    let failed = |reason: String| Error::Interpreter { python: program.clone(), reason };
    // A word alone is looked up in PATH, where a path never is.
    let word = program.to_str().filter(|word| !word.contains(['/', '\\']) && !program.is_file());
    let question = match word {
        Some(word) => duct::cmd!(word, "-I", "-c", QUESTION),
        None => duct::cmd!(&program, "-I", "-c", QUESTION),
    };
    let text = question.stderr_capture().read().map_err(|error| failed(error.to_string()))?;
    let said: Interpreter =
        serde_json::from_str(&text).map_err(|error| failed(error.to_string()))?;
    if !said.markers.get("python_version").is_some_and(|version| version.starts_with("3.")) {
        return Err(failed("it is no Python 3".to_owned()));
    }
    Ok(said)
}

/// The interpreter of an environment's folder.
pub fn in_folder(folder: &Path) -> Option<PathBuf> {
    ["bin/python3", "bin/python", "Scripts/python.exe", "python.exe"]
        .iter()
        .map(|name| folder.join(name))
        .find(|path| path.is_file())
}

/// The interpreter of the active environment, else the one that a shell finds: a path, or a word that is looked for
/// in `PATH`.
pub fn active() -> OsString {
    let active = std::env::var_os("VIRTUAL_ENV").filter(|folder| !folder.is_empty());
    let active = active.and_then(|folder| in_folder(Path::new(&folder)));
    let word = if cfg!(windows) { "python" } else { "python3" };
    active.map_or_else(|| word.into(), PathBuf::into_os_string)
}

impl Interpreter {
    /// The interpreter's tag.
    pub fn tag(&self) -> PythonTag {
        let is_cpython = self.markers.get("implementation_name").is_some_and(|it| it == "cpython");
        PythonTag { minor: self.minor, is_cpython, is_free_threaded: self.is_free_threaded }
    }

    /// The platform that the interpreter is made for, which emulation can make differ from the
    /// hardware.
    pub fn platform(&self, host: &Host) -> Platform {
        let libc = self.glibc.as_deref().and_then(glibc).unwrap_or_else(|| match host.os {
            Os::Linux => host_platform::libc_of_host(),
            Os::Macos | Os::Windows => LibC::Unknown,
        });
        // On macOS one interpreter has both halves, so the process is asked; on Windows the
        // process tells the hardware, so the build is asked.
        let words = if host.os == Os::Macos { &self.machine } else { &self.platform };
        let arch = words.rsplit('-').next().and_then(|word| word.parse::<Arch>().ok());
        let macos = macos_version(&self.macos);
        Platform { os: host.os, arch: arch.unwrap_or(host.process_arch), libc, macos }
    }

    /// The version, for Requires-Python.
    pub fn version(&self) -> Option<pep440_rs::Version> {
        self.markers.get("python_full_version")?.parse().ok()
    }

    /// What the markers of requirements (PEP 508) are about.
    pub fn marker_environment(&self) -> Option<MarkerEnvironment> {
        marker_environment(|name| self.markers.get(name).map_or("", String::as_str))
    }
}

/// Reads `14.2.1`.
pub fn macos_version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// Builds the environment of markers from its eleven values.
pub fn marker_environment<'a>(value: impl Fn(&str) -> &'a str) -> Option<MarkerEnvironment> {
    MarkerEnvironment::try_from(MarkerEnvironmentBuilder {
        implementation_name: value("implementation_name"),
        implementation_version: value("implementation_version"),
        os_name: value("os_name"),
        platform_machine: value("platform_machine"),
        platform_python_implementation: value("platform_python_implementation"),
        platform_release: value("platform_release"),
        platform_system: value("platform_system"),
        platform_version: value("platform_version"),
        python_full_version: value("python_full_version"),
        python_version: value("python_version"),
        sys_platform: value("sys_platform"),
    })
    .ok()
}

/// Reads `glibc 2.36`.
fn glibc(text: &str) -> Option<LibC> {
    let (major, minor) = text.strip_prefix("glibc ")?.trim().split_once('.')?;
    let minor = minor.split('.').next()?;
    Some(LibC::Glibc { major: major.parse().ok()?, minor: minor.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(platform: &str, machine: &str, glibc: Option<&str>) -> Interpreter {
        Interpreter {
            markers: BTreeMap::new(),
            executable: PathBuf::new(),
            prefix: PathBuf::new(),
            is_virtual: true,
            is_externally_managed: false,
            is_free_threaded: false,
            minor: 12,
            platform: platform.to_owned(),
            machine: machine.to_owned(),
            macos: "14.2.1".to_owned(),
            glibc: glibc.map(str::to_owned),
            paths: BTreeMap::new(),
            user_paths: None,
        }
    }

    #[test]
    fn the_interpreters_own_platform() {
        use Arch::{Amd64, Arm64};
        for (os, platform, machine, expect) in [
            (Os::Linux, "linux-x86_64", "x86_64", Amd64),
            (Os::Linux, "linux-aarch64", "aarch64", Arm64),
            (Os::Macos, "macosx-11.0-universal2", "arm64", Arm64),
            (Os::Macos, "macosx-11.0-universal2", "x86_64", Amd64),
            // Windows on Arm tells an emulated Python's `platform.machine` the hardware.
            (Os::Windows, "win-amd64", "ARM64", Amd64),
            (Os::Windows, "win-arm64", "ARM64", Arm64),
        ] {
            let host = Host { os, arch: Arm64, process_arch: Arm64 };
            let own = said(platform, machine, Some("glibc 2.31")).platform(&host);
            assert_eq!(own.arch, expect, "{platform}");
            assert_eq!(own.libc, LibC::Glibc { major: 2, minor: 31 });
            assert_eq!(own.macos, (14, 2));
        }
        assert_eq!(glibc("musl 1.2"), None);
    }

    #[test]
    fn a_real_interpreter_answers() {
        let said = ask(Path::new("python3")).unwrap();
        assert!(said.paths["purelib"].is_absolute());
        assert!(said.version().unwrap() > "3.7".parse().unwrap());
        assert!(said.marker_environment().is_some());
        ask(Path::new("/nonexistent/python")).unwrap_err();
        ask(Path::new("true")).unwrap_err();
    }
}

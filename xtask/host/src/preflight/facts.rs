//! What the host has, asked for side by side and with short limits of time. Only what a task needs is
//! asked for, so that a run that has everything waits for nothing. What follows from it is `plan`'s.

use super::{
    archives,
    disk::{self, Place},
};
use crate::{
    needs::{Needs, Registry},
    setup,
};
use duct::{Expression, cmd};
use image_builder::rootfs::{self, InstallMode};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};
use xtask_base::context::Context;

/// All probes together take no longer.
const LIMIT: Duration = Duration::from_secs(8);

/// What the host has. What was not asked for has the value of a host that lacks nothing.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Nothing may be fetched.
    pub offline: bool,
    /// The packages that are installed; none where there is no dpkg.
    pub installed: Option<BTreeSet<String>>,
    /// Who may install packages.
    pub privilege: Privilege,
    /// python3, or why there is none.
    pub python: Result<Python, String>,
    /// Whether a C program can be compiled and linked, static too.
    pub linker: Result<(), String>,
    /// How root file systems are made, or why they cannot be.
    pub install_mode: Result<Option<InstallMode>, Problem>,
    /// What the registries answered.
    pub registries: BTreeMap<Registry, Result<(), String>>,
    /// Where things are written.
    pub places: Vec<Place>,
    /// Memory that is free for programs, in MiB.
    pub memory: Option<u64>,
    pub n_processors: usize,
}

/// Something that stands in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub what: String,
    /// What to do.
    pub hint: String,
}

/// Who may install packages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// The caller is root.
    Root,
    /// sudo asks for nothing.
    Sudo,
    /// sudo asks for a password, and there is a terminal for it.
    SudoAsks,
    /// Nobody; why.
    None(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Python {
    /// Such as (3, 11).
    pub version: (u32, u32),
    /// Whether `python3 -m venv` can work.
    pub has_venv: bool,
    /// Whether it is the distribution's.
    pub is_of_distribution: bool,
}

/// Asks the host.
pub fn gather(context: &Context, needs: &Needs) -> Facts {
    let until = Instant::now() + LIMIT;
    let (installed, python) = std::thread::scope(|scope| {
        let python = scope.spawn(|| needs.python.then(|| python(until)));
        let installed = setup::installed().ok();
        (installed, joined(python))
    });
    let python =
        python.unwrap_or(Ok(Python { version: (3, 11), has_venv: true, is_of_distribution: true }));
    let has_venv = python.as_ref().is_ok_and(|python| python.has_venv);
    let lacks_packages = !has_venv
        || installed
            .as_ref()
            .is_some_and(|there| needs.packages.iter().any(|it| !there.contains(it)));
    let mut registries = needs.registries();
    if lacks_packages {
        registries.insert(Registry::Host);
    }
    if needs.compiles {
        registries.insert(Registry::Crates);
    }
    if context.offline {
        // What is there already is no matter of a network.
        registries.retain(|registry| *registry == Registry::Crates);
    }
    std::thread::scope(|scope| {
        let answers: Vec<_> = registries
            .into_iter()
            .map(|registry| {
                let asked = registry.clone();
                (registry, scope.spawn(move || archives::ask(context, &asked, needs, until)))
            })
            .collect();
        let mode = scope
            .spawn(|| needs.root_file_system.map(|asked| rootfs::install_mode(asked.ownership)));
        let linker = scope.spawn(|| if needs.builds.is_empty() { Ok(()) } else { linker(until) });
        let privilege = if lacks_packages { privilege(until) } else { Privilege::Root };
        Facts {
            offline: context.offline,
            installed,
            privilege,
            python,
            linker: joined(linker),
            install_mode: match joined(mode) {
                None => Ok(None),
                Some(Ok((mode, _))) => Ok(Some(mode)),
                Some(Err(error)) => {
                    Err(Problem { what: error.to_string(), hint: error.hint().unwrap_or_default() })
                }
            },
            registries: answers.into_iter().map(|(name, answer)| (name, joined(answer))).collect(),
            places: disk::places(context, needs.room()),
            memory: memory(),
            n_processors: std::thread::available_parallelism().map_or(1, usize::from),
        }
    })
}

fn joined<T>(handle: std::thread::ScopedJoinHandle<T>) -> T {
    handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs a probe: what it printed, else why it failed. `None` when it had no end at that time.
pub fn read(command: &Expression, until: Instant) -> Option<Result<String, String>> {
    let handle = match command
        .env("LC_ALL", "C.UTF-8")
        // Names are asked for once and not for long (resolv.conf(5)).
        .env("RES_OPTIONS", "timeout:2 attempts:1")
        .stdin_null()
        .stdout_capture()
        .stderr_capture()
        .unchecked()
        .start()
    {
        Ok(handle) => handle,
        Err(error) => return Some(Err(error.to_string())),
    };
    match handle.wait_deadline(until) {
        Ok(Some(output)) if output.status.success() => {
            Some(Ok(String::from_utf8_lossy(&output.stdout).into_owned()))
        }
        Ok(Some(output)) => Some(Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        Ok(None) => {
            let _ = handle.kill();
            None
        }
        Err(error) => Some(Err(error.to_string())),
    }
}

/// What python3 is, by what it can do: packages' names differ, and not every python3 is a package's.
fn python(until: Instant) -> Result<Python, String> {
    const SCRIPT: &str = "import sys\n\
        try:\n import ensurepip, venv; v = 1\n\
        except ImportError: v = 0\n\
        print(sys.version_info[0], sys.version_info[1], v, int(sys.base_prefix == '/usr'))";
    // A host that is too busy to answer is not one that lacks something.
    let text = read(&cmd!("python3", "-c", SCRIPT), until).unwrap_or(Ok("3 11 1 1".to_owned()))?;
    let words: Vec<u32> = text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [major, minor, has_venv, is_of_distribution] = words[..] else {
        return Err(format!("it answered `{}`", text.trim()));
    };
    Ok(Python {
        version: (major, minor),
        has_venv: has_venv == 1,
        is_of_distribution: is_of_distribution == 1,
    })
}

/// Links a program, as a normal one and as a static one, which the guest agent is.
fn linker(until: Instant) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let source = folder.path().join("probe.c");
    fs_err::write(&source, "#include <stdio.h>\nint main(void) { return puts(\"\") < 0; }\n")
        .map_err(|error| error.to_string())?;
    let program = folder.path().join("probe");
    for option in ["-pie", "-static"] {
        let command = cmd!("cc", option, "-o", &program, &source);
        read(&command, until)
            .unwrap_or(Ok(String::new()))
            .map_err(|said| format!("cc {option}: {}", said.lines().last().unwrap_or_default()))?;
    }
    Ok(())
}

fn privilege(until: Instant) -> Privilege {
    if cmd!("id", "-u").read().is_ok_and(|id| id.trim() == "0") {
        return Privilege::Root;
    }
    match read(&cmd!("sudo", "-n", "true"), until) {
        Some(Ok(_)) | None => Privilege::Sudo,
        Some(Err(said)) if !said.starts_with("sudo:") => {
            Privilege::None("this user is not root, and there is no sudo".to_owned())
        }
        Some(Err(_)) if fs_err::File::open("/dev/tty").is_ok() => Privilege::SudoAsks,
        Some(Err(said)) => {
            let said = said.lines().last().unwrap_or_default().to_owned();
            Privilege::None(format!("{said}, and there is no terminal to ask on"))
        }
    }
}

/// Memory that programs can get: what is free, and no more than the control group allows.
fn memory() -> Option<u64> {
    let text = fs_err::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let free = line.trim().trim_end_matches(" kB").parse::<u64>().ok()? >> 10;
    let limit = fs_err::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let limit = limit.and_then(|text| text.trim().parse::<u64>().ok()).map(|bytes| bytes >> 20);
    Some(limit.map_or(free, |limit| free.min(limit)))
}
